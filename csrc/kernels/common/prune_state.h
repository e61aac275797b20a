// The arithmetic of a pruner's state (state.h), the same on the CPU and on CUDA: the threshold it
// predicts, what a call adds to it, and which calls may continue a loaded one.
#pragma once

#include <limits>

#include "prune_rule.h"
#include "state_slots.h"

namespace sparsetrain {

// One call of prune_step, as the state sees it.
struct PruneCall {
  int64_t elements;
  state::Layout layout;
  int64_t history;  // slots of the FIFO
};

enum class Refusal { kNone, kFactor, kLayout, kSize };

SPARSETRAIN_HOST_DEVICE inline bool is_finite(double v) {
  return std::abs(v) <= std::numeric_limits<double>::max();
}

// Whether this call may run. A loaded state continues bit for bit only if the calls have the sizes
// and memory order of the saved run: anything else moves the random counter differently. One
// smaller batch may be an epoch's last.
SPARSETRAIN_HOST_DEVICE inline Refusal admit(double* s, const PruneCall& call) {
  if (!is_finite(s[state::kFactor]) || s[state::kFactor] < 0) return Refusal::kFactor;
  const auto saved = static_cast<state::Layout>(static_cast<int64_t>(s[state::kLayout]));
  if (saved == state::kNone) s[state::kResumed] = 0;  // saved before its first call
  if (s[state::kResumed] == 0) return Refusal::kNone;
  if (call.layout != saved) return Refusal::kLayout;
  const auto n = static_cast<double>(call.elements);
  const bool first = s[state::kResumed] == 1;
  const bool seen =
      n == s[state::kLargest] || (first && (n == s[state::kElements] || n == s[state::kSmallest]));
  const bool remainder = first && n < s[state::kSmallest];
  if (!seen && !remainder) return Refusal::kSize;
  s[state::kResumed] = seen ? 0 : 2;
  return Refusal::kNone;
}

// The mean of the FIFO, 0 until it is full.
SPARSETRAIN_HOST_DEVICE inline double predicted_mean(const double* s, const PruneCall& call) {
  const auto history = static_cast<double>(call.history);
  if (call.history == 0 || s[state::kPushes] < history) return 0;
  double sum = 0;
  for (int64_t i = 0; i < call.history; ++i) sum += s[state::kFifo + i];
  return sum / history;
}

SPARSETRAIN_HOST_DEVICE inline double threshold_of(double factor, double mean) {
  return is_finite(factor * mean) ? factor * mean : 0;
}

// Takes the call's range of the random counter; returns where it begins.
SPARSETRAIN_HOST_DEVICE inline uint64_t take_counters(double* s, const PruneCall& call) {
  const auto offset = static_cast<uint64_t>(s[state::kOffset]);
  s[state::kOffset] += static_cast<double>((call.elements + 3) / 4);
  return offset;
}

// What the call measured. A sum that is not finite never enters the FIFO.
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
