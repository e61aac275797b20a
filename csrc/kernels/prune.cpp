// The plain version of stochastic pruning: one loop for every storage type.
#include "prune.h"

#include <algorithm>
#include <cmath>

#include "random.h"

namespace sparsetrain {
namespace {

// Adds n values pairwise: at each level lane i takes lane i + width. n is a power of two.
template <class T, int n>
T tree_sum(T (&lane)[n]) {
  for (int width = n / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

template <class T, bool kWrite>
PruneStats prune_chunk(const T* grad, T* out, int64_t begin, int64_t end, T threshold,
                       uint64_t seed, uint64_t offset) {
  using Compute = typename Storage<T>::Compute;
  const Compute t = Storage<T>::load(threshold);
  const Compute step = t * Compute(0x1p-24);
  Compute lane[kChunkLanes] = {};
  PruneStats stats;
  for (int64_t block = begin; block < end; block += 4) {  // begin is a multiple of kChunk, so of 4
    PhiloxBlock random{};
    if constexpr (kWrite)
      random = philox4x32_10(offset + static_cast<uint64_t>(block) / 4, 0, seed);
    const int64_t block_end = std::min(block + 4, end);
    for (int64_t i = block; i < block_end; ++i) {
      const Compute g = Storage<T>::load(grad[i]);
      const Compute magnitude = std::abs(g);
      lane[(i - begin) % kChunkLanes] += magnitude;
      stats.nonzeros_before += g != 0;
      if constexpr (kWrite) {
        const auto uniform = static_cast<Compute>(random.word[i - block] & 0xffffff);
        const bool keep = !(magnitude <= uniform * step);
        stats.nonzeros += keep;
        const T value = magnitude < t ? Storage<T>::copy_sign(threshold, grad[i]) : grad[i];
        out[i] = keep ? value : T{};
      }
    }
  }
  stats.abs_sum = static_cast<double>(tree_sum(lane));
  return stats;
}

}  // namespace

template <class T>
void prune(const T* grad, T* out, int64_t elements, int64_t first, int64_t last, T threshold,
           uint64_t seed, uint64_t offset, PruneStats* stats) {
  for (int64_t chunk = first; chunk < last; ++chunk) {
    const int64_t begin = chunk * kChunk, end = std::min(begin + kChunk, elements);
    stats[chunk] = out ? prune_chunk<T, true>(grad, out, begin, end, threshold, seed, offset)
                       : prune_chunk<T, false>(grad, out, begin, end, threshold, seed, offset);
  }
}

PruneStats reduce(const PruneStats* stats, int64_t chunks) {
  double lane[kReduceLanes] = {};
  PruneStats total;
  for (int64_t i = 0; i < chunks; ++i) {
    lane[i % kReduceLanes] += stats[i].abs_sum;
    total.nonzeros_before += stats[i].nonzeros_before;
    total.nonzeros += stats[i].nonzeros;
  }
  total.abs_sum = tree_sum(lane);
  return total;
}

#define SPARSETRAIN_INSTANTIATE(T)                                                       \
  template void prune<T>(const T*, T*, int64_t, int64_t, int64_t, T, uint64_t, uint64_t, \
                         PruneStats*);
SPARSETRAIN_INSTANTIATE(float)
SPARSETRAIN_INSTANTIATE(double)
SPARSETRAIN_INSTANTIATE(BFloat16)
SPARSETRAIN_INSTANTIATE(Half)
#undef SPARSETRAIN_INSTANTIATE

}  // namespace sparsetrain
