// What the vector code needs of the compiler: forced inlining, and loops unrolled while parsing.
#pragma once

#include <cstdint>
#include <utility>

// Forced, so that the register arrays of the kernels never live in memory.
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace sparsetrain {

template <int kConstant>
struct Constant {
  static constexpr int kValue = kConstant;
  constexpr operator int() const { return kConstant; }
};

}  // namespace sparsetrain
