// Eight neighbouring elements at once: 16-byte accesses where they may be used, single ones at the
// end of a tensor and in storage that is not aligned.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "../common/storage.h"

namespace sparsetrain::cuda {

constexpr int kPack = 8;

// Whether packs that begin at multiples of kPack elements of p may be accessed by 16 bytes.
inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// v = p[0, 8), with zeros from `left` on. `left` may be negative.
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

// p[0, min(8, left)) = v.
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

// The sum of one value a lane, in every lane.
template <class V>
__device__ __forceinline__ V warp_sum(V value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, lanes);
  }
  return value;
}

}  // namespace sparsetrain::cuda
