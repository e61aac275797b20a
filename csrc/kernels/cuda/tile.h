// Tile sizes of the CUDA convolutions: product.cuh runs with them, and csrc/choice/cuda_costs.cpp
// counts work with them.
#pragma once

namespace sparsetrain::cuda {

constexpr int kGroup = 8;       // rows of the product that one warp computes together
constexpr int kTileRows = 64;   // rows of the product in one block's tile
constexpr int kTileDepth = 32;  // depth of the product that is staged in shared memory at once

// Columns of one block's tile, given the size of a sum in bytes (4 or 8).
constexpr int tile_columns(int sum_bytes) { return sum_bytes == 8 ? 64 : 256; }

}  // namespace sparsetrain::cuda
