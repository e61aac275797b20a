// A density that reaches the host without waiting: a float64 number in memory that the device
// stores into, now and then, and the host reads as it is. It is late by what the device still has
// to do, so that it may steer which kernels run and nothing else.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace sparsetrain {

// What `slot` holds now; NaN, which is not known, for none.
double density_in(const std::optional<at::Tensor>& slot);

// A slot that CUDA kernels can store into, a float64 number on the CPU, NaN at first; none where
// the library was built without CUDA. Needs a device.
std::optional<at::Tensor> new_density_slot();

// What makes them: set by the CUDA part as it is loaded.
void set_density_slots(at::Tensor (*make)());

}  // namespace sparsetrain
