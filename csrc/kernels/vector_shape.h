// What a plan has to know of an instruction set.
#pragma once

namespace sparsetrain {

struct VectorShape {
  int width;         // scalars a vector
  int registers;     // vector registers
  int scalar_bytes;  // 4 or 8
};

}  // namespace sparsetrain
