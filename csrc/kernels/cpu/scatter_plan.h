// How the spread loop cuts a forward or grad_input pass: pieces of a kernel row, channel tiles
// whose weights stay in L1, bands of output rows that stay in L2.
#pragma once

#include <cstdint>

#include "../../shape.h"
#include "vector_shape.h"

namespace sparsetrain {

// Consecutive taps that one walk along a source row serves. Source pixel first + j * step, j in
// [0, count), touches output pixels out + j * out_step + slot, slot in [0, slots).
struct Piece {
  int slots;
  int slot0;  // index of its first slot among the S slots of a kernel row
  int64_t first, step, count;
  int64_t out, out_step;
};

struct ScatterPlan {
  bool forward = false;  // else grad_input
  ConvShape shape;
  int64_t groups = 0, out_channels = 0, source_channels = 0;  // channels a group
  int64_t out_height = 0, out_width = 0, source_height = 0, source_width = 0;
  int registers = 0;            // vectors an output pixel
  int64_t block = 0;            // output channels a block: registers * vector width
  int64_t blocks = 0;           // a group
  int64_t tile = 0, tiles = 0;  // source channels a tile, tiles a group
  int64_t margin = 0;           // pixels left and right of a band's rows, never copied out
  int64_t band_rows = 0;        // output rows (over all images) a band
  int64_t region_rows = 0;      // source rows of one image whose lists are built together
  VectorShape vector;

  int64_t source_rows() const { return shape.N * source_height; }
  int64_t out_rows() const { return shape.N * out_height; }
  int64_t regions_per_image() const { return (source_height + region_rows - 1) / region_rows; }
  int64_t regions() const { return shape.N * regions_per_image(); }
  int64_t bands() const { return (out_rows() + band_rows - 1) / band_rows; }
  int64_t tasks() const { return groups * blocks * bands(); }
  int64_t band_width() const { return out_width + 2 * margin; }

  // Lengths of the arrays that the caller provides, in elements or bytes.
  int64_t region_entries() const;  // capacity of one region
  int64_t list_entries() const { return regions() * region_entries(); }
  int64_t list_starts() const { return groups * tiles * source_rows() * (source_width + 1); }
  int64_t list_bases() const { return groups * tiles * source_rows(); }
  int64_t tile_scalars() const { return shape.R * tile * shape.S * block; }
  int64_t list_scratch_bytes() const;
  int64_t band_scalars() const { return band_rows * band_width() * block; }
  int64_t scratch_bytes() const {
    return (tiles * tile_scalars() + band_scalars()) * vector.scalar_bytes;
  }

  // Whether the 32 bits of list entries reach: counts of a row's nonzeros, and offsets of weights.
  bool fits() const;

  // The source row of image-row `out_row` under kernel row r, or -1.
  int64_t source_row(int64_t out_row, int64_t r) const;
  // The pieces of a kernel row; piece(i) for i in [0, pieces()).
  int64_t pieces() const;
  Piece piece(int64_t index) const;
  // The slot that `tap` has among the S of a kernel row.
  int64_t slot_of_tap(int64_t tap) const;
};

ScatterPlan plan_scatter(const ConvShape& shape, Pass pass, VectorShape vector);

}  // namespace sparsetrain
