// The gradients of a convolution by cuSPARSE on CUDA tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

#include "../../shape.h"

namespace sparsetrain {

// (dx, dw), an undefined tensor for the one not wanted, in whatever format; dy [N,K,P,Q],
// x [N,C,H,W], w [K,C,R,S] with any strides on the current device. For shapes and passes for which
// choose_on_cuda() answers kCusparse, outside of a capture.
//
// Waits for the device, once: the library takes the number of nonzeros from the host.
std::pair<at::Tensor, at::Tensor> cusparse_backward(const ConvShape& shape, const at::Tensor& dy,
                                                    const at::Tensor& x, const at::Tensor& w,
                                                    bool wants_input, bool wants_weight);

}  // namespace sparsetrain
