// The gradients of a convolution by cuSPARSE, on CUDA tensors. cuda/conv.cpp calls it for backend
// "cusparse".
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

#include "../../shape.h"

namespace sparsetrain {

// (dx, dw) in any memory format; `input` and `weight` ask for them, and the other one is undefined.
// dy [N,K,P,Q], x [N,C,H,W], w [K,C,R,S] with any strides, on the current device. For shapes and
// passes for which choose_on_cuda() answers kCusparse, and not while a CUDA graph is captured.
//
// Waits for the device once, because cuSPARSE takes the number of nonzeros from the host.
std::pair<at::Tensor, at::Tensor> cusparse_backward(const ConvShape& shape, const at::Tensor& dy,
                                                    const at::Tensor& x, const at::Tensor& w,
                                                    bool input, bool weight);

}  // namespace sparsetrain
