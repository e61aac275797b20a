// Loads and stores of packs (eight neighboring elements) for prune.cu, count_nonzeros.cu and
// product.cuh: 16-byte accesses where alignment allows, single elements elsewhere.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "../common/storage.h"

namespace sparsetrain::cuda {

constexpr int kPack = 8;  // elements

// Whether packs at multiples of kPack elements from p may use 16-byte accesses.
inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Loads v[i] = p[i] for i < left and sets v[i] = 0 for all others; left may be negative. aligned: p
// is aligned to 16 bytes.
template <class T>
__device__ __forceinline__ void load_pack(const T* p, int64_t left, bool aligned, T (&v)[kPack]) {
  if (aligned && left >= kPack) {
    constexpr int kParts = kPack * sizeof(T) / sizeof(uint4);
    uint4 part[kParts];
#pragma unroll
    for (int i = 0; i < kParts; ++i) part[i] = reinterpret_cast<const uint4*>(p)[i];
    std::memcpy(v, part, sizeof(v));
  } else {
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = i < left ? p[i] : T{};
  }
}

// Stores p[i] = v[i] for i < left. aligned: p is aligned to 16 bytes.
template <class T>
__device__ __forceinline__ void store_pack(T* p, int64_t left, bool aligned, const T (&v)[kPack]) {
  if (aligned && left >= kPack) {
    constexpr int kParts = kPack * sizeof(T) / sizeof(uint4);
    uint4 part[kParts];
    std::memcpy(part, v, sizeof(v));
#pragma unroll
    for (int i = 0; i < kParts; ++i) reinterpret_cast<uint4*>(p)[i] = part[i];
  } else {
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      if (i < left) p[i] = v[i];
    }
  }
}

// The sum of `value` over the 32 lanes of the warp, returned to every lane.
template <class V>
__device__ __forceinline__ V warp_sum(V value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, lanes);
  }
  return value;
}

}  // namespace sparsetrain::cuda
