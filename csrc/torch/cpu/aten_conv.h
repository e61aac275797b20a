// ATen's CPU convolution, protected from faults of torch 2.15: for some operands its results are
// wrong or not written, or it writes out of bounds. tests/ops/test_upstream.py has a case of each
// fault. cpu/conv.cpp runs dense passes through it.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

#include "../../shape.h"

namespace sparsetrain {

// Whether torch's own convolution and its derivatives are right without this protection, for
// batched x and w and a dy with any strides: float32, no unusual strides, and no dimension of size
// 1, which would allow them.
bool right_as_it_is(const ConvShape& shape, const at::Tensor& x, const at::Tensor& w);

// y [N,K,P,Q] of batched x and w, in any format. unbatched: whether x was [C,H,W].
at::Tensor aten_forward(const ConvShape& shape, const at::Tensor& x, const at::Tensor& w,
                        const std::optional<at::Tensor>& bias, bool unbatched);

// (dx, dw, db) where the mask asks for them, in any format.
std::tuple<at::Tensor, at::Tensor, at::Tensor> aten_backward(
    const ConvShape& shape, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
    std::array<bool, 3> mask, bool unbatched);

}  // namespace sparsetrain
