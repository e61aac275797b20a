// Plan: how a pass is cut into blocks that fit the buffer. Half of the buffer holds the resident
// operand. The other half holds two slabs, a quarter each, of the operand that streams through. The
// compiler and the closed form share it.
#pragma once

#include <cstdint>

#include "config.h"
#include "workload.h"

namespace sparsetrain::accel {

// Bytes of a layer's tensors in DRAM and buffer, for the whole batch, from the densities.
struct Footprint {
  double x, dy, w, mask, y, dx;
};
Footprint footprint(const Layer& layer, const Config& chip);

// A block is one pair (tile, slab). Forward: a tile is k_tile filters, a slab consecutive output
// rows (n, p). kGradInput: a tile is c_tile channels, a slab consecutive rows (n, h) of dx.
// kGradWeight: a tile is c_tile channels by k_tile filters of their group, a slab consecutive rows
// (n, p).
struct Plan {
  bool slab_resident;  // true: loop over slabs outside, tiles inside; false: the reverse
  int64_t k_tile, c_tile;
  int64_t rows, rows_per_slab;
  int64_t tiles, slabs;
  double read_bytes, write_bytes;  // DRAM traffic of the whole pass
  double first_load_bytes;         // of the first block; no computation overlaps it

  int64_t blocks() const { return tiles * slabs; }
};

// The loop order with fewer DRAM bytes; a resident tile if both are equal. Throws
// std::invalid_argument if the operands of one row operation do not fit a quarter of the buffer.
Plan plan(const Layer& layer, Pass pass, const Config& chip);

// Number of groups of the convolution that filters [begin, end) belong to, with `size` filters a
// group.
inline int64_t touched_groups(int64_t begin, int64_t end, int64_t size) {
  return (end - 1) / size - begin / size + 1;
}

}  // namespace sparsetrain::accel
