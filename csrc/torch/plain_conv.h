// Calls of conv2d that no density can make sparse. The Autograd kernel asks first, so that such a
// call becomes torch's own convolution with torch's own derivative, at torch's own cost.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "conv_call.h"

namespace sparsetrain {

// The result, with its derivative recorded. None if the call may run sparse, if it needs help
// against torch's faults, or if something besides the device handles it (see conv_device).
std::optional<at::Tensor> plain_conv2d(const ConvCall& call, c10::DispatchKeySet keys);

}  // namespace sparsetrain
