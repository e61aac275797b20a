// Forced inlining, and integer constants as types for unroll.inl. Used by the files of each
// instruction set.
#pragma once

#include <cstdint>
#include <utility>

// Inlining is forced so that the kernels' arrays of vectors stay in registers.
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace sparsetrain {

// The constant kConstant as a value whose type carries it.
template <int kConstant>
struct Constant {
  static constexpr int kValue = kConstant;
  constexpr operator int() const { return kConstant; }
};

}  // namespace sparsetrain
