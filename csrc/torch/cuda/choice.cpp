// What `auto` goes by on CUDA; and calls that no density could make sparse, which are torch's own
// convolution with torch's own derivative and so cost what that costs.
#include "choice.h"

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/convolution.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/library.h>

#include "../autograd.h"
#include "../checks.h"
#include "../memory.h"
#include "../precision.h"

namespace sparsetrain {
namespace {

// Null for a call that may run sparse, and where somebody watches: a dispatch mode sees
// sparsetrain's operators.
std::optional<at::Tensor> torch_conv2d_cuda(const at::Tensor& input, const at::Tensor& weight,
                                            const std::optional<at::Tensor>& bias,
                                            c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                            c10::SymIntArrayRef dilation, const c10::SymInt& groups,
                                            std::string_view backend) {
  const auto plain = [](const at::Tensor& t) {
    return t.layout() == at::kStrided && !t.key_set().has(c10::DispatchKey::Python);
  };
  if (!plain(input) || !plain(weight) || input.dim() != 4 ||
      (backend != "auto" && backend != "dense") || c10::impl::dispatch_mode_enabled()) {
    return std::nullopt;
  }
  const Backend wanted = parse_backend("conv2d", backend);
  const auto steps = C10_AS_INTARRAYREF_SLOW(stride), sides = C10_AS_INTARRAYREF_SLOW(padding);
  const auto reach = C10_AS_INTARRAYREF_SLOW(dilation);
  const int64_t g = groups.expect_int();
  const ConvShape shape = accept_forward(input, weight, bias, steps, sides, reach, g);
  const CudaSetting setting = cuda_setting(input);
  for (const Pass pass : {Pass::kForward, Pass::kGradInput, Pass::kGradWeight}) {
    const Call call{shape, pass, dtype_of(input), 1, 1};
    if (wanted != Backend::kDense && !unsuited_on_cuda(call, setting)) return std::nullopt;
  }
  return at::convolution(input, weight, bias, steps, sides, reach, false, {0, 0}, g)
      .contiguous(output_format(input, weight));
}

at::Tensor conv2d(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                  c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, c10::SymInt groups,
                  std::string_view backend, bool check_finite,
                  const std::optional<at::Tensor>& input_density,
                  const std::optional<at::Tensor>& grad_density) {
  check_density("conv2d", "input_density", input_density, input);
  check_density("conv2d", "grad_density", grad_density, input);
  if (auto y = torch_conv2d_cuda(input, weight, bias, stride, padding, dilation, groups, backend)) {
    return *y;
  }
  return differentiable_conv2d(input, weight, bias, stride, padding, dilation, std::move(groups),
                               backend, check_finite, input_density, grad_density);
}

}  // namespace

CudaSetting cuda_setting(const at::Tensor& x) {
  const cudaDeviceProp* device = at::cuda::getDeviceProperties(x.get_device());
  const Precision precision = dense_precision(dtype_of(x));
  return {cuda_costs_of(10 * device->major + device->minor, precision), precision,
          at::globalContext().deterministicAlgorithms()};
}

}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, AutogradCUDA, m) { m.impl("conv2d", sparsetrain::conv2d); }
