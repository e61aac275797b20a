// Memory for density slots that CUDA kernels store into: pinned, and mapped into the addresses of
// every device.
#include "../density.h"

#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

namespace sparsetrain {
namespace {

// A device that has a context already. cudaHostAlloc would make one on the current device.
std::optional<c10::Device> device_with_context() {
  const auto index = c10::cuda::getDeviceIndexWithPrimaryContext();
  if (!index) return std::nullopt;
  return c10::Device(c10::DeviceType::CUDA, *index);
}

// Under unified addressing, which 64-bit systems have, host and devices use the same address.
double* allocate(size_t count) {
  const c10::OptionalDeviceGuard guard(device_with_context());
  void* page = nullptr;
  C10_CUDA_CHECK(
      cudaHostAlloc(&page, count * sizeof(double), cudaHostAllocPortable | cudaHostAllocMapped));
  return static_cast<double*>(page);
}

const bool registered = (register_cuda_slot_memory(allocate), true);

}  // namespace
}  // namespace sparsetrain
