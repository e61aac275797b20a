// Pruning and observing on the CPU: memory, threads and the pruner's state around the kernels.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <mutex>
#include <vector>

#include "../kernels/prune.h"
#include "checks.h"
#include "memory.h"
#include "state.h"

namespace sparsetrain {
namespace {

constexpr int64_t kGrainChunks = 16;  // 32,768 elements: about 20 us of work a range

// Prunes dense grad into out, or only measures it when out is undefined. The threshold is rounded
// to the storage type first, so that +-threshold is exact and the result unbiased; one that is not
// finite or not positive counts as 0.
PruneStats run(const at::Tensor& grad, const at::Tensor& out, double threshold, uint64_t seed,
               uint64_t offset) {
  const int64_t elements = grad.numel(), chunks = prune_chunks(elements);
  std::vector<PruneStats> stats(chunks);
  for_storage(grad, [&](auto storage, auto c10_type) {
    using T = decltype(storage);
    auto rounded = static_cast<decltype(c10_type)>(threshold);
    if (!(std::isfinite(static_cast<double>(rounded)) && static_cast<double>(rounded) > 0)) {
      rounded = 0;
    }
    const T t = std::bit_cast<T>(rounded);
    const auto* in = static_cast<const T*>(grad.const_data_ptr());
    auto* result = out.defined() ? static_cast<T*>(out.mutable_data_ptr()) : nullptr;
    at::parallel_for(0, chunks, kGrainChunks, [&](int64_t first, int64_t last) {
      prune(in, result, elements, first, last, t, seed, offset, stats.data());
    });
  });
  return reduce(stats.data(), chunks);
}

std::tuple<at::Tensor, at::Tensor> prune_cpu(const at::Tensor& grad, const at::Tensor& threshold,
                                             const at::Tensor& rng) {
  check_prune(grad, threshold, rng);
  const at::Tensor dense = dense_storage(grad), out = empty_in_order_of(grad);
  const auto key = rng.contiguous();
  const auto* seed_offset = key.const_data_ptr<int64_t>();
  const PruneStats s =
      run(dense, out, threshold.item<double>(), static_cast<uint64_t>(seed_offset[0]),
          static_cast<uint64_t>(seed_offset[1]));
  at::Tensor stats = at::empty({3}, grad.options().dtype(at::kDouble));
  auto* slots = stats.mutable_data_ptr<double>();
  slots[0] = s.abs_sum;
  slots[1] = static_cast<double>(s.nonzeros_before);
  slots[2] = static_cast<double>(s.nonzeros);
  return {out, stats};
}

const char* name(state::Layout layout) {
  switch (layout) {
    case state::kContiguous:
      return "contiguous";
    case state::kChannelsLast:
      return "channels_last";
    default:
      return "another order";
  }
}

// A loaded state continues bit for bit only if the calls have the sizes and memory order of the
// saved run: anything else moves the random counter differently. One smaller batch may be an
// epoch's last.
void check_resumed(double* s, int64_t elements, state::Layout layout) {
  const auto saved = static_cast<state::Layout>(s[state::kLayout]);
  if (saved == state::kNone)
    s[state::kResumed] = 0;  // saved before its first call: any continues it
  if (s[state::kResumed] == 0) return;
  SPARSETRAIN_CHECK(layout == saved, ValueError, "prune_step", "the gradient's memory format",
                    c10::str("that of the saved state (", name(saved), ")"), name(layout),
                    ". Masks depend on it; load with strict=False to go on all the same");
  const auto n = static_cast<double>(elements);
  const bool first = s[state::kResumed] == 1;
  const bool seen =
      n == s[state::kLargest] || (first && (n == s[state::kElements] || n == s[state::kSmallest]));
  const bool remainder = first && n < s[state::kSmallest];
  SPARSETRAIN_CHECK(
      seen || remainder, ValueError, "prune_step", "the gradient's size",
      c10::str("that of the saved state (", s[state::kLargest], " elements)"), elements,
      ". Masks depend on the batch size; load with strict=False to go on all the same");
  s[state::kResumed] = seen ? 0 : 2;
}

double predicted_mean(const double* s, int64_t history) {
  if (s[state::kPushes] < static_cast<double>(history)) return 0;
  double sum = 0;
  for (int64_t i = 0; i < history; ++i) sum += s[state::kFifo + i];
  return sum / static_cast<double>(history);
}

at::Tensor prune_step_cpu(const at::Tensor& grad, const at::Tensor& state_tensor) {
  check_prune_step(grad, state_tensor);
  const at::Tensor dense = dense_storage(grad), out = empty_in_order_of(grad);
  if (dense.numel() == 0) return out;
  const auto n = static_cast<double>(dense.numel());
  const int64_t history = state_tensor.numel() - state::kFifo;
  double* s = state_tensor.mutable_data_ptr<double>();

  // Threads that run backward through one pruner at once each take a range of the counter of their
  // own.
  static std::mutex mutex;
  std::unique_lock lock(mutex);
  const double factor = s[state::kFactor];
  SPARSETRAIN_CHECK(std::isfinite(factor) && factor >= 0, ValueError, "prune_step",
                    "the factor in state", "finite and at least 0", factor);
  check_resumed(s, dense.numel(), layout_of(dense));
  const auto seed = static_cast<uint64_t>(s[state::kSeed]);
  const auto offset = static_cast<uint64_t>(s[state::kOffset]);
  s[state::kOffset] += std::ceil(n / 4);
  double mean = predicted_mean(s, history);
  lock.unlock();

  if (history == 0) mean = run(dense, {}, 0, 0, 0).abs_sum / n;
  const double threshold = std::isfinite(factor * mean) ? factor * mean : 0;
  const PruneStats stats = run(dense, out, threshold, seed, offset);

  lock.lock();
  if (history > 0 && std::isfinite(stats.abs_sum)) {
    s[state::kFifo + static_cast<int64_t>(s[state::kPushes]) % history] = stats.abs_sum / n;
    s[state::kPushes] += 1;
  }
  const bool first = s[state::kLargest] == 0;
  s[state::kThreshold] = threshold;
  s[state::kAbsSum] = stats.abs_sum;
  s[state::kElements] = n;
  s[state::kNonzerosBefore] = static_cast<double>(stats.nonzeros_before);
  s[state::kNonzeros] = static_cast<double>(stats.nonzeros);
  s[state::kLayout] = layout_of(dense);
  s[state::kSmallest] = first ? n : std::min(s[state::kSmallest], n);
  s[state::kLargest] = std::max(s[state::kLargest], n);
  return out;
}

void observe_cpu(const at::Tensor& input, const at::Tensor& state_tensor, int64_t every) {
  check_observe("observe", input, state_tensor, every);
  double* s = state_tensor.mutable_data_ptr<double>();
  const bool due = static_cast<int64_t>(s[state::kCalls]) % every == 0;
  s[state::kCalls] += 1;
  if (!due) return;
  s[state::kObservedElements] = static_cast<double>(input.numel());
  s[state::kObservedNonzeros] = static_cast<double>(input.count_nonzero().item<int64_t>());
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, CPU, m) {
  m.impl("prune", sparsetrain::prune_cpu);
  m.impl("prune_step", sparsetrain::prune_step_cpu);
  m.impl("observe", sparsetrain::observe_cpu);
}
