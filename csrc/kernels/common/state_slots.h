// The slots of a pruner's state: one float64 tensor [kFifo + history], outside autograd.
#pragma once

#include <cstdint>

namespace sparsetrain::state {

enum Slot : int64_t {
  kSeed,            // Philox key, an integer below 2^53
  kOffset,          // Philox counter of the next call
  kPushes,          // means pushed so far
  kThreshold,       // used by the last call
  kAbsSum,          // sum |g| of the last call, before pruning
  kElements,        // of the last call
  kNonzerosBefore,  // of the last call
  kNonzeros,        // of the last call, after pruning
  kLayout,          // memory order of the last call: a Layout
  kSmallest,        // fewest elements of any call
  kLargest,         // most elements of any call
  kResumed,  // 1: loaded, the next call must continue what was saved; 2: one remainder passed
  kFactor,   // threshold / mean |g|, finite and at least 0
  kRate,     // what the factor was made from, for Python to tell: a rate in [0, 1),
  kDensity,  // or a density in (0, 1]; 0: the rate counts
  kFifo,     // from here: the last `history` means of |g|
};

enum Layout : int64_t { kNone, kContiguous, kChannelsLast, kOther };

// The slots of an observer's state: one float64 tensor [3].
enum CounterSlot : int64_t { kCalls, kCountedElements, kCountedNonzeros, kCounterSlots };

}  // namespace sparsetrain::state
