// The implementations of a convolution on CUDA, in order: the sparse kernels, cuSPARSE, then ATen.
// Only cuSPARSE waits for the device or reads from it.
#include <ATen/Context.h>
#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../../kernels/cuda/api.h"
#include "../density.h"
#include "../memory.h"
#include "../passes.h"
#include "../precision.h"
#include "cusparse_conv.h"

namespace sparsetrain {
namespace {

// What the choice depends on: the costs of x's device, in the precision that a dense convolution of
// x has now.
CudaSetting setting_for(const at::Tensor& x) {
  const cudaDeviceProp* device = at::cuda::getDeviceProperties(x.get_device());
  const Precision precision = dense_precision(dtype_of(x));
  return {cuda_costs_of(10 * device->major + device->minor, precision), precision,
          at::globalContext().deterministicAlgorithms()};
}

// The forward of x, or grad_input of dy.
at::Tensor gather(const ConvShape& s, Pass pass, const at::Tensor& source, const at::Tensor& w,
                  const std::optional<at::Tensor>& bias) {
  const bool forward = pass == Pass::kForward;
  const at::Tensor pixels = pixels_of(source);
  const at::Tensor taps = forward ? w.permute({2, 3, 1, 0}) : w.permute({2, 3, 0, 1});
  const int64_t columns = taps.size(3);
  const at::Tensor matrix =
      at::zeros({s.R, s.S, taps.size(2), cuda::matrix_pitch(columns)}, w.options());
  matrix.narrow(3, 0, columns).copy_(taps);
  const at::Tensor addend = bias ? bias->contiguous() : at::Tensor();
  const at::Tensor out =
      at::empty({s.N, forward ? s.P() : s.H, forward ? s.Q() : s.W, columns}, w.options());
  for_storage(w, [&](auto storage) {
    using T = decltype(storage);
    const at::Tensor scratch = scratch_beside(w, cuda::gather_scratch_bytes<T>(s, pass));
    C10_CUDA_CHECK(
        cuda::gather(s, pass, static_cast<const T*>(pixels.const_data_ptr()),
                     static_cast<const T*>(matrix.const_data_ptr()),
                     addend.defined() ? static_cast<const T*>(addend.const_data_ptr()) : nullptr,
                     static_cast<T*>(out.mutable_data_ptr()), scratch.mutable_data_ptr(),
                     c10::cuda::getCurrentCUDAStream()));
  });
  return from_pixels(out);
}

at::Tensor grad_weight(ConvShape s, const at::Tensor& dy, const at::Tensor& x) {
  const int64_t channels = s.C;
  s.C = cuda::matrix_pitch(channels);
  const at::Tensor gradient = pixels_of(dy), pixels = padded_pixels(x, s.C);
  const at::Tensor out = at::empty({s.K, s.R, s.S, s.C}, x.options());
  for_storage(x, [&](auto storage) {
    using T = decltype(storage);
    const at::Tensor scratch = scratch_beside(x, cuda::grad_weight_scratch_bytes<T>(s));
    C10_CUDA_CHECK(cuda::grad_weight(
        s, static_cast<const T*>(gradient.const_data_ptr()),
        static_cast<const T*>(pixels.const_data_ptr()), static_cast<T*>(out.mutable_data_ptr()),
        scratch.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream()));
  });
  return from_pixels(out.narrow(3, 0, channels));
}

// Accepts what is asked for or predicted to be faster. With check_finite it accepts nothing:
// whether operands hold Inf or NaN is known only after waiting for the device.
void run_sparse(Passes& p) {
  const ConvCall& call = p.call;
  const bool forced = call.backend == Backend::kSparse;
  if (!call.check_finite && (forced || call.backend == Backend::kAuto)) {
    const Densities densities{density_in(call.input_density), density_in(call.grad_density)};
    const CudaSetting setting = setting_for(p.x);
    for (const Pass pass : {Pass::kForward, Pass::kGradInput, Pass::kGradWeight}) {
      if (!p.pending(pass)) continue;
      const Call asked{p.shape, pass, dtype_of(p.x)};
      const Choice choice = choose_on_cuda(asked, call.backend, densities, setting);
      if (choice.backend != Backend::kSparse) continue;
      p.result(pass) = pass == Pass::kForward     ? gather(p.shape, pass, p.x, p.w, call.bias)
                       : pass == Pass::kGradInput ? gather(p.shape, pass, p.dy, p.w, {})
                                                  : grad_weight(p.shape, p.dy, p.x);
    }
  }
  // Backends "auto" and "dense" leave the bias to ATen.
  if (p.grad_bias_pending() && (forced || call.backend == Backend::kCusparse)) {
    p.grad_bias = at::sum(p.dy, {0, 2, 3});
  }
}

// Accepts gradients that are asked for. The host reads a number from the device, which it cannot do
// while a CUDA graph is captured: such calls run dense.
void run_cusparse(Passes& p) {
  if (p.call.backend != Backend::kCusparse || p.call.check_finite) return;
  const CudaSetting setting = setting_for(p.x);
  const auto accepts = [&](Pass pass) {
    const Call asked{p.shape, pass, dtype_of(p.x)};
    return p.pending(pass) &&
           choose_on_cuda(asked, p.call.backend, {1, 1}, setting).backend == Backend::kCusparse;
  };
  const bool input = accepts(Pass::kGradInput), weight = accepts(Pass::kGradWeight);
  if (!input && !weight) return;
  if (c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None) return;
  const auto [dx, dw] = cusparse_backward(p.shape, p.dy, p.x, p.w, input, weight);
  if (input) p.result(Pass::kGradInput) = dx;
  if (weight) p.result(Pass::kGradWeight) = dw;
}

at::Tensor aten_forward(const ConvShape& s, const at::Tensor& x, const at::Tensor& w,
                        const std::optional<at::Tensor>& bias, bool) {
  return at::convolution(x, w, bias, {s.stride_h, s.stride_w}, {s.pad_h, s.pad_w},
                         {s.dilation_h, s.dilation_w}, false, {0, 0}, s.groups);
}
std::tuple<at::Tensor, at::Tensor, at::Tensor> aten_backward(const ConvShape& s,
                                                             const at::Tensor& dy,
                                                             const at::Tensor& x,
                                                             const at::Tensor& w,
                                                             std::array<bool, 3> mask, bool) {
  return at::convolution_backward(dy, x, w, at::IntArrayRef({s.K}), {s.stride_h, s.stride_w},
                                  {s.pad_h, s.pad_w}, {s.dilation_h, s.dilation_w}, false, {0, 0},
                                  s.groups, mask);
}
void run_aten(Passes& p) { run_dense(p, aten_forward, aten_backward); }

bool is_plain(const ConvCall& call, const ConvShape& shape) {
  if (call.backend == Backend::kDense) return true;
  const CudaSetting setting = setting_for(call.input);
  for (const Pass pass : {Pass::kForward, Pass::kGradInput, Pass::kGradWeight}) {
    if (!unsuited_on_cuda({shape, pass, dtype_of(call.input)}, setting)) return false;
  }
  return true;
}

const ConvDevice kCuda{{run_sparse, run_cusparse, run_aten}, is_plain};
const bool registered = (register_conv_device(c10::kCUDA, &kCuda), true);

at::Tensor conv2d(const ConvCall& call, c10::DispatchKeySet) { return run_conv2d(call, kCuda); }
std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward(const ConvBackwardCall& call,
                                                               c10::DispatchKeySet) {
  return run_conv2d_backward(call, kCuda);
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, CUDA, m) {
  using namespace sparsetrain;
  m.impl("conv2d", Conv2dKernel<sparsetrain::conv2d>::call);
  m.impl("conv2d_backward", Conv2dBackwardKernel<sparsetrain::conv2d_backward>::call);
}
