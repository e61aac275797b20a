// Reading zeros out of live tensors of any strides: counts over channels, and bits.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "workload.h"

namespace sparsetrain::accel {

// A tensor [n, c, h, w] of words of 1, 2, 4 or 8 bytes somewhere in memory. An element is zero when
// its word is, for floats (is_float) with the sign bit left out: -0 is zero, NaN is not.
struct View {
  const char* data;
  std::array<int64_t, 4> shape, strides;  // strides in bytes
  int64_t item_bytes;
  bool is_float;
};

// What Maps needs of one operand, in one pass over it.
struct NonzeroMaps {
  std::vector<int32_t> map;       // [n, h, w]: nonzero channels of a pixel
  std::vector<int64_t> channels;  // [c]: nonzeros over images and pixels
  double row_nnz_var = 0;         // mean over (n, h) of the variance over c of a row's nonzeros
};
NonzeroMaps nonzero_maps(const View& view);

// The first `images` images as bits.
Bitmap pack(const View& view, int64_t images);

}  // namespace sparsetrain::accel
