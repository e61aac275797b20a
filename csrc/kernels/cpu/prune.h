// Stochastic pruning of a gradient on the CPU, called by csrc/torch/cpu/prune.cpp.
//
// The rule: element i, in memory order, has the random word i % 4 of Philox4x32-10(key = seed,
// counter = offset + i / 4) and the random number r = (word mod 2^24) / 2^24 in [0, 1).
//   |g| <= r * threshold   pruned: becomes 0
//   |g| <  threshold       kept as +-threshold, with the sign of g
//   else                   kept as it is
// Then E[pruned g] = g, up to the step 2^-24 of r. NaN and Inf are kept as they are. Threshold 0
// prunes nothing, except that -0 becomes +0. All bits depend on the arguments alone: not on the
// instruction set, the device or the threads. common/prune_rule.h has the rule as code.
#pragma once

#include "../common/prune_rule.h"
#include "api.h"

namespace sparsetrain {

// Prunes chunks [first, last) of a tensor, of prune_chunks(elements) chunks in all; any thread may
// prune any chunks.
//   grad       [elements], in memory order
//   out        [elements]; may be grad, or nullptr to only measure grad
//   threshold  finite and at least 0: rounded_threshold()
//   stats      [prune_chunks(elements)], of which [first, last) are written
template <class T>
void prune(Isa isa, const T* grad, T* out, int64_t elements, int64_t first, int64_t last,
           T threshold, uint64_t seed, uint64_t offset, PruneStats* stats);

// Adds the statistics of all chunks of a tensor in the order of prune_rule.h.
PruneStats reduce(const PruneStats* stats, int64_t chunks);

}  // namespace sparsetrain
