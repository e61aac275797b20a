// The slots of densities as CUDA kernels see them.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace sparsetrain {

// Where a kernel on any device may store a density for `slot`; null for none, and for a number that
// is no slot, as a copy of one is.
double* device_slot(const std::optional<at::Tensor>& slot);

}  // namespace sparsetrain
