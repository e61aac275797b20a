// Stochastic pruning of whole chunks of float, bit for bit as prune.cpp's plain version: the same
// random words, the same order of the sum. Included only where Vector has the operations of an ISA.

// Ten rounds of Philox4x32 on kWidth counters at a time; word[j] lane l becomes word j of lane l.
static INLINE void philox(Vector::Bits (&word)[4], uint64_t key) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    Vector::Bits low0, low1;
    const Vector::Bits high0 = Vector::multiply(word[0], 0xD2511F53, &low0);
    const Vector::Bits high1 = Vector::multiply(word[2], 0xCD9E8D57, &low1);
    word[0] = Vector::xor3(high1, word[1], Vector::bits(key0));
    word[1] = low1;
    word[2] = Vector::xor3(high0, word[3], Vector::bits(key1));
    word[3] = low0;
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

// The words of counters [counter, counter + kWidth), in element order: uniform[v] lane l belongs to
// element v * kWidth + l. Lane l starts with counter `order(l)`, chosen so that the two unpack
// steps, which stay inside 128-bit lanes, leave neighbours side by side. The lower half of the
// counter must not wrap within kWidth steps.
static INLINE void random_words(uint64_t counter, uint64_t key, Vector::Bits (&word)[4]) {
  word[0] = Vector::add(Vector::interleaved(), static_cast<uint32_t>(counter));
  word[1] = Vector::bits(static_cast<uint32_t>(counter >> 32));
  word[2] = word[3] = Vector::bits(0);
  philox(word, key);
  Vector::transpose_words(word);
}

// One chunk of kChunk elements. out: nullptr when only measuring.
template <bool kWrite>
static void prune_chunk(const float* grad, float* out, float threshold, uint64_t key,
                        uint64_t counter, float (&lane)[kChunkLanes], PruneStats& stats) {
  const Reg t = Vector::broadcast(&threshold);
  const float step_value = threshold * 0x1p-24f;
  const Reg step = Vector::broadcast(&step_value);
  for (int64_t i = 0; i < kChunk; i += 4 * Vector::kWidth, counter += Vector::kWidth) {
    Vector::Bits word[4];
    if constexpr (kWrite) random_words(counter, key, word);
    unroll<4>([&](auto v) INLINE_LAMBDA {
      const int64_t at = i + v * Vector::kWidth;
      const Reg g = Vector::load(grad + at), magnitude = Vector::abs(g);
      float* sum = lane + at % kChunkLanes;
      Vector::store(sum, Vector::add(Vector::load(sum), magnitude));
      stats.nonzeros_before += Vector::count(Vector::nonzero(g));
      if constexpr (kWrite) {
        const Reg bound = Vector::multiply(Vector::low24(word[v]), step);
        const auto keep = Vector::not_at_most(magnitude, bound);
        stats.nonzeros += Vector::count(keep);
        const Reg value = Vector::select(Vector::less(magnitude, t), Vector::copy_sign(t, g), g);
        Vector::store(out + at, Vector::select(keep, value, Vector::zero()));
      }
    });
  }
}

// Whole chunks [first, last) of grad into out, or only measured; sums of |g| by lane in
// lanes[chunk].
static void prune_chunks_of(const float* grad, float* out, int64_t first, int64_t last,
                            float threshold, uint64_t key, uint64_t offset, FinishChunk finish,
                            PruneStats* stats) {
  for (int64_t chunk = first; chunk < last; ++chunk) {
    const int64_t begin = chunk * kChunk;
    const uint64_t counter = offset + static_cast<uint64_t>(begin) / 4;
    float lane[kChunkLanes] = {};
    PruneStats counts;
    if (out) {
      prune_chunk<true>(grad + begin, out + begin, threshold, key, counter, lane, counts);
    } else {
      prune_chunk<false>(grad + begin, nullptr, threshold, key, counter, lane, counts);
    }
    counts.abs_sum = finish(lane);
    stats[chunk] = counts;
  }
}
