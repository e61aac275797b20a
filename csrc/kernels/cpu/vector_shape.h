// What a plan has to know of an instruction set, and of the lists that kernels make.
#pragma once

#include <cstdint>

namespace sparsetrain {

struct VectorShape {
  int width = 0;         // scalars a vector
  int registers = 0;     // vector registers
  int scalar_bytes = 0;  // 4 or 8
};

// Whether a * b, neither of them negative, is below 2^32: entries of lists count in 32 bits.
constexpr bool fits_32_bits(int64_t a, int64_t b) { return b == 0 || a <= 0xffffffff / b; }

}  // namespace sparsetrain
