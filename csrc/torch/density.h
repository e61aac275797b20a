// Densities (nonzeros / elements) that steer which kernels run: float64 numbers of no dimension on
// the CPU. A caller may pass a number that it knows. A layer passes a slot: memory into which
// pruning and counting store the density of what they wrote or read.
//
// On CUDA, kernels store into the slot while the host goes on, so that the host may read the
// density of an earlier tensor. On the CPU, prune_step stores before it returns. A choice by such a
// density is the same in a run that was resumed, because it never depends on an earlier step:
// SparseConv2d passes the slot of its pruner only in calls whose gradient that pruner prunes, so
// that the backward pass reads what was stored in the same pass, by the node directly before it.
// Counting stores nothing on the CPU: it counts every n-th tensor only, so that its slot would hold
// a value that a resumed run does not have, and measuring would change which kernels run.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace sparsetrain {

// The number that a density holds now. NaN, which means unknown, for none.
double density_in(const std::optional<at::Tensor>& density);

// A slot for tensors on such a device, NaN at first. None if the library was built without support
// for the device. Needs a GPU for CUDA.
std::optional<at::Tensor> new_density_slot(c10::DeviceType device);

// Stores into a slot from the host, where another thread may read it at the same time.
void store_density(double* slot, double density);

// Where to store a density of a tensor on such a device. Null for none, and for a number that is no
// slot for the device, such as a copy of a slot: stores into other tensors would be undeclared
// changes of the operators' arguments.
double* slot_memory(const std::optional<at::Tensor>& density, c10::DeviceType device);

// Memory for `count` slots that every GPU can store into. It is never freed.
using AllocateSlots = double* (*)(size_t count);
// The CUDA part calls this as it is loaded.
void register_cuda_slot_memory(AllocateSlots allocate);

}  // namespace sparsetrain
