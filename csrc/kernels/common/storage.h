// The storage types of tensors, and the type in which each is computed. Used by all kernels.
#pragma once

#include <bit>
#include <cstdint>

#include "host_device.h"

namespace sparsetrain {

// 16-bit floating-point numbers as raw bits: bfloat16, and IEEE 754 half precision.
struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// For a storage type T:
//   Compute    the type of comparisons, products and sums
//   load       converts to Compute, exactly
//   store      rounds to T: to nearest, ties to even
//   copy_sign  the bits of `magnitude` with the sign bit of `sign`; NaN included
template <class T>
struct Storage;

template <>
struct Storage<float> {
  using Compute = float;
  SPARSETRAIN_HOST_DEVICE static float load(float v) { return v; }
  SPARSETRAIN_HOST_DEVICE static float store(float v) { return v; }
  SPARSETRAIN_HOST_DEVICE static float copy_sign(float magnitude, float sign) {
    const uint32_t bits = std::bit_cast<uint32_t>(magnitude) & 0x7fffffffu;
    return std::bit_cast<float>(bits | (std::bit_cast<uint32_t>(sign) & 0x80000000u));
  }
};

template <>
struct Storage<double> {
  using Compute = double;
  SPARSETRAIN_HOST_DEVICE static double load(double v) { return v; }
  SPARSETRAIN_HOST_DEVICE static double store(double v) { return v; }
  SPARSETRAIN_HOST_DEVICE static double copy_sign(double magnitude, double sign) {
    const uint64_t bits = std::bit_cast<uint64_t>(magnitude) & ~(uint64_t{1} << 63);
    return std::bit_cast<double>(bits | (std::bit_cast<uint64_t>(sign) & (uint64_t{1} << 63)));
  }
};

template <>
struct Storage<BFloat16> {
  using Compute = float;
  SPARSETRAIN_HOST_DEVICE static float load(BFloat16 v) {
    return std::bit_cast<float>(uint32_t{v.bits} << 16);
  }
  // Every NaN becomes the quiet NaN 0x7fc0: rounding its bits could carry into infinity.
  SPARSETRAIN_HOST_DEVICE static BFloat16 store(float v) {
    if (v != v) return {0x7fc0};
    const uint32_t bits = std::bit_cast<uint32_t>(v);
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
  }
  SPARSETRAIN_HOST_DEVICE static BFloat16 copy_sign(BFloat16 magnitude, BFloat16 sign) {
    return {static_cast<uint16_t>((magnitude.bits & 0x7fff) | (sign.bits & 0x8000))};
  }
};

template <>
struct Storage<Half> {
  using Compute = float;
  // Shifts exponent and mantissa to their places in a float, then multiplies by 2^112, the
  // difference of the exponent biases. Subnormals are converted as integers: shifted they would be
  // float subnormals, which processors in flush-to-zero mode read as 0. Inf and NaN get float's
  // exponent.
  SPARSETRAIN_HOST_DEVICE static float load(Half v) {
#ifdef __CUDA_ARCH__
    float loaded;  // the GPU has an instruction for this conversion
    asm("cvt.f32.f16 %0, %1;" : "=f"(loaded) : "h"(v.bits));
    return loaded;
#endif
    const uint32_t magnitude = uint32_t{v.bits & 0x7fffu} << 13;
    const bool subnormal = (v.bits & 0x7c00) == 0;
    float value = subnormal ? static_cast<float>(v.bits & 0x3ff) * 0x1p-24f
                            : std::bit_cast<float>(magnitude) * 0x1p112f;
    if ((v.bits & 0x7c00) == 0x7c00) value = std::bit_cast<float>(magnitude | 0x7f800000u);
    const uint32_t sign = uint32_t{v.bits & 0x8000u} << 16;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  SPARSETRAIN_HOST_DEVICE static Half store(float v) {
    const uint32_t bits = std::bit_cast<uint32_t>(v);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return {static_cast<uint16_t>(sign | 0x7e00)};
    if (magnitude >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};  // >= 65520: Inf
    if (magnitude < 0x38800000) {
      // Below 2^-14: subnormal in half. The last place of floats in [0.5, 1) is the step of half's
      // subnormals, so the addition rounds to a multiple of that step.
      const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
      return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000))};
    }
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000;
    return {static_cast<uint16_t>(sign | rounded >> 13)};
  }
  SPARSETRAIN_HOST_DEVICE static Half copy_sign(Half magnitude, Half sign) {
    return {static_cast<uint16_t>((magnitude.bits & 0x7fff) | (sign.bits & 0x8000))};
  }
};

}  // namespace sparsetrain
