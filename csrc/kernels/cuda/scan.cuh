// Counts to places: where each of many lists begins when all are written one behind the other.
#pragma once

#include "../common/host_device.h"
#include "launch.cuh"

namespace sparsetrain::cuda {

constexpr int kScanThreads = 256;
constexpr int kLists = 8, kTile = kScanThreads * kLists;  // lists of a thread, of a block

inline int64_t blocks_for(int64_t items, int64_t each) { return (items + each - 1) / each; }

// Counts of lists, then where each begins in its tile; and the same of the tiles.
struct Starts {
  int *list, *tile;

  Starts(void* memory, int64_t lists) : list(static_cast<int*>(memory)), tile(list + lists) {}
  SPARSETRAIN_HOST_DEVICE int operator[](int i) const { return list[i] + tile[i / kTile]; }
};

inline int64_t starts_bytes(int64_t lists) {
  return (lists + blocks_for(lists, kTile)) * static_cast<int64_t>(sizeof(int));
}

// The sum of `value` over the block's threads before this one, and over all of them in *total.
inline __device__ int sum_before(int value, int* total) {
  __shared__ int sums[kScanThreads];
  const int own = threadIdx.x;
  sums[own] = value;
  __syncthreads();
  for (int distance = 1; distance < kScanThreads; distance *= 2) {
    const int before = own >= distance ? sums[own - distance] : 0;
    __syncthreads();
    sums[own] += before;
    __syncthreads();
  }
  const int behind = sums[own];
  *total = sums[kScanThreads - 1];
  __syncthreads();  // the next call writes
  return behind - value;
}

// Counts to starts, in each tile by itself; tiles[i] is the sum of tile i.
static __global__ void __launch_bounds__(kScanThreads)
    scan_lists_kernel(int* __restrict__ counts, int64_t lists, int* __restrict__ tiles) {
  const int64_t first = int64_t{blockIdx.x} * kTile + threadIdx.x * kLists;
  int count[kLists], sum = 0, total;
#pragma unroll
  for (int i = 0; i < kLists; ++i) {
    count[i] = first + i < lists ? counts[first + i] : 0;
    sum += count[i];
  }
  int start = sum_before(sum, &total);
#pragma unroll
  for (int i = 0; i < kLists; ++i) {
    if (first + i < lists) counts[first + i] = start;
    start += count[i];
  }
  if (threadIdx.x == 0) tiles[blockIdx.x] = total;
}

// The sums of tiles to starts, by one block.
static __global__ void __launch_bounds__(kScanThreads)
    scan_tiles_kernel(int* __restrict__ sums, int tiles, int64_t* __restrict__ entries) {
  int behind = 0, total;
  for (int first = 0; first < tiles; first += kScanThreads) {
    const int tile = first + static_cast<int>(threadIdx.x);
    const int start = behind + sum_before(tile < tiles ? sums[tile] : 0, &total);
    if (tile < tiles) sums[tile] = start;
    behind += total;
  }
  if (threadIdx.x == 0) *entries = behind;
}

// Counts in starts.list to starts, their sum to *entries.
inline cudaError_t scan(const Starts& starts, int64_t lists, int64_t* entries,
                        cudaStream_t stream) {
  const int64_t tiles = blocks_for(lists, kTile);
  const cudaError_t error =
      launch(scan_lists_kernel, tiles, kScanThreads, stream, starts.list, lists, starts.tile);
  if (error) return error;
  return launch(scan_tiles_kernel, 1, kScanThreads, stream, starts.tile, static_cast<int>(tiles),
                entries);
}

}  // namespace sparsetrain::cuda
