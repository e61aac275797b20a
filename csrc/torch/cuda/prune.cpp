// Pruning and counting on CUDA: memory, device and stream for the kernels. Nothing here waits for
// the device or reads from it.
#include <ATen/ops/empty.h>
#include <ATen/ops/ne.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../../kernels/cuda/api.h"
#include "../checks.h"
#include "../density.h"
#include "../memory.h"

namespace sparsetrain {
namespace {

std::tuple<at::Tensor, at::Tensor> prune_cuda(const at::Tensor& grad, const at::Tensor& threshold,
                                              const at::Tensor& rng) {
  check_prune(grad, threshold, rng);
  const c10::cuda::CUDAGuard guard(grad.device());
  const at::Tensor dense = in_one_piece(grad), out = empty_in_order_of(grad);
  const at::Tensor stats = at::empty({3}, grad.options().dtype(at::kDouble));
  const at::Tensor scratch = scratch_beside(grad, cuda::prune_scratch_bytes(dense.numel()));
  const auto here = [&](const at::Tensor& t, at::ScalarType type) {
    return t.to(grad.options().dtype(type), /*non_blocking=*/true).contiguous();
  };
  const at::Tensor bound = here(threshold, at::kDouble), key = here(rng, at::kLong);
  for_storage(dense, [&](auto storage) {
    using T = decltype(storage);
    C10_CUDA_CHECK(cuda::prune(static_cast<const T*>(dense.const_data_ptr()),
                               static_cast<T*>(out.mutable_data_ptr()), dense.numel(),
                               bound.const_data_ptr<double>(), key.const_data_ptr<int64_t>(),
                               scratch.mutable_data_ptr(), stats.mutable_data_ptr<double>(),
                               c10::cuda::getCurrentCUDAStream()));
  });
  return {out, stats};
}

at::Tensor prune_step_cuda(const at::Tensor& grad, const at::Tensor& state_tensor,
                           const std::optional<at::Tensor>& density) {
  check_prune_step(grad, state_tensor, density);
  const c10::cuda::CUDAGuard guard(grad.device());
  const at::Tensor dense = in_one_piece(grad), out = empty_in_order_of(grad);
  if (dense.numel() == 0) return out;
  const PruneCall call{dense.numel(), layout_of(dense), state_tensor.numel() - state::kFifo};
  const at::Tensor scratch = scratch_beside(grad, cuda::prune_scratch_bytes(call.elements));
  for_storage(dense, [&](auto storage) {
    using T = decltype(storage);
    C10_CUDA_CHECK(cuda::prune_step(
        static_cast<const T*>(dense.const_data_ptr()), static_cast<T*>(out.mutable_data_ptr()),
        call, state_tensor.mutable_data_ptr<double>(), slot_memory(density, c10::kCUDA),
        scratch.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream()));
  });
  return out;
}

// A type without kernels is counted as float16 with the values 0 and 1.
void count_nonzeros_cuda(const at::Tensor& input, const at::Tensor& state_tensor, int64_t every,
                         const std::optional<at::Tensor>& density) {
  check_count_nonzeros(input, state_tensor, every, density);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor dense =
      in_one_piece(has_kernels(input) ? input : at::ne(input, 0).to(at::kHalf));
  const at::Tensor scratch =
      scratch_beside(dense, cuda::count_nonzeros_scratch_bytes(dense.numel()));
  for_storage(dense, [&](auto storage) {
    using T = decltype(storage);
    C10_CUDA_CHECK(cuda::count_nonzeros(
        static_cast<const T*>(dense.const_data_ptr()), dense.numel(), every,
        state_tensor.mutable_data_ptr<double>(), slot_memory(density, c10::kCUDA),
        scratch.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream()));
  });
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, CUDA, m) {
  m.impl("prune", sparsetrain::prune_cuda);
  m.impl("prune_step", sparsetrain::prune_step_cuda);
  m.impl("count_nonzeros", sparsetrain::count_nonzeros_cuda);
}
