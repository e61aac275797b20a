// The arithmetic of a pruner's state: predicting the threshold, recording a call, and refusing
// calls that cannot continue a loaded state. Used by csrc/torch/cpu/prune.cpp and cuda/prune.cu, so
// that both devices compute equal bits. The state is an array of doubles with the slots of
// state_slots.h.
#pragma once

#include <limits>

#include "prune_rule.h"
#include "state_slots.h"

namespace sparsetrain {

// The properties of one call of prune_step that its state depends on.
struct PruneCall {
  int64_t elements;      // of the gradient
  state::Layout layout;  // memory order of the gradient
  int64_t history;       // length of the FIFO of means; 0: the threshold follows the current mean
};

// Why a call was refused: the state's factor is invalid, or the gradient's memory order or size
// differs from the saved run's.
enum class Refusal { kNone, kFactor, kLayout, kSize };

SPARSETRAIN_HOST_DEVICE inline bool is_finite(double v) {
  return std::abs(v) <= std::numeric_limits<double>::max();
}

// Checks whether a call may run, and updates kResumed. A loaded state s continues the saved run bit
// for bit only if the calls have the saved run's sizes and memory order, because both decide which
// random words an element gets. One call of a smaller size is accepted: the last batch of an epoch.
SPARSETRAIN_HOST_DEVICE inline Refusal admit(double* s, const PruneCall& call) {
  if (!is_finite(s[state::kFactor]) || s[state::kFactor] < 0) return Refusal::kFactor;
  const auto saved = static_cast<state::Layout>(static_cast<int64_t>(s[state::kLayout]));
  if (saved == state::kNone) s[state::kResumed] = 0;  // the state was saved before its first call
  if (s[state::kResumed] == 0) return Refusal::kNone;
  if (call.layout != saved) return Refusal::kLayout;
  const auto n = static_cast<double>(call.elements);
  const bool first = s[state::kResumed] == 1;
  const bool known_size =
      n == s[state::kLargest] || (first && (n == s[state::kElements] || n == s[state::kSmallest]));
  const bool remainder = first && n < s[state::kSmallest];
  if (!known_size && !remainder) return Refusal::kSize;
  s[state::kResumed] = known_size ? 0 : 2;
  return Refusal::kNone;
}

// Returns the mean of the FIFO's means of |g|, or 0 while the FIFO is not full (nothing is pruned).
SPARSETRAIN_HOST_DEVICE inline double predicted_mean(const double* s, const PruneCall& call) {
  const auto history = static_cast<double>(call.history);
  if (call.history == 0 || s[state::kPushes] < history) return 0;
  double sum = 0;
  for (int64_t i = 0; i < call.history; ++i) sum += s[state::kFifo + i];
  return sum / history;
}

// Returns the threshold for a mean of |g|; 0 (no pruning) if the product is not finite.
SPARSETRAIN_HOST_DEVICE inline double threshold_of(double factor, double mean) {
  return is_finite(factor * mean) ? factor * mean : 0;
}

// Reserves the call's range of Philox counters, one for four elements. Returns the first counter.
SPARSETRAIN_HOST_DEVICE inline uint64_t take_counters(double* s, const PruneCall& call) {
  const auto offset = static_cast<uint64_t>(s[state::kOffset]);
  s[state::kOffset] += static_cast<double>((call.elements + 3) / 4);
  return offset;
}

// Records a call: pushes its mean of |g| into the FIFO (unless the sum is not finite) and stores
// its statistics.
SPARSETRAIN_HOST_DEVICE inline void record(double* s, const PruneCall& call, double threshold,
                                           const PruneStats& stats) {
  const auto n = static_cast<double>(call.elements);
  if (call.history > 0 && is_finite(stats.abs_sum)) {
    s[state::kFifo + static_cast<int64_t>(s[state::kPushes]) % call.history] = stats.abs_sum / n;
    s[state::kPushes] += 1;
  }
  const bool first = s[state::kLargest] == 0;
  s[state::kThreshold] = threshold;
  s[state::kAbsSum] = stats.abs_sum;
  s[state::kElements] = n;
  s[state::kNonzerosBefore] = static_cast<double>(stats.nonzeros_before);
  s[state::kNonzeros] = static_cast<double>(stats.nonzeros);
  s[state::kLayout] = call.layout;
  s[state::kSmallest] = first || n < s[state::kSmallest] ? n : s[state::kSmallest];
  s[state::kLargest] = n > s[state::kLargest] ? n : s[state::kLargest];
}

}  // namespace sparsetrain
