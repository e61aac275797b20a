// Counts the nonzeros of a tensor on every n-th call (api.h); csrc/torch/cuda/prune.cpp calls it
// for operator `count_nonzeros`. The number of the call is kept on the device, so that the host
// never waits and a CUDA graph can replay the call.
#include "api.h"
#include "launch.cuh"
#include "packs.cuh"

namespace sparsetrain::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1024;  // each has one result, and one block adds them

// Whether this call counts.
__device__ __forceinline__ bool due(const double* state, int64_t every) {
  return static_cast<int64_t>(state[state::kCalls]) % every == 0;
}

// Adds the counts of all threads of a block; thread 0 gets the sum.
__device__ int64_t block_sum(int64_t count) {
  __shared__ int64_t warp[kThreads / kWarp];
  count = warp_sum(count);
  if (threadIdx.x % kWarp == 0) warp[threadIdx.x / kWarp] = count;
  __syncthreads();
  count = 0;
  if (threadIdx.x == 0) {
    for (const int64_t part : warp) count += part;
  }
  return count;
}

// Counts the nonzeros of data; counts[gridDim.x] receives one count a block.
template <class T>
__global__ void __launch_bounds__(kThreads)
    count_kernel(const T* __restrict__ data, int64_t elements, bool aligned, int64_t every,
                 const double* __restrict__ state, int64_t* __restrict__ counts) {
  if (!due(state, every)) return;
  int64_t count = 0;
  const int64_t step = int64_t{gridDim.x} * kThreads * kPack;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kPack; i < elements;
       i += step) {
    T v[kPack];
    load_pack(data + i, elements - i, aligned, v);
#pragma unroll
    for (int j = 0; j < kPack; ++j) count += Storage<T>::load(v[j]) != 0;
  }
  count = block_sum(count);
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// Adds the counts of all blocks and updates state and density; runs in one block.
__global__ void __launch_bounds__(kThreads)
    count_nonzeros_kernel(const int64_t* __restrict__ counts, int64_t blocks, int64_t elements,
                          int64_t every, double* __restrict__ state, double* density) {
  // Read before the barrier in block_sum(): thread 0 increments the counter of calls after it.
  const bool counted = due(state, every);
  int64_t count = 0;
  if (counted) {
    for (int64_t i = threadIdx.x; i < blocks; i += kThreads) count += counts[i];
  }
  count = block_sum(count);
  if (threadIdx.x != 0) return;
  state[state::kCalls] += 1;
  if (!counted) return;
  state[state::kCountedElements] = static_cast<double>(elements);
  state[state::kCountedNonzeros] = static_cast<double>(count);
  store_density(density, count, elements);
}

int64_t blocks_to_count(int64_t elements) {
  const int64_t blocks = blocks_for(elements, kThreads * kPack);
  return blocks < kMostBlocks ? blocks : kMostBlocks;
}

}  // namespace

int64_t count_nonzeros_scratch_bytes(int64_t elements) {
  return blocks_to_count(elements) * static_cast<int64_t>(sizeof(int64_t));
}

template <class T>
cudaError_t count_nonzeros(const T* data, int64_t elements, int64_t every, double* state,
                           double* density, void* scratch, cudaStream_t stream) {
  const int64_t blocks = blocks_to_count(elements);
  auto* counts = static_cast<int64_t*>(scratch);
  const cudaError_t error = launch(count_kernel<T>, blocks, kThreads, stream, data, elements,
                                   aligned(data), every, state, counts);
  if (error) return error;
  return launch(count_nonzeros_kernel, 1, kThreads, stream, counts, blocks, elements, every, state,
                density);
}

#define SPARSETRAIN_INSTANTIATE(T)                                                            \
  template cudaError_t count_nonzeros<T>(const T*, int64_t, int64_t, double*, double*, void*, \
                                         cudaStream_t);
SPARSETRAIN_INSTANTIATE(float)
SPARSETRAIN_INSTANTIATE(double)
SPARSETRAIN_INSTANTIATE(BFloat16)
SPARSETRAIN_INSTANTIATE(Half)
#undef SPARSETRAIN_INSTANTIATE

}  // namespace sparsetrain::cuda
