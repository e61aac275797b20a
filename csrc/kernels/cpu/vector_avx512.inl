// The vector type of AVX-512 (F, DQ, BW, VL): 16 floats. Included by avx512.cpp, inside a target
// region and a namespace of its own, so that none of its instructions can leak into other code.
// vector_scalar.inl documents the members that all vector types have.

struct Vector {
  using Scalar = float;
  using Reg = __m512;
  using Offsets = __m512i;
  static constexpr int kWidth = 16;
  static constexpr int kRegisters = 32;

  static INLINE Reg zero() { return _mm512_setzero_ps(); }
  static INLINE Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static INLINE Reg broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static INLINE void store(float* p, Reg v) { _mm512_storeu_ps(p, v); }
  // Stores past the caches. p is aligned to the bytes of a vector. stream_end() orders such stores.
  static INLINE void stream(float* p, Reg v) { _mm512_stream_ps(p, v); }
  static INLINE void stream_end() { _mm_sfence(); }
  // Returns acc + a * b.
  static INLINE Reg fma(Reg a, Reg b, Reg acc) { return _mm512_fmadd_ps(a, b, acc); }

  // Only the first n lanes are read or written, for n in [0, 16]. first(n) is their mask.
  static INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static INLINE Reg load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static INLINE void store_first(float* p, Reg v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }
  static INLINE Reg load_first(const BFloat16* p, int n) {
    const __m256i bits = _mm256_maskz_loadu_epi16(first(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static INLINE Reg load_first(const Half* p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p));
  }
  static INLINE void store_first(BFloat16* p, Reg v, int n) {
    // Rounds to nearest, ties to even: adds 0x7fff, and 1 more if the last kept bit is 1. NaN
    // becomes the quiet NaN 0x7fc0, because the addition could carry it into infinity.
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    rounded = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0));
    _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(rounded));
  }
  static INLINE void store_first(Half* p, Reg v, int n) {
    const __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(p, first(n), half);
  }

  static INLINE Offsets load_offsets(const uint32_t* p) { return _mm512_loadu_si512(p); }
  // Returns first, first + step, first + 2 * step, ...
  static INLINE Offsets ramp(uint32_t first, uint32_t step) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return add(_mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(step))), first);
  }
  static INLINE Offsets add(Offsets a, uint32_t b) {
    return _mm512_add_epi32(a, _mm512_set1_epi32(static_cast<int>(b)));
  }
  // Compresses into a register and stores all of it: compress-to-memory is microcoded on Zen 4 (18
  // cycles and more, instead of 3).
  static INLINE int append(Reg v, Offsets offsets, float* values, uint32_t* out) {
    const __mmask16 mask = _mm512_cmp_ps_mask(v, zero(), _CMP_NEQ_UQ);
    _mm512_storeu_ps(values, _mm512_maskz_compress_ps(mask, v));
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(mask, offsets));
    return _mm_popcnt_u32(mask);
  }

  // Transposes pairs, then quadruples, then 128-bit lanes: 64 shuffles.
  static INLINE void transpose(Reg (&m)[16]) {
    __m512 t[16];
    unroll<8>([&](auto i) INLINE_LAMBDA {
      t[2 * i] = _mm512_unpacklo_ps(m[2 * i], m[2 * i + 1]);
      t[2 * i + 1] = _mm512_unpackhi_ps(m[2 * i], m[2 * i + 1]);
    });
    unroll<4>([&](auto i) INLINE_LAMBDA {
      m[4 * i] = pairs<0>(t[4 * i], t[4 * i + 2]);
      m[4 * i + 1] = pairs<1>(t[4 * i], t[4 * i + 2]);
      m[4 * i + 2] = pairs<0>(t[4 * i + 1], t[4 * i + 3]);
      m[4 * i + 3] = pairs<1>(t[4 * i + 1], t[4 * i + 3]);
    });
    unroll<4>([&](auto i) INLINE_LAMBDA {
      t[i] = _mm512_shuffle_f32x4(m[i], m[4 + i], 0x88);
      t[4 + i] = _mm512_shuffle_f32x4(m[i], m[4 + i], 0xdd);
      t[8 + i] = _mm512_shuffle_f32x4(m[8 + i], m[12 + i], 0x88);
      t[12 + i] = _mm512_shuffle_f32x4(m[8 + i], m[12 + i], 0xdd);
    });
    unroll<4>([&](auto i) INLINE_LAMBDA {
      m[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
      m[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
      m[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
      m[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
    });
  }

  // Operations that only pruning (prune.inl) uses.
  using Bits = __m512i;
  using Mask = __mmask16;
  static INLINE Bits bits(uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
  static INLINE Bits xor3(Bits a, Bits b, Bits c) {
    return _mm512_ternarylogic_epi32(a, b, c, 0x96);
  }
  static INLINE Bits xor2(Bits a, Bits b) { return _mm512_xor_si512(a, b); }
  // In 64-bit lanes: multiply() returns the product of the lower half with b, high() moves the
  // upper half down.
  static INLINE Bits multiply(Bits a, uint32_t b) {
    return _mm512_mul_epu32(a, _mm512_set1_epi64(b));
  }
  static INLINE Bits high(Bits a) { return _mm512_srli_epi64(a, 32); }
  static INLINE Bits add_wide(Bits a, uint64_t b) {
    return _mm512_add_epi64(a, _mm512_set1_epi64(static_cast<int64_t>(b)));
  }
  // Initial counters of the even and odd 32-bit lanes: lane 4 * i + j holds counter 4 * j + i.
  // transpose_words() restores element order.
  static INLINE Bits even_lanes() { return _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11); }
  static INLINE Bits odd_lanes() { return _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15); }
  static INLINE Bits merge(Bits even, Bits odd) {
    return _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
  }
  // Transposes the 4 x 4 words inside each 128-bit lane of w[0..4).
  static INLINE void transpose_words(Bits (&w)[4]) {
    const __m512i a = _mm512_unpacklo_epi32(w[0], w[1]), b = _mm512_unpackhi_epi32(w[0], w[1]);
    const __m512i c = _mm512_unpacklo_epi32(w[2], w[3]), d = _mm512_unpackhi_epi32(w[2], w[3]);
    w[0] = _mm512_unpacklo_epi64(a, c), w[1] = _mm512_unpackhi_epi64(a, c);
    w[2] = _mm512_unpacklo_epi64(b, d), w[3] = _mm512_unpackhi_epi64(b, d);
  }
  // The lower 24 bits of each word as a float, exactly.
  static INLINE Reg low24(Bits a) {
    return _mm512_cvtepi32_ps(_mm512_and_si512(a, bits(0xffffff)));
  }
  static INLINE Reg abs(Reg a) { return _mm512_abs_ps(a); }
  static INLINE Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static INLINE Reg multiply(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static INLINE Reg copy_sign(Reg magnitude, Reg sign) {
    const __m512i bit = bits(0x80000000);
    const __m512i a = _mm512_castps_si512(magnitude), b = _mm512_castps_si512(sign);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(bit, b, a, 0xca));
  }
  static INLINE Mask nonzero(Reg a) { return _mm512_cmp_ps_mask(a, zero(), _CMP_NEQ_UQ); }
  static INLINE Mask less(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static INLINE Mask not_at_most(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ); }
  static INLINE int count(Mask m) { return _mm_popcnt_u32(m); }
  // Stores the pruned elements of grad[0..16), which g holds as floats: 0 where not `keep`,
  // +-threshold where `below`, and the bits of grad elsewhere.
  static INLINE void store_pruned(float* out, const float*, Reg g, float threshold, Mask keep,
                                  Mask below) {
    const Reg value = _mm512_mask_mov_ps(g, below, copy_sign(_mm512_set1_ps(threshold), g));
    _mm512_storeu_ps(out, _mm512_maskz_mov_ps(keep, value));
  }
  template <class Half16>
  static INLINE void store_pruned(Half16* out, const Half16* grad, Reg, Half16 threshold, Mask keep,
                                  Mask below) {
    const __m256i g = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(grad));
    const __m256i t = _mm256_set1_epi16(static_cast<int16_t>(threshold.bits));
    const __m256i sign = _mm256_set1_epi16(static_cast<int16_t>(0x8000));
    const __m256i signed_t = _mm256_ternarylogic_epi32(sign, g, t, 0xca);
    const __m256i value = _mm256_mask_mov_epi16(g, below, signed_t);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_maskz_mov_epi16(keep, value));
  }

 private:
  // The lower (kHalf 0) or upper (1) halves of each 128-bit lane of a and b, side by side.
  template <int kHalf>
  static INLINE Reg pairs(Reg a, Reg b) {
    const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
    return _mm512_castpd_ps(kHalf ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y));
  }
};
