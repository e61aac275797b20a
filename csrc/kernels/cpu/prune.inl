// The SIMD version of stochastic pruning, for whole chunks: the bits of the scalar version in
// prune.cpp. Included by avx2.cpp and avx512.cpp, whose Vector has the bit operations that it
// needs.

// Philox4x32-10 of one counter in each 64-bit lane. word[j] holds the word j of every counter in
// the lower half of its lane. The upper halves hold remains of products, which multiply() ignores.
struct Philox {
  Vector::Bits word[4];

  // Runs the first of ten rounds. Words 2 and 3 of a counter are 0, and so is their product.
  INLINE Philox(Vector::Bits counter, Vector::Bits key0, Vector::Bits key1) {
    word[3] = Vector::multiply(counter, 0xD2511F53);
    word[2] = Vector::xor2(Vector::high(word[3]), key1);
    word[1] = Vector::bits(0);
    word[0] = Vector::xor2(Vector::high(counter), key0);
  }
  INLINE void round(Vector::Bits key0, Vector::Bits key1) {
    const Vector::Bits product0 = Vector::multiply(word[0], 0xD2511F53);
    const Vector::Bits product1 = Vector::multiply(word[2], 0xCD9E8D57);
    word[0] = Vector::xor3(Vector::high(product1), word[1], key0);
    word[1] = product1;
    word[2] = Vector::xor3(Vector::high(product0), word[3], key1);
    word[3] = product0;
  }
};

// Computes the random words of counters [counter, counter + kWidth) in element order: lane l of
// word[v] belongs to element v * kWidth + l. Counters are assigned to lanes so that the unpack
// instructions of transpose_words(), which stay inside 128-bit lanes, end in element order.
static INLINE void random_words(uint64_t counter, uint64_t key, Vector::Bits (&word)[4]) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  Philox even(Vector::add_wide(Vector::even_lanes(), counter), Vector::bits(key0),
              Vector::bits(key1));
  Philox odd(Vector::add_wide(Vector::odd_lanes(), counter), Vector::bits(key0),
             Vector::bits(key1));
  for (int i = 1; i < 10; ++i) {
    key0 += 0x9E3779B9;  // the key schedule of common/philox.h
    key1 += 0xBB67AE85;
    const Vector::Bits k0 = Vector::bits(key0), k1 = Vector::bits(key1);
    even.round(k0, k1);
    odd.round(k0, k1);
  }
  unroll<4>([&](auto j) INLINE_LAMBDA { word[j] = Vector::merge(even.word[j], odd.word[j]); });
  Vector::transpose_words(word);
}

// Prunes one chunk of kChunk elements, or only measures it (kWrite false; out is not used). Each
// iteration takes four vectors, for which it adds |g| to as many vectors of lane sums.
template <bool kWrite, class T>
static void prune_chunk(const T* grad, T* out, T threshold, uint64_t key, uint64_t counter,
                        float (&lane)[kChunkLanes], PruneStats& stats) {
  constexpr int kStride = 4 * Vector::kWidth;
  const float bound_value = Storage<T>::load(threshold), step_value = bound_value * 0x1p-24f;
  const Reg t = Vector::broadcast(&bound_value), step = Vector::broadcast(&step_value);
  for (int64_t i = 0; i < kChunk; i += kStride, counter += Vector::kWidth) {
    Vector::Bits word[4];
    if constexpr (kWrite) random_words(counter, key, word);
    unroll<4>([&](auto v) INLINE_LAMBDA {
      const int64_t at = i + v * Vector::kWidth;
      const Reg g = load_whole(grad + at), magnitude = Vector::abs(g);
      float* sum = lane + at % kChunkLanes;
      Vector::store(sum, Vector::add(Vector::load(sum), magnitude));
      stats.nonzeros_before += Vector::count(Vector::nonzero(g));
      if constexpr (kWrite) {
        const Reg bound = Vector::multiply(Vector::low24(word[v]), step);
        const auto keep = Vector::not_at_most(magnitude, bound);
        stats.nonzeros += Vector::count(keep);
        const auto below = Vector::less(magnitude, t);
        Vector::store_pruned(out + at, grad + at, g, threshold, keep, below);
      }
    });
  }
}

// The function of PruneTable: see PruneChunks.
template <class T>
static void prune_chunks_of(const T* grad, T* out, int64_t first, int64_t last, T threshold,
                            uint64_t key, uint64_t offset, FinishChunk finish, PruneStats* stats) {
  for (int64_t chunk = first; chunk < last; ++chunk) {
    const int64_t begin = chunk * kChunk;
    const uint64_t counter = offset + static_cast<uint64_t>(begin) / 4;
    float lane[kChunkLanes] = {};
    PruneStats counts;
    if (out) {
      prune_chunk<true>(grad + begin, out + begin, threshold, key, counter, lane, counts);
    } else {
      prune_chunk<false>(grad + begin, out, threshold, key, counter, lane, counts);
    }
    counts.abs_sum = finish(lane);
    stats[chunk] = counts;
  }
}
