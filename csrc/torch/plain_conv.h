// The convolution on the CPU, as its derivative sees it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace sparsetrain {

// Torch's own convolution, with torch's own derivative, for a call of conv2d whose passes all run
// dense whatever the operands hold and which torch computes right as it is: depthwise, dilated and
// tiny layers pay nothing for asking. Null for every other call, and where somebody watches: a
// dispatch mode sees sparsetrain's operators.
std::optional<at::Tensor> torch_conv2d(const at::Tensor& input, const at::Tensor& weight,
                                       const std::optional<at::Tensor>& bias,
                                       c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                       c10::SymIntArrayRef dilation, const c10::SymInt& groups,
                                       std::string_view backend);

}  // namespace sparsetrain
