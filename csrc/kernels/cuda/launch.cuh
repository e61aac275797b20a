// How kernels are started: a function call, so that the sources are plain C++ but for their
// attributes, and run on a CPU too, in tests/cpp/emulator.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sparsetrain::cuda {

constexpr int kWarp = 32;

// kernel(arguments...) on `blocks` blocks of `threads` threads; nothing at all for no blocks.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), int64_t blocks, int threads, cudaStream_t stream,
                   Arguments... arguments) {
  if (blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// The density of a tensor for a host that does not wait: one store of eight bytes that the whole
// system sees, which is what volatile makes of it. NaN for no elements.
__device__ __forceinline__ void tell_density(double* density, int64_t nonzeros, int64_t elements) {
  if (!density) return;
  *static_cast<volatile double*>(density) =
      static_cast<double>(nonzeros) / static_cast<double>(elements);
}

}  // namespace sparsetrain::cuda
