// How a pass is cut into blocks that fit the buffer. Half of the buffer holds the resident operand,
// the other half two slabs (a quarter each) of what streams by. Shared by compiler and closed form.
#pragma once

#include <cstdint>

#include "config.h"
#include "workload.h"

namespace sparsetrain::accel {

// Bytes of a layer's tensors as they lie in DRAM and buffer, whole batch, from densities.
struct Footprint {
  double x, dy, w, mask, y, dx;
};
Footprint footprint(const Layer& layer, const Config& chip);

// A block is one (tile, slab). Forward: tiles of k_tile filters, slabs of output rows (n, p).
// kGradInput: tiles of c_tile channels, slabs of rows (n, h) of dx. kGradWeight: tiles of c_tile
// channels by k_tile filters of their group, slabs of (n, p).
struct Plan {
  bool slab_resident;  // slabs outside, tiles inside; otherwise the other way round
  int64_t k_tile, c_tile;
  int64_t rows, rows_per_slab;
  int64_t tiles, slabs;
  double read_bytes, write_bytes;  // DRAM, whole pass
  double first_load_bytes;         // nothing hides the first block's load

  int64_t blocks() const { return tiles * slabs; }
};

// The cheaper of the two loop orders in DRAM bytes; the resident tile wins a tie. Throws
// std::invalid_argument when one row operation's operands do not fit a quarter of the buffer.
Plan plan(const Layer& layer, Pass pass, const Config& chip);

// Groups (of the convolution) that filters [begin, end) belong to when a group has `size` of them.
inline int64_t touched_groups(int64_t begin, int64_t end, int64_t size) {
  return (end - 1) / size - begin / size + 1;
}

}  // namespace sparsetrain::accel
