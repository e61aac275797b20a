// How products are cut on CUDA: what the kernels run and the costs of `auto` count.
#pragma once

namespace sparsetrain::cuda {

constexpr int kGroup = 8;  // rows of a warp
constexpr int kTileRows = 64, kTileDepth = 32;

// Columns of a tile whose sums are of so many bytes each.
constexpr int tile_columns(int sum_bytes) { return sum_bytes == 8 ? 64 : 256; }

}  // namespace sparsetrain::cuda
