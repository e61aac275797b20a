// The plan of a grad_weight pass on the CPU: how grad_weight.inl cuts it into bands of dy, blocks
// of input channels and ranges of output channels, and how much memory it needs. Used by the
// kernels, csrc/torch/cpu/sparse_conv.cpp and the costs in csrc/choice.
#pragma once

#include <cstdint>

#include "../../shape.h"
#include "vector_shape.h"

namespace sparsetrain {

// The taps that one walk along a list serves: kernel rows [row, row + rows), taps [tap, tap + taps)
// of each.
struct TapBox {
  int64_t row, tap;
  int rows, taps;
};

// A part of dy whose padded copy of x fits into L1: ranges of images, rows and columns, each given
// by its first element and its length. Only bands of whole images have several images.
struct Band {
  int64_t image, images, row, rows, column, columns;
  int64_t pixels() const { return images * rows * columns; }
};

struct GradWeightPlan {
  ConvShape shape;
  int64_t channels_in = 0, channels_out = 0;  // of x and of dy, in one group
  int registers = 0;                          // vectors of x's channels in a block
  int64_t block = 0;                          // channels of a block: registers * vector.width
  int64_t blocks = 0;                         // blocks in one group
  int64_t set = 0;                            // blocks of a set: their x is copied together
  int64_t sets = 0;                           // sets in one group
  int64_t splits = 0;                         // ranges of output channels in one group
  int64_t band_images = 0, band_rows = 0, band_columns = 0;  // of the largest band
  VectorShape vector;
  // The zeros of x are skipped instead of those of dy: `shape` is swapped_operands() of the real
  // shape (csrc/choice), the source of the lists is the real x, the operand `x` is the real dy, and
  // the result is stored transposed and reversed, as [C,K,R,S] of the swapped shape. Set by the
  // caller.
  bool swapped = false;

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
  int64_t split_channels() const { return (channels_out + splits - 1) / splits; }

  // Pixels of the padded copy of x for a band with `rows` rows, by image.
  int64_t copy_rows(int64_t rows) const {
    return (rows - 1) * shape.stride_h + (shape.R - 1) * shape.dilation_h + 1;
  }
  int64_t copy_columns() const {
    return (band_columns - 1) * shape.stride_w + (shape.S - 1) * shape.dilation_w + 1;
  }
  int64_t copy_pixels() const { return band_images * copy_rows(band_rows) * copy_columns(); }

  // Lengths of the arrays of ChannelLists, in elements.
  int64_t band_entries() const {  // capacity for the entries of one band
    return band_images * band_rows * band_columns * shape.K + vector.width;
  }
  int64_t list_entries() const { return bands() * band_entries(); }
  int64_t list_starts() const { return bands() * (shape.K + 1); }

  // Bytes of scratch of build_channel_lists: the streams (lists of one channel that grow side by
  // side while a channels_last band is transposed), and one offset a pixel of the band.
  int64_t list_scratch_bytes() const;
  int64_t stream_entries() const;  // elements from one stream to the next
  static constexpr int streams(int width) { return 4 * width; }
  // Bytes of scratch of grad_weight: the padded copies and the sums of one set.
  int64_t scratch_bytes() const {
    return (set * copy_pixels() * block + sum_scalars()) * vector.scalar_bytes;
  }
  int64_t sum_scalars() const { return set * split_channels() * shape.R * shape.S * block; }

  // Whether 32 bits suffice for the entries of a band and for the offsets into a padded copy. The
  // kernels must not run with a plan that does not fit.
  bool fits() const;

  // The boxes that together cover all R x S taps; index in [0, boxes()).
  int64_t boxes() const;
  TapBox box(int64_t index) const;
};

// threads: how many threads will run tasks. It decides how work is cut, but not the order of any
// sum.
GradWeightPlan plan_grad_weight(const ConvShape& shape, VectorShape vector, int threads);

}  // namespace sparsetrain
