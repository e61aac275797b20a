// The plan of a forward or grad_input pass on the CPU: how scatter.inl cuts it into pieces of
// kernel rows, channel tiles, bands of output rows and regions of source rows, and how much memory
// it needs. Used by the kernels, csrc/torch/cpu/sparse_conv.cpp and the costs in csrc/choice.
//
// Words: the source is the operand whose zeros are skipped (x in the forward, dy in grad_input);
// the output is y or dx. A tap is one of the R x S weights of a kernel.
#pragma once

#include <cstdint>

#include "../../shape.h"
#include "vector_shape.h"

namespace sparsetrain {

// Taps of a kernel row that one walk along a source row serves. Source pixel first + j * step, for
// j in [0, count), contributes to output pixels out + j * out_step + slot, for slot in [0, slots).
struct Piece {
  int slots;
  int slot0;  // index of the piece's first slot among the S slots of a kernel row
  int64_t first, step, count;
  int64_t out, out_step;  // out may be negative: see ScatterPlan::margin
};

struct ScatterPlan {
  bool forward = false;  // false: grad_input
  ConvShape shape;
  int64_t groups = 0;
  int64_t out_channels = 0, source_channels = 0;                               // in one group
  int64_t out_height = 0, out_width = 0, source_height = 0, source_width = 0;  // pixels
  int registers = 0;      // vectors of output channels that are summed together for a pixel
  int64_t block = 0;      // output channels of a block: registers * vector.width
  int64_t blocks = 0;     // blocks in one group
  int64_t tile = 0;       // source channels of a tile, whose packed weights fit into L1
  int64_t tiles = 0;      // tiles in one group
  int64_t margin = 0;     // pixels beside a band's rows that are computed and dropped, on each side
  int64_t band_rows = 0;  // output rows of a band, counted over all images; a band fits into L2
  int64_t region_rows = 0;  // source rows of one image whose lists are built together
  VectorShape vector;

  int64_t source_rows() const { return shape.N * source_height; }
  int64_t out_rows() const { return shape.N * out_height; }
  int64_t regions_per_image() const { return (source_height + region_rows - 1) / region_rows; }
  int64_t regions() const { return shape.N * regions_per_image(); }
  int64_t bands() const { return (out_rows() + band_rows - 1) / band_rows; }
  int64_t tasks() const { return groups * blocks * bands(); }
  int64_t band_width() const { return out_width + 2 * margin; }

  // Lengths of the arrays of PixelLists, in elements.
  int64_t region_entries() const;  // capacity for the entries of one region
  int64_t list_entries() const { return regions() * region_entries(); }
  int64_t list_starts() const { return groups * tiles * source_rows() * (source_width + 1); }
  int64_t list_bases() const { return groups * tiles * source_rows(); }

  // Bytes of scratch of build_pixel_lists: one region, transposed.
  int64_t list_scratch_bytes() const;
  // Bytes of scratch of scatter: the packed weights of one block, [tiles][tile_scalars], and a
  // band.
  int64_t scratch_bytes() const {
    return (tiles * tile_scalars() + band_scalars()) * vector.scalar_bytes;
  }
  int64_t tile_scalars() const { return shape.R * tile * shape.S * block; }
  int64_t band_scalars() const { return band_rows * band_width() * block; }

  // Whether 32 bits suffice for the entries of a row and for the offsets of weights. The kernels
  // must not run with a plan that does not fit.
  bool fits() const;

  // The source row (within its image) that kernel row r connects with output row out_row (within
  // its image), or -1 if there is none.
  int64_t source_row(int64_t out_row, int64_t r) const;
  // The pieces that together cover a kernel row; index in [0, pieces()).
  int64_t pieces() const;
  Piece piece(int64_t index) const;
  // The position of a tap, in [0, S), among the S slots of a kernel row.
  int64_t slot_of_tap(int64_t tap) const;
};

// Plans the forward (kForward) or grad_input (kGradInput).
ScatterPlan plan_scatter(const ConvShape& shape, Pass pass, VectorShape vector);

}  // namespace sparsetrain
