// How the correlate loop cuts a grad_weight pass: bands of dy whose x fits into L1, blocks of input
// channels, ranges of output channels.
#pragma once

#include <cstdint>

#include "../../shape.h"
#include "vector_shape.h"

namespace sparsetrain {

// Kernel rows [row, row + rows) and taps [tap, tap + taps) that one walk along a list serves.
struct TapBox {
  int64_t row, tap;
  int rows, taps;
};

// A band: images [image, image + images), rows [row, row + rows), columns [column, column +
// columns) of dy. Several images only when they are whole.
struct Band {
  int64_t image, images, row, rows, column, columns;
  int64_t pixels() const { return images * rows * columns; }
};

struct GradWeightPlan {
  ConvShape shape;
  int64_t channels_in = 0, channels_out = 0;                 // a group: of x, of dy
  int registers = 0;                                         // vectors of x channels a pixel
  int64_t block = 0, blocks = 0;                             // x channels a block, blocks a group
  int64_t set = 0;                                           // blocks whose x is copied together
  int64_t sets = 0;                                          // a group
  int64_t splits = 0;                                        // ranges of output channels a group
  int64_t band_images = 0, band_rows = 0, band_columns = 0;  // largest band
  VectorShape vector;
  bool swapped = false;  // shape is swapped_operands(): the result is wanted as [C,K,R,S], reversed

  // Deals the work to so many threads: smaller sets, then ranges of output channels. The order of
  // every sum stays the same.
  void divide_among(int threads);

  int64_t tasks() const { return shape.groups * sets * splits; }
  int64_t row_bands() const { return (shape.P() + band_rows - 1) / band_rows; }
  int64_t column_bands() const { return (shape.Q() + band_columns - 1) / band_columns; }
  int64_t bands() const {
    return (shape.N + band_images - 1) / band_images * row_bands() * column_bands();
  }
  Band band(int64_t index) const;

  // The padded copy of x that a band needs, in pixels.
  int64_t copy_rows(int64_t rows) const {
    return (rows - 1) * shape.stride_h + (shape.R - 1) * shape.dilation_h + 1;
  }
  int64_t copy_columns() const {
    return (band_columns - 1) * shape.stride_w + (shape.S - 1) * shape.dilation_w + 1;
  }
  int64_t copy_pixels() const { return band_images * copy_rows(band_rows) * copy_columns(); }

  // Lengths of the arrays that the caller provides, in elements or bytes.
  int64_t band_entries() const {
    return band_images * band_rows * band_columns * shape.K + vector.width;
  }
  int64_t list_entries() const { return bands() * band_entries(); }
  int64_t list_starts() const { return bands() * (shape.K + 1); }
  int64_t stream_entries() const;  // from one of them to the next
  int64_t list_scratch_bytes() const;
  // Lists that are built side by side.
  static constexpr int streams(int width) { return 4 * width; }
  int64_t split_channels() const { return (channels_out + splits - 1) / splits; }
  int64_t sum_scalars() const { return set * split_channels() * shape.R * shape.S * block; }
  int64_t scratch_bytes() const {
    return (set * copy_pixels() * block + sum_scalars()) * vector.scalar_bytes;
  }

  // Whether the 32 bits of list entries reach: counts of a band's nonzeros.
  bool fits() const;

  int64_t boxes() const;
  TapBox box(int64_t index) const;
};

// threads: how many will take tasks; changes how work is dealt, not the order of any sum.
GradWeightPlan plan_grad_weight(const ConvShape& shape, VectorShape vector, int threads);

}  // namespace sparsetrain
