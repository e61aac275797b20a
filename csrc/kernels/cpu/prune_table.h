// The vector versions of prune's inner loop, for prune.cpp to choose from.
#pragma once

#include "prune.h"

namespace sparsetrain {

// Adds the kChunkLanes lane sums of a chunk in the contract's order.
using FinishChunk = double (*)(float (&lane)[kChunkLanes]);

// Whole chunks [first, last).
template <class T>
using PruneChunks = void (*)(const T* grad, T* out, int64_t first, int64_t last, T threshold,
                             uint64_t key, uint64_t offset, FinishChunk finish, PruneStats* stats);

// One function for each storage type that is computed in float.
struct PruneTable {
  PruneChunks<float> float32;
  PruneChunks<BFloat16> bfloat16;
  PruneChunks<Half> float16;
};

#if defined(__x86_64__)
extern const PruneTable kAvx2Prune, kAvx512Prune;
#endif

}  // namespace sparsetrain
