// The properties of an instruction set that plans depend on, and a check of 32-bit offsets. Used by
// both plans and by csrc/choice.
#pragma once

#include <cstdint>

namespace sparsetrain {

struct VectorShape {
  int width = 0;         // scalars in a vector
  int registers = 0;     // vector registers
  int scalar_bytes = 0;  // 4 or 8
};

// Whether a * b fits into 32 bits, for a, b >= 0. Entries of lists are counted in 32 bits.
constexpr bool fits_32_bits(int64_t a, int64_t b) { return b == 0 || a <= 0xffffffff / b; }

}  // namespace sparsetrain
