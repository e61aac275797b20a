// The fast sparse convolutions on tensors: memory and threads for csrc/kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>

#include "../shape.h"

namespace sparsetrain {

// y [N,K,P,Q] in `format`; x [N,C,H,W], w [K,C/groups,R,S], bias [K]. Any floating dtype, any
// strides. Skips the zeros of x.
at::Tensor sparse_forward(const ConvShape& shape, const at::Tensor& x, const at::Tensor& w,
                          const std::optional<at::Tensor>& bias, at::MemoryFormat format);

// (dx, dw) in `format`, an undefined tensor for the one not wanted. Skips the zeros of dy.
std::pair<at::Tensor, at::Tensor> sparse_backward(const ConvShape& shape, const at::Tensor& dy,
                                                  const at::Tensor& x, const at::Tensor& w,
                                                  bool want_input, bool want_weight,
                                                  at::MemoryFormat format);

}  // namespace sparsetrain
