// The slots of the state tensors of pruners and of nonzero counters. Used by the pruning kernels
// and by csrc/torch; sparsetrain/pruning.py has the same numbers, and a test compares them.
#pragma once

#include <cstdint>

namespace sparsetrain::state {

// Slots of a pruner's state: a float64 tensor [kFifo + history].
enum Slot : int64_t {
  kSeed,            // Philox key, an integer below 2^53
  kOffset,          // Philox counter of the next call's element 0
  kPushes,          // number of means that were pushed into the FIFO
  kThreshold,       // threshold of the last call, before rounding to the storage type
  kAbsSum,          // sum of |g| in the last call, before pruning
  kElements,        // elements of the last call
  kNonzerosBefore,  // nonzeros of the last call, before pruning
  kNonzeros,        // nonzeros of the last call, after pruning
  kLayout,          // memory order of the last call, a Layout
  kSmallest,        // elements of the smallest call
  kLargest,         // elements of the largest call
  kResumed,  // 0: running; 1: loaded, no call yet; 2: loaded, one smaller last batch was accepted
  kFactor,   // threshold / mean of |g|, finite and at least 0
  kRate,     // the pruning rate in [0, 1) that Python computed the factor from
  kDensity,  // the density in (0, 1] that Python computed the factor from; 0: from kRate
  kFifo,     // first of the last `history` means of |g|
};

// Memory order of a gradient. kNone: there was no call yet.
enum Layout : int64_t { kNone, kContiguous, kChannelsLast, kOther };

// Slots of a nonzero counter's state: a float64 tensor [kCounterSlots]. Elements and nonzeros are
// those of the last call that counted.
enum CounterSlot : int64_t { kCalls, kCountedElements, kCountedNonzeros, kCounterSlots };

}  // namespace sparsetrain::state
