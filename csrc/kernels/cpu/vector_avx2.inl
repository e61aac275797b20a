// The vector type of AVX2 with FMA and F16C: 8 floats. Included by avx2.cpp, inside a target region
// and a namespace of its own, so that none of its instructions can leak into other code.
// vector_scalar.inl documents the members that all vector types have.

// lanes[mask]: the indices of the set bits of mask in ascending order, one byte each, then zeros.
struct CompressTable {
  uint64_t lanes[256] = {};
  constexpr CompressTable() {
    for (int mask = 0; mask < 256; ++mask) {
      int count = 0;
      for (int lane = 0; lane < 8; ++lane) {
        if (mask >> lane & 1) lanes[mask] |= static_cast<uint64_t>(lane) << (8 * count++);
      }
    }
  }
};
static constexpr CompressTable kCompress;

// Eight words of ones, then eight of zeros: the eight words from 8 - n on mask the first n lanes.
alignas(64) static constexpr int32_t kFirst[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

struct Vector {
  using Scalar = float;
  using Reg = __m256;
  using Offsets = __m256i;
  static constexpr int kWidth = 8;
  static constexpr int kRegisters = 16;

  static INLINE Reg zero() { return _mm256_setzero_ps(); }
  static INLINE Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static INLINE Reg broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static INLINE void store(float* p, Reg v) { _mm256_storeu_ps(p, v); }
  // Stores past the caches. p is aligned to the bytes of a vector. stream_end() orders such stores.
  static INLINE void stream(float* p, Reg v) { _mm256_stream_ps(p, v); }
  static INLINE void stream_end() { _mm_sfence(); }
  // Returns acc + a * b.
  static INLINE Reg fma(Reg a, Reg b, Reg acc) { return _mm256_fmadd_ps(a, b, acc); }

  // Only the first n lanes are read or written, for n in [0, 8]. first(n) is their mask.
  static INLINE __m256i first(int n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kFirst + 8 - n));
  }
  static INLINE Reg load_first(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
  static INLINE void store_first(float* p, Reg v, int n) { _mm256_maskstore_ps(p, first(n), v); }
  // AVX2 has no masked access to 16-bit elements: partial vectors go through a buffer.
  template <class Half16>
  static INLINE __m128i load_halves(const Half16* p, int n) {
    if (n == 8) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    alignas(16) uint16_t buffer[8] = {};
    for (int i = 0; i < n; ++i) buffer[i] = p[i].bits;
    return _mm_load_si128(reinterpret_cast<const __m128i*>(buffer));
  }
  template <class Half16>
  static INLINE void store_halves(Half16* p, __m128i v, int n) {
    if (n == 8) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
    alignas(16) uint16_t buffer[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(buffer), v);
    for (int i = 0; i < n; ++i) p[i].bits = buffer[i];
  }
  static INLINE Reg load_first(const BFloat16* p, int n) {
    const __m256i bits = _mm256_cvtepu16_epi32(load_halves(p, n));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  }
  static INLINE Reg load_first(const Half* p, int n) { return _mm256_cvtph_ps(load_halves(p, n)); }
  static INLINE void store_first(BFloat16* p, Reg v, int n) {
    // Rounds to nearest, ties to even: adds 0x7fff, and 1 more if the last kept bit is 1. NaN
    // becomes the quiet NaN 0x7fc0, because the addition could carry it into infinity.
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i kept = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
    const __m256i packed = _mm256_packus_epi32(kept, kept);
    store_halves(p, _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)), n);
  }
  static INLINE void store_first(Half* p, Reg v, int n) {
    store_halves(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n);
  }

  static INLINE Offsets load_offsets(const uint32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  // Returns first, first + step, first + 2 * step, ...
  static INLINE Offsets ramp(uint32_t first, uint32_t step) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i scaled = _mm256_mullo_epi32(lane, _mm256_set1_epi32(static_cast<int>(step)));
    return _mm256_add_epi32(scaled, _mm256_set1_epi32(static_cast<int>(first)));
  }
  // Writes kWidth entries, whatever the number of nonzeros.
  static INLINE int append(Reg v, Offsets offsets, float* values, uint32_t* out) {
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, zero(), _CMP_NEQ_UQ));
    const __m128i bytes = _mm_cvtsi64_si128(static_cast<int64_t>(kCompress.lanes[mask]));
    const __m256i lanes = _mm256_cvtepu8_epi32(bytes);
    _mm256_storeu_ps(values, _mm256_permutevar8x32_ps(v, lanes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                        _mm256_permutevar8x32_epi32(offsets, lanes));
    return __builtin_popcount(static_cast<unsigned>(mask));
  }

  // Transposes pairs, then quadruples, then 128-bit lanes: 24 shuffles.
  static INLINE void transpose(Reg (&m)[8]) {
    __m256 t[8];
    unroll<4>([&](auto i) INLINE_LAMBDA {
      t[2 * i] = _mm256_unpacklo_ps(m[2 * i], m[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_ps(m[2 * i], m[2 * i + 1]);
    });
    unroll<2>([&](auto i) INLINE_LAMBDA {
      m[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
      m[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
      m[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
      m[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    });
    unroll<4>([&](auto i) INLINE_LAMBDA {
      t[i] = _mm256_permute2f128_ps(m[i], m[4 + i], 0x20);
      t[4 + i] = _mm256_permute2f128_ps(m[i], m[4 + i], 0x31);
    });
    unroll<8>([&](auto i) INLINE_LAMBDA { m[i] = t[i]; });
  }

  // Operations that only pruning (prune.inl) uses.
  using Bits = __m256i;
  using Mask = __m256;
  static INLINE Bits bits(uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }
  static INLINE Bits xor3(Bits a, Bits b, Bits c) {
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
  }
  static INLINE Bits xor2(Bits a, Bits b) { return _mm256_xor_si256(a, b); }
  // In 64-bit lanes: multiply() returns the product of the lower half with b, high() moves the
  // upper half down.
  static INLINE Bits multiply(Bits a, uint32_t b) {
    return _mm256_mul_epu32(a, _mm256_set1_epi64x(b));
  }
  static INLINE Bits high(Bits a) { return _mm256_srli_epi64(a, 32); }
  static INLINE Bits add_wide(Bits a, uint64_t b) {
    return _mm256_add_epi64(a, _mm256_set1_epi64x(static_cast<int64_t>(b)));
  }
  // Initial counters of the even and odd 32-bit lanes: lane 4 * i + j holds counter 2 * j + i.
  // transpose_words() restores element order.
  static INLINE Bits even_lanes() { return _mm256_setr_epi64x(0, 4, 1, 5); }
  static INLINE Bits odd_lanes() { return _mm256_setr_epi64x(2, 6, 3, 7); }
  static INLINE Bits merge(Bits even, Bits odd) {
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
  }
  // Transposes the 4 x 4 words inside each 128-bit lane of w[0..4).
  static INLINE void transpose_words(Bits (&w)[4]) {
    const __m256i a = _mm256_unpacklo_epi32(w[0], w[1]), b = _mm256_unpackhi_epi32(w[0], w[1]);
    const __m256i c = _mm256_unpacklo_epi32(w[2], w[3]), d = _mm256_unpackhi_epi32(w[2], w[3]);
    w[0] = _mm256_unpacklo_epi64(a, c), w[1] = _mm256_unpackhi_epi64(a, c);
    w[2] = _mm256_unpacklo_epi64(b, d), w[3] = _mm256_unpackhi_epi64(b, d);
  }
  // The lower 24 bits of each word as a float, exactly.
  static INLINE Reg low24(Bits a) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(a, bits(0xffffff)));
  }
  static INLINE Reg sign_bit() { return _mm256_castsi256_ps(bits(0x80000000)); }
  static INLINE Reg abs(Reg a) { return _mm256_andnot_ps(sign_bit(), a); }
  static INLINE Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static INLINE Reg multiply(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static INLINE Reg copy_sign(Reg magnitude, Reg sign) {
    return _mm256_or_ps(abs(magnitude), _mm256_and_ps(sign_bit(), sign));
  }
  static INLINE Mask nonzero(Reg a) { return _mm256_cmp_ps(a, zero(), _CMP_NEQ_UQ); }
  static INLINE Mask less(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  static INLINE Mask not_at_most(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_NLE_UQ); }
  static INLINE int count(Mask m) {
    return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(m)));
  }
  // Stores the pruned elements of grad[0..8), which g holds as floats: 0 where not `keep`,
  // +-threshold where `below`, and the bits of grad elsewhere.
  static INLINE void store_pruned(float* out, const float*, Reg g, float threshold, Mask keep,
                                  Mask below) {
    const Reg value = _mm256_blendv_ps(g, copy_sign(_mm256_set1_ps(threshold), g), below);
    _mm256_storeu_ps(out, _mm256_and_ps(keep, value));
  }
  template <class Half16>
  static INLINE void store_pruned(Half16* out, const Half16* grad, Reg, Half16 threshold, Mask keep,
                                  Mask below) {
    const __m128i g = _mm_loadu_si128(reinterpret_cast<const __m128i*>(grad));
    const __m128i t = _mm_set1_epi16(static_cast<int16_t>(threshold.bits));
    const __m128i sign = _mm_set1_epi16(static_cast<int16_t>(0x8000));
    const __m128i signed_t = _mm_or_si128(_mm_andnot_si128(sign, t), _mm_and_si128(sign, g));
    const __m128i value = _mm_blendv_epi8(g, signed_t, narrow(below));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_and_si128(narrow(keep), value));
  }
  // A 32-bit mask as 16-bit lanes.
  static INLINE __m128i narrow(Mask m) {
    const __m256i wide = _mm256_castps_si256(m);
    return _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  }
};
