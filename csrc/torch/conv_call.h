// One convolution call as the kernels see it: shape and dtype of its operands.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "../choice/choose.h"

namespace sparsetrain {

// A single image as a batch of one.
inline at::Tensor batch(const at::Tensor& t) { return t.dim() == 3 ? t.unsqueeze(0) : t; }

// A type that no operator takes counts as float32.
inline DType dtype_of(const at::Tensor& t) {
  switch (t.scalar_type()) {
    case at::kDouble:
      return DType::kFloat64;
    case at::kBFloat16:
      return DType::kBFloat16;
    case at::kHalf:
      return DType::kFloat16;
    default:
      return DType::kFloat32;
  }
}

// x and w batched.
inline ConvShape shape_of(const at::Tensor& x, const at::Tensor& w, at::IntArrayRef stride,
                          at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  return {.N = x.size(0),
          .C = x.size(1),
          .H = x.size(2),
          .W = x.size(3),
          .K = w.size(0),
          .R = w.size(2),
          .S = w.size(3),
          .stride_h = stride[0],
          .stride_w = stride[1],
          .pad_h = padding[0],
          .pad_w = padding[1],
          .dilation_h = dilation[0],
          .dilation_w = dilation[1],
          .groups = groups};
}

// The sizes of a call's result, of operands that pass every check.
c10::SymDimVector check_forward(const at::Tensor& input, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                                c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                                const c10::SymInt& groups);
void check_backward(const at::Tensor& grad_output, const at::Tensor& input,
                    const at::Tensor& weight, c10::SymIntArrayRef stride,
                    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                    const c10::SymInt& groups);

// The shape of a call of conv2d whose operands pass every check, batched.
ConvShape accept_forward(const at::Tensor& input, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                         at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups);
// The same of conv2d_backward.
ConvShape accept_backward(const at::Tensor& grad_output, const at::Tensor& input,
                          const at::Tensor& weight, at::IntArrayRef stride, at::IntArrayRef padding,
                          at::IntArrayRef dilation, int64_t groups);

// Results of batched operands as the caller gets them: of input's rank, in `format`, and empty
// where undefined.
at::Tensor as_called(const at::Tensor& result, const at::Tensor& input, at::MemoryFormat format);
std::tuple<at::Tensor, at::Tensor, at::Tensor> as_called(const at::Tensor& dx, const at::Tensor& dw,
                                                         const at::Tensor& db,
                                                         const at::Tensor& input,
                                                         at::MemoryFormat format);

}  // namespace sparsetrain
