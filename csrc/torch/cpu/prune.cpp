// Pruning and counting on the CPU: memory and threads for the kernels, and the state of a pruner.
#include "../../kernels/cpu/prune.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <mutex>
#include <vector>

#include "../../kernels/common/prune_state.h"
#include "../checks.h"
#include "../density.h"
#include "../memory.h"

namespace sparsetrain {
namespace {

constexpr int64_t kGrainChunks = 16;  // 32,768 elements, about 20 us of work

// Prunes grad, which is in one piece, into out. If out is undefined it only measures.
PruneStats run(const at::Tensor& grad, const at::Tensor& out, double threshold, uint64_t seed,
               uint64_t offset) {
  const int64_t elements = grad.numel(), chunks = prune_chunks(elements);
  const Isa isa = checked_cpu_setting("prune").isa;
  std::vector<PruneStats> stats(chunks);
  for_storage(grad, [&](auto storage) {
    using T = decltype(storage);
    const T t = rounded_threshold<T>(threshold);
    const auto* in = static_cast<const T*>(grad.const_data_ptr());
    auto* result = out.defined() ? static_cast<T*>(out.mutable_data_ptr()) : nullptr;
    at::parallel_for(0, chunks, kGrainChunks, [&](int64_t first, int64_t last) {
      prune(isa, in, result, elements, first, last, t, seed, offset, stats.data());
    });
  });
  return reduce(stats.data(), chunks);
}

std::tuple<at::Tensor, at::Tensor> prune_cpu(const at::Tensor& grad, const at::Tensor& threshold,
                                             const at::Tensor& rng) {
  check_prune(grad, threshold, rng);
  const at::Tensor dense = in_one_piece(grad), out = empty_in_order_of(grad);
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

// Guards every state. Threads that run backward at once may share one.
std::mutex& state_mutex() {
  static std::mutex mutex;
  return mutex;
}

// Raises ValueError for a call that admit() refuses.
void check_admitted(double* s, const PruneCall& call) {
  const auto saved = static_cast<state::Layout>(s[state::kLayout]);
  const double factor = s[state::kFactor];
  const auto largest = static_cast<int64_t>(s[state::kLargest]);
  const Refusal refusal = admit(s, call);
  SPARSETRAIN_CHECK(refusal != Refusal::kFactor, ValueError, "prune_step", "the factor in state",
                    "finite and at least 0", factor);
  SPARSETRAIN_CHECK(refusal != Refusal::kLayout, ValueError, "prune_step",
                    "the gradient's memory format",
                    c10::str("that of the saved state (", name(saved), ")"), name(call.layout),
                    ". Masks depend on it; load with strict=False to go on all the same");
  SPARSETRAIN_CHECK(
      refusal != Refusal::kSize, ValueError, "prune_step", "the gradient's size",
      c10::str("that of the saved state (", largest, " elements)"), call.elements,
      ". Masks depend on the batch size; load with strict=False to go on all the same");
}

at::Tensor prune_step_cpu(const at::Tensor& grad, const at::Tensor& state_tensor,
                          const std::optional<at::Tensor>& density) {
  check_prune_step(grad, state_tensor, density);
  const at::Tensor dense = in_one_piece(grad), out = empty_in_order_of(grad);
  if (dense.numel() == 0) return out;
  const PruneCall call{dense.numel(), layout_of(dense), state_tensor.numel() - state::kFifo};
  double* s = state_tensor.mutable_data_ptr<double>();

  // Each thread that runs backward through this pruner takes its own range of the counter.
  std::unique_lock lock(state_mutex());
  check_admitted(s, call);
  const auto seed = static_cast<uint64_t>(s[state::kSeed]);
  const double factor = s[state::kFactor];
  const uint64_t offset = take_counters(s, call);
  double mean = predicted_mean(s, call);
  lock.unlock();

  if (call.history == 0) {
    mean = run(dense, {}, 0, 0, 0).abs_sum / static_cast<double>(call.elements);
  }
  const double threshold = threshold_of(factor, mean);
  const PruneStats stats = run(dense, out, threshold, seed, offset);

  lock.lock();
  record(s, call, threshold, stats);
  if (double* slot = slot_memory(density, c10::kCPU)) {
    store_density(slot, static_cast<double>(stats.nonzeros) / static_cast<double>(call.elements));
  }
  return out;
}

// Stores no density, see density.h.
void count_nonzeros_cpu(const at::Tensor& input, const at::Tensor& state_tensor, int64_t every,
                        const std::optional<at::Tensor>& density) {
  check_count_nonzeros(input, state_tensor, every, density);
  double* s = state_tensor.mutable_data_ptr<double>();
  std::unique_lock lock(state_mutex());
  const bool due = static_cast<int64_t>(s[state::kCalls]) % every == 0;
  s[state::kCalls] += 1;
  if (!due) return;
  lock.unlock();
  const auto nonzeros = input.count_nonzero().item<int64_t>();
  lock.lock();
  s[state::kCountedElements] = static_cast<double>(input.numel());
  s[state::kCountedNonzeros] = static_cast<double>(nonzeros);
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, CPU, m) {
  m.impl("prune", sparsetrain::prune_cpu);
  m.impl("prune_step", sparsetrain::prune_step_cpu);
  m.impl("count_nonzeros", sparsetrain::count_nonzeros_cpu);
}
