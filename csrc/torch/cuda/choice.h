// What `auto` goes by on CUDA.
#pragma once

#include <ATen/core/Tensor.h>

#include "../conv_call.h"

namespace sparsetrain {

// The costs of x's device in the precision that a dense convolution of x has now.
CudaSetting cuda_setting(const at::Tensor& x);

}  // namespace sparsetrain
