// The convolution on CUDA: sparse or by cuSPARSE where choose_on_cuda() says so, else ATen's.
// Nothing but cuSPARSE waits for the device or reads from it.
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../../kernels/cuda/api.h"
#include "../checks.h"
#include "../conv_call.h"
#include "../density.h"
#include "../memory.h"
#include "choice.h"
#include "cusparse_conv.h"

namespace sparsetrain {
namespace {

// Operands that may hold Inf or NaN are not looked at, which would wait for the device: they run
// dense. density: of x for the forward, of dy for both gradients.
bool runs_sparse(const ConvShape& shape, Pass pass, const at::Tensor& x, Backend wanted,
                 bool check_finite, const std::optional<at::Tensor>& density) {
  const double known = density_in(density);
  const Call call{shape, pass, dtype_of(x), known, known};
  return !check_finite && choose_on_cuda(call, wanted, cuda_setting(x)).backend == Backend::kSparse;
}

// The same for cuSPARSE, for which the host reads a number: dense in a CUDA graph, where it cannot.
bool runs_cusparse(const ConvShape& shape, Pass pass, const at::Tensor& x, Backend wanted,
                   bool check_finite) {
  if (wanted != Backend::kCusparse || check_finite) return false;
  const Call call{shape, pass, DType::kFloat32, 1, 1};
  return choose_on_cuda(call, wanted, cuda_setting(x)).backend == Backend::kCusparse &&
         c10::cuda::currentStreamCaptureStatusMayInitCtx() == c10::cuda::CaptureStatus::None;
}

// [N,C,H,W] as the kernels read it, [N,H,W,C] in one piece.
at::Tensor pixels_of(const at::Tensor& t) { return t.permute({0, 2, 3, 1}).contiguous(); }

// The same with zeros behind the channels up to a multiple of four, aligned to 16 bytes.
at::Tensor padded_pixels_of(const at::Tensor& t) {
  const at::Tensor pixels = pixels_of(t);
  const int64_t channels = pixels.size(3), pitch = cuda::matrix_pitch(channels);
  const bool whole = reinterpret_cast<uintptr_t>(pixels.const_data_ptr()) % 16 == 0;
  if (pitch == channels && whole) return pixels;
  const at::Tensor padded =
      at::zeros({pixels.size(0), pixels.size(1), pixels.size(2), pitch}, pixels.options());
  padded.narrow(3, 0, channels).copy_(pixels);
  return padded;
}

// [N,H,W,C] in one piece as [N,C,H,W].
at::Tensor from_pixels(const at::Tensor& t) { return t.permute({0, 3, 1, 2}); }

// The forward of x, or grad_input of dy, in whatever format.
at::Tensor gathered(const ConvShape& s, Pass pass, const at::Tensor& source, const at::Tensor& w,
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
    const at::Tensor scratch = bytes_beside(w, cuda::gather_scratch_bytes<T>(s, pass));
    C10_CUDA_CHECK(
        cuda::gather(s, pass, static_cast<const T*>(pixels.const_data_ptr()),
                     static_cast<const T*>(matrix.const_data_ptr()),
                     addend.defined() ? static_cast<const T*>(addend.const_data_ptr()) : nullptr,
                     static_cast<T*>(out.mutable_data_ptr()), scratch.mutable_data_ptr(),
                     c10::cuda::getCurrentCUDAStream()));
  });
  return from_pixels(out);
}

at::Tensor weight_gradient(ConvShape s, const at::Tensor& dy, const at::Tensor& x) {
  const int64_t channels = s.C;
  const at::Tensor gradient = pixels_of(dy), pixels = padded_pixels_of(x);
  s.C = pixels.size(3);
  const at::Tensor out = at::empty({s.K, s.R, s.S, s.C}, x.options());
  for_storage(x, [&](auto storage) {
    using T = decltype(storage);
    const at::Tensor scratch = bytes_beside(x, cuda::grad_weight_scratch_bytes<T>(s));
    C10_CUDA_CHECK(cuda::grad_weight(
        s, static_cast<const T*>(gradient.const_data_ptr()),
        static_cast<const T*>(pixels.const_data_ptr()), static_cast<T*>(out.mutable_data_ptr()),
        scratch.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream()));
  });
  return from_pixels(out.narrow(3, 0, channels));
}

at::Tensor conv2d_cuda(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                       std::string_view backend, bool check_finite,
                       const std::optional<at::Tensor>& input_density,
                       const std::optional<at::Tensor>& grad_density) {
  const Backend wanted = parse_backend("conv2d", backend);
  check_density("conv2d", "input_density", input_density, input);
  check_density("conv2d", "grad_density", grad_density, input);
  const ConvShape shape = accept_forward(input, weight, bias, stride, padding, dilation, groups);
  const c10::cuda::CUDAGuard guard(input.device());
  const auto format = output_format(input, weight);
  const at::Tensor x = batch(input);
  const at::Tensor y =
      runs_sparse(shape, Pass::kForward, x, wanted, check_finite, input_density)
          ? gathered(shape, Pass::kForward, x, weight, bias)
          : at::convolution(x, weight, bias, stride, padding, dilation, false, {0, 0}, groups);
  return as_called(y, input, format);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward_cuda(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
    std::array<bool, 3> output_mask, std::string_view backend, bool check_finite,
    const std::optional<at::Tensor>& grad_density) {
  check_density("conv2d_backward", "grad_density", grad_density, input);
  const Backend wanted = parse_backend("conv2d_backward", backend);
  const ConvShape shape =
      accept_backward(grad_output, input, weight, stride, padding, dilation, groups);
  const c10::cuda::CUDAGuard guard(input.device());
  const auto format = output_format(input, weight);
  const at::Tensor dy = batch(grad_output), x = batch(input);
  const auto sparse = [&](Pass pass) {
    return runs_sparse(shape, pass, x, wanted, check_finite, grad_density);
  };
  at::Tensor dx, dw, db;
  if (output_mask[0] && sparse(Pass::kGradInput)) {
    dx = gathered(shape, Pass::kGradInput, dy, weight, {});
  }
  if (output_mask[1] && sparse(Pass::kGradWeight)) dw = weight_gradient(shape, dy, x);
  const auto cusparse = [&](Pass pass) {
    return runs_cusparse(shape, pass, x, wanted, check_finite);
  };
  const bool cusparse_input = output_mask[0] && cusparse(Pass::kGradInput);
  const bool cusparse_weight = output_mask[1] && cusparse(Pass::kGradWeight);
  if (cusparse_input || cusparse_weight) {
    std::tie(dx, dw) = cusparse_backward(shape, dy, x, weight, cusparse_input, cusparse_weight);
  }
  const bool dense_input = output_mask[0] && !dx.defined();
  const bool dense_weight = output_mask[1] && !dw.defined();
  const bool skips = wanted == Backend::kSparse || wanted == Backend::kCusparse;
  const bool dense_bias = output_mask[2] && !skips;
  if (dense_input || dense_weight || dense_bias) {
    auto [dense_dx, dense_dw, dense_db] = at::convolution_backward(
        dy, x, weight, at::IntArrayRef({shape.K}), stride, padding, dilation, false, {0, 0}, groups,
        {dense_input, dense_weight, dense_bias});
    if (dense_input) dx = dense_dx;
    if (dense_weight) dw = dense_dw;
    if (dense_bias) db = dense_db;
  }
  if (output_mask[2] && !dense_bias) db = at::sum(dy, {0, 2, 3});
  return as_called(dx, dw, db, input, format);
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, CUDA, m) {
  m.impl("conv2d", sparsetrain::conv2d_cuda);
  m.impl("conv2d_backward", sparsetrain::conv2d_backward_cuda);
}
