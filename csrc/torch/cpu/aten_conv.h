// ATen's CPU convolution, kept from what torch 2.15 gets wrong: for some operands its results are
// wrong or not written, or it writes out of bounds. tests/test_upstream.py has a case of each.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

#include "../../shape.h"

namespace sparsetrain {

// Whether torch's own convolution and its derivatives need none of this care for batched x and w,
// whatever the strides of dy: float32, no odd strides, no dimension of size 1 that allows some.
bool right_as_it_is(const ConvShape& shape, const at::Tensor& x, const at::Tensor& w);

// y [N,K,P,Q] of batched x and w, in any format. unbatched: x was [C,H,W] before.
at::Tensor dense_forward(const ConvShape& shape, const at::Tensor& x, const at::Tensor& w,
                         const std::optional<at::Tensor>& bias, bool unbatched);

// (dx, dw, db) where mask asks for them, in any format.
std::tuple<at::Tensor, at::Tensor, at::Tensor> dense_backward(
    const ConvShape& shape, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
    std::array<bool, 3> mask, bool unbatched);

}  // namespace sparsetrain
