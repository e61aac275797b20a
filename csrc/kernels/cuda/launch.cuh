// Launching CUDA kernels by a function call. Without the <<<>>> syntax the sources are plain C++
// except for their attributes, so tests/cpp/emulator can run them on a CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sparsetrain::cuda {

constexpr int kWarp = 32;  // threads of a warp

// Blocks needed for `items` items of which each block takes `items_per_block`.
inline int64_t blocks_for(int64_t items, int64_t items_per_block) {
  return (items + items_per_block - 1) / items_per_block;
}

// Enqueues kernel(arguments...) with `blocks` blocks of `threads` threads; does nothing for 0
// blocks, which CUDA would reject.
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

// Stores nonzeros / elements in *density unless density is nullptr; NaN for 0 elements. The host
// may read *density at any time, so the value must arrive in one piece: a volatile double is
// written by a single 8-byte store that is visible to the whole system.
__device__ __forceinline__ void store_density(double* density, int64_t nonzeros, int64_t elements) {
  if (!density) return;
  *static_cast<volatile double*>(density) =
      static_cast<double>(nonzeros) / static_cast<double>(elements);
}

}  // namespace sparsetrain::cuda
