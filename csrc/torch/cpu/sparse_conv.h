// The fast sparse convolutions on tensors: memory and threads for csrc/kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>

#include "../../shape.h"

namespace sparsetrain {

// y [N,K,P,Q] in `format`; x [N,C,H,W], w [K,C/groups,R,S], bias [K]. Any floating dtype, any
// strides. Skips the zeros of x.
at::Tensor sparse_forward(const ConvShape& shape, const at::Tensor& x, const at::Tensor& w,
                          const std::optional<at::Tensor>& bias, at::MemoryFormat format);

// (dx, dw) in `format`, an undefined tensor for the one not wanted. dx skips the zeros of dy, dw
// those of dy, or those of x if skips_input_zeros, which needs has_swapped_operands(shape).
//
// Each gradient compresses dy into lists of its own, per pixel and per channel. One compression for
// both was slower: making channel lists of pixel lists is an append a nonzero, 3.5 to 7 ns each,
// while block transposes of the dense tensor make them at .28 ns an element (Zen 4): even at
// density .1.
struct Wanted {
  bool input, weight, skips_input_zeros;
};
std::pair<at::Tensor, at::Tensor> sparse_backward(const ConvShape& shape, const at::Tensor& dy,
                                                  const at::Tensor& x, const at::Tensor& w,
                                                  Wanted wanted, at::MemoryFormat format);

// The bias's gradient [K]: the sums of dy's channels, each in one order. at::sum's order depends on
// the number of threads.
at::Tensor sparse_bias_grad(const at::Tensor& dy);

}  // namespace sparsetrain
