// The SIMD versions of pruning (prune.inl, compiled by avx2.cpp and avx512.cpp), from which
// prune.cpp chooses.
#pragma once

#include "prune.h"

namespace sparsetrain {

// Adds the lane sums of a chunk in the order of prune_rule.h; destroys them.
using FinishChunk = double (*)(float (&lane)[kChunkLanes]);

// Prunes chunks [first, last), all of them whole, with the arguments of prune() (prune.h). key is
// its seed. finish is passed in so that the scalar code of prune.cpp adds the sums of all versions.
template <class T>
using PruneChunks = void (*)(const T* grad, T* out, int64_t first, int64_t last, T threshold,
                             uint64_t key, uint64_t offset, FinishChunk finish, PruneStats* stats);

// One function for each storage type that is computed in float. double has no SIMD version.
struct PruneTable {
  PruneChunks<float> float32;
  PruneChunks<BFloat16> bfloat16;
  PruneChunks<Half> float16;
};

#if defined(__x86_64__)
extern const PruneTable kAvx2Prune, kAvx512Prune;
#endif

}  // namespace sparsetrain
