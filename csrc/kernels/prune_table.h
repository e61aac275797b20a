// The vector versions of prune's inner loop, for prune.cpp to choose from.
#pragma once

#include "prune.h"

namespace sparsetrain {

// Adds the kChunkLanes lane sums of a chunk in the contract's order.
using FinishChunk = double (*)(float (&lane)[kChunkLanes]);

// Whole chunks [first, last); the lower 32 bits of the counter must not wrap inside them.
using PruneChunks = void (*)(const float* grad, float* out, int64_t first, int64_t last,
                             float threshold, uint64_t key, uint64_t offset, FinishChunk finish,
                             PruneStats* stats);

#if defined(__x86_64__)
extern const PruneChunks kAvx2Prune, kAvx512Prune;
#endif

}  // namespace sparsetrain
