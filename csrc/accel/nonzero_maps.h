// Counts of nonzeros, and bits, of tensors in CPU memory with any strides and element type. Used by
// sparsetrain.accel.record through the bindings.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "workload.h"

namespace sparsetrain::accel {

// A tensor [n, c, h, w] in memory, read as words of 1, 2, 4 or 8 bytes. An element is zero if its
// word is 0. For floating point types (is_float) the sign bit is ignored: -0 is zero, NaN is not.
struct View {
  const char* data;
  std::array<int64_t, 4> shape, strides;  // strides in bytes
  int64_t item_bytes;
  bool is_float;
};

// The members of Maps that one operand fills.
struct NonzeroMaps {
  std::vector<int32_t> map;       // [n, h, w]: nonzero channels of a pixel
  std::vector<int64_t> channels;  // [c]: nonzeros over images and pixels
  double row_nnz_var = 0;         // mean over (n, h) of the variance over c of a row's nonzeros
};
// Reads the tensor once.
NonzeroMaps nonzero_maps(const View& view);

// A bitmap of the first `images` images.
Bitmap pack(const View& view, int64_t images);

}  // namespace sparsetrain::accel
