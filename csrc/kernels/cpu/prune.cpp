// Stochastic pruning on the CPU (see prune.h): the scalar version for all storage types, and the
// choice of a SIMD version for whole chunks.
#include "prune.h"

#include <algorithm>
#include <type_traits>

#include "api.h"
#include "prune_table.h"

namespace sparsetrain {
namespace {

// Adds the lane sums pairwise in the order of prune_rule.h; destroys them. n is a power of two.
template <class T, int n>
T tree_sum(T (&lane)[n]) {
  for (int width = n / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

// Prunes elements [begin, end), one chunk; kWrite false: only measures them.
template <class T, bool kWrite>
PruneStats prune_chunk(const T* grad, T* out, int64_t begin, int64_t end, T threshold,
                       uint64_t seed, uint64_t offset) {
  using Compute = typename Storage<T>::Compute;
  const PruneRule<T> rule(threshold);
  const PhiloxKeys keys(seed);
  Compute lane[kChunkLanes] = {};
  PruneStats stats;
  // Four elements share a Philox block. begin is a multiple of kChunk, hence of 4.
  for (int64_t block = begin; block < end; block += 4) {
    const PhiloxBlock random = kWrite ? words_of(block, keys, offset) : PhiloxBlock{};
    const int64_t block_end = std::min(block + 4, end);
    for (int64_t i = block; i < block_end; ++i) {
      const Compute g = Storage<T>::load(grad[i]);
      const Compute magnitude = std::abs(g);
      lane[(i - begin) % kChunkLanes] += magnitude;
      stats.nonzeros_before += g != 0;
      if constexpr (kWrite) {
        const bool keep = rule.keeps(magnitude, random.word[i - block]);
        stats.nonzeros += keep;
        out[i] = keep ? rule.kept(grad[i], magnitude) : T{};
      }
    }
  }
  stats.abs_sum = static_cast<double>(tree_sum(lane));
  return stats;
}

// The SIMD versions of an instruction set, or nullptr.
const PruneTable* simd_versions(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return &kAvx512Prune;
  if (isa == Isa::kAvx2) return &kAvx2Prune;
#endif
  return nullptr;
}

// The version for a storage type; the second argument only selects the overload.
PruneChunks<float> version_of(const PruneTable& table, float) { return table.float32; }
PruneChunks<BFloat16> version_of(const PruneTable& table, BFloat16) { return table.bfloat16; }
PruneChunks<Half> version_of(const PruneTable& table, Half) { return table.float16; }

double finish_chunk(float (&lane)[kChunkLanes]) { return static_cast<double>(tree_sum(lane)); }

// Prunes the chunks of [first, last) that a SIMD version can prune: all whole ones, or none.
// Returns the first chunk that is left.
template <class T>
int64_t prune_whole_chunks(Isa isa, const T* grad, T* out, int64_t elements, int64_t first,
                           int64_t last, T threshold, uint64_t seed, uint64_t offset,
                           PruneStats* stats) {
  if constexpr (!std::is_same_v<T, double>) {
    const PruneTable* table = simd_versions(isa);
    const int64_t whole = std::min(last, elements / kChunk);
    if (table && first < whole) {
      version_of(*table, T{})(grad, out, first, whole, threshold, seed, offset, finish_chunk,
                              stats);
      return whole;
    }
  }
  return first;
}

}  // namespace

template <class T>
void prune(Isa isa, const T* grad, T* out, int64_t elements, int64_t first, int64_t last,
           T threshold, uint64_t seed, uint64_t offset, PruneStats* stats) {
  first = prune_whole_chunks(isa, grad, out, elements, first, last, threshold, seed, offset, stats);
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

#define SPARSETRAIN_INSTANTIATE(T)                                                            \
  template void prune<T>(Isa, const T*, T*, int64_t, int64_t, int64_t, T, uint64_t, uint64_t, \
                         PruneStats*);
SPARSETRAIN_INSTANTIATE(float)
SPARSETRAIN_INSTANTIATE(double)
SPARSETRAIN_INSTANTIATE(BFloat16)
SPARSETRAIN_INSTANTIATE(Half)
#undef SPARSETRAIN_INSTANTIATE

}  // namespace sparsetrain
