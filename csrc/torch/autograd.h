// The convolution with its derivative, for a device that has something to decide before.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace sparsetrain {

at::Tensor differentiable_conv2d(const at::Tensor& input, const at::Tensor& weight,
                                 const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                                 c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                                 c10::SymInt groups, std::string_view backend, bool check_finite,
                                 const std::optional<at::Tensor>& input_density,
                                 const std::optional<at::Tensor>& grad_density);

}  // namespace sparsetrain
