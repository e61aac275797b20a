// Stochastic pruning of a gradient, in chunks that any thread may take: the bits of the result
// depend on the arguments alone.
//
// Element i (in memory order) meets word i % 4 of Philox4x32-10(key = seed, counter = offset + i /
// 4); r = (word mod 2^24) * 2^-24. It is kept unless |g| <= r * threshold; a kept element below the
// threshold becomes +-threshold, so that E[pruned] = g (up to the 2^-24 grid of r). NaN and Inf are
// kept as they are; threshold 0 is the identity (by value: -0 becomes +0).
#pragma once

#include "../common/prune_rule.h"
#include "api.h"

namespace sparsetrain {

// Prunes chunks [first, last) of grad[elements] into out[elements] (out may be grad) and fills
// stats[first..last). With out == nullptr it only measures. threshold: finite and >= 0.
template <class T>
void prune(Isa isa, const T* grad, T* out, int64_t elements, int64_t first, int64_t last,
           T threshold, uint64_t seed, uint64_t offset, PruneStats* stats);

// Adds the statistics of all chunks in the contract's fixed order.
PruneStats reduce(const PruneStats* stats, int64_t chunks);

}  // namespace sparsetrain
