// The emulator's cub::DeviceScan, with the interface that csrc/kernels/cuda/csr.cu calls: a serial
// scan on the CPU. It overwrites all temporary storage, so that a sanitizer or a wrong result shows
// storage that is too small or that overlaps the operands.
#pragma once

#include <cstddef>
#include <cstring>

#include "cuda_runtime_api.h"

namespace cub {

struct DeviceScan {
  // out[i] = in[0] + ... + in[i - 1] for i in [0, n); in and out may be equal. With storage ==
  // nullptr only bytes is set.
  template <class In, class Out>
  static cudaError_t ExclusiveSum(void* storage, size_t& bytes, const In* in, Out* out, int n,
                                  cudaStream_t) {
    const size_t needed = 1 + static_cast<size_t>(n) / 2;  // some size that depends on n
    if (!storage) {
      bytes = needed;
      return cudaSuccess;
    }
    if (bytes < needed) return cudaErrorInvalidValue;
    std::memset(storage, 0x7f, bytes);
    Out sum{};
    for (int i = 0; i < n; ++i) {
      const Out next = sum + in[i];
      out[i] = sum;
      sum = next;
    }
    return cudaSuccess;
  }
};

}  // namespace cub
