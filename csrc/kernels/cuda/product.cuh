// The product loop of all three convolution passes, used by gather.cu and grad_weight.cu:
//
//   out [rows, columns] = sparse [rows, depth] * dense [depth, columns]
//
// The loop is output-stationary: a block owns a tile of `out` and keeps its sums in registers while
// it stages one tile of `sparse` and one of `dense` after the other in shared memory. A warp owns
// eight rows and all columns of the block's tile. At one depth the nonzeros of its eight rows form
// one byte. If the byte is 0, nothing is read; else the row of `dense` is loaded once and
// multiplied for each set bit.
//
// Determinism: tiles and segments (parts of the depth that run on different blocks) depend on the
// shape alone, segments are added in order, and there are no atomics. Equal operands give equal
// bits.
#pragma once

#include "../common/storage.h"
#include "launch.cuh"
#include "packs.cuh"
#include "tile.h"

namespace sparsetrain::cuda {

constexpr int kProductWarps = kTileRows / kGroup, kProductThreads = kProductWarps * kWarp;
static_assert(kTileDepth == kWarp, "multiply() examines one depth of the tile with each lane");

// The staged operands of one block. C: the type of sums and products, float or double. A lane owns
// kVectors vectors of columns, and a vector is kVector neighboring columns (16 bytes).
template <class C>
struct Tile {
  static constexpr int kVector = 16 / sizeof(C), kVectors = sizeof(C) == 4 ? 2 : 1;
  static constexpr int kColumns = tile_columns(sizeof(C));
  static_assert(kColumns == kWarp * kVector * kVectors);

  C sparse[kProductWarps][kTileDepth][kGroup];  // by warp, depth, and row of the warp
  C dense[kTileDepth][kColumns];
};

template <class C>
struct alignas(16) Vector {
  C value[Tile<C>::kVector];
};

// Returns `value`, hidden from the optimizer. Else the compiler would compute the addresses of the
// final stores before the main loop, in registers that the sums need.
__device__ __forceinline__ int opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Loads kVector elements at p as type C, or zeros if not `inside` (p is not read then). p is a
// multiple of kVector elements from a pointer that is aligned to 16 bytes.
template <class C, class T>
__device__ __forceinline__ Vector<C> load_vector(const T* p, bool inside) {
  struct alignas(Tile<C>::kVector * sizeof(T)) Whole {
    T value[Tile<C>::kVector];
  };
  Whole whole = {};
  if (inside) whole = *reinterpret_cast<const Whole*>(p);
  Vector<C> v;
#pragma unroll
  for (int i = 0; i < Tile<C>::kVector; ++i) v.value[i] = Storage<T>::load(whole.value[i]);
  return v;
}

// Stores v at p: all kVector elements in one access if `whole`, which needs p aligned as in
// load_vector(), else the first `left` of them one by one.
template <class T, class C>
__device__ __forceinline__ void store_vector(T* p, const Vector<C>& v, int64_t left, bool whole) {
  struct alignas(Tile<C>::kVector * sizeof(T)) Whole {
    T value[Tile<C>::kVector];
  };
  Whole stored;
#pragma unroll
  for (int i = 0; i < Tile<C>::kVector; ++i) stored.value[i] = Storage<T>::store(v.value[i]);
  if (whole) {
    *reinterpret_cast<Whole*>(p) = stored;
  } else {
#pragma unroll
    for (int i = 0; i < Tile<C>::kVector; ++i) {
      if (i < left) p[i] = stored.value[i];
    }
  }
}

// Calls put(i, value of p[i]) for i in [0, kPack), with value 0 from i = left on. aligned: p may be
// read by 16-byte accesses.
template <class T, class Put>
__device__ __forceinline__ void stage_pack(const T* p, int left, bool aligned, const Put& put) {
  if (aligned && left >= kPack) {
    T v[kPack];
    load_pack(p, kPack, true, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) put(i, Storage<T>::load(v[i]));
  } else {
#pragma unroll 1  // only at the edge of a tensor: a loop takes eight registers fewer
    for (int i = 0; i < kPack; ++i) {
      const T v = i < left ? p[i] : T{};
      put(i, Storage<T>::load(v));
    }
  }
}

// How a product is cut into blocks. With one segment a block stores its tile of the result; with
// several it stores partial sums [segment][rows][pitch], which add_segments_kernel adds.
struct Split {
  int64_t rows, columns;      // of the result
  int64_t pitch;              // columns, rounded up to whole vectors
  int tiles;                  // tiles of kTileDepth along the depth
  int segments = 1;           // parts of the depth
  int tiles_per_segment = 0;  // the last segment may have fewer
  int column_tiles = 0, row_tiles = 0;

  int64_t blocks() const { return int64_t{row_tiles} * column_tiles * segments; }
};

// Cuts a product of rows x columns whose depth is `tiles` tiles: as many segments as it takes to
// fill a large GPU.
template <class C>
Split split_product(int64_t rows, int64_t columns, int tiles) {
  constexpr int64_t kBlocks = 528;  // two resident blocks on each of 132 multiprocessors, twice
  constexpr int64_t kVector = Tile<C>::kVector;
  const int64_t pitch = (columns + kVector - 1) / kVector * kVector;
  Split s{.rows = rows, .columns = columns, .pitch = pitch, .tiles = tiles};
  s.row_tiles = static_cast<int>(blocks_for(rows, kTileRows));
  s.column_tiles = static_cast<int>(blocks_for(columns, Tile<C>::kColumns));
  const int64_t blocks = int64_t{s.row_tiles} * s.column_tiles;
  const int64_t wanted_segments = blocks < kBlocks ? kBlocks / blocks : 1;
  s.tiles_per_segment = static_cast<int>((tiles + wanted_segments - 1) / wanted_segments);
  s.segments = (tiles + s.tiles_per_segment - 1) / s.tiles_per_segment;
  return s;
}

// Adds the product of one staged tile: sum[i][j] belongs to row i of the warp and column j of the
// lane.
template <class C, int kPerLane>
__device__ __forceinline__ void multiply(const Tile<C>& tile, C (&sum)[kGroup][kPerLane]) {
  constexpr int kVector = Tile<C>::kVector;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  unsigned mask = 0;  // bit i: row i has a nonzero at depth `lane`
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    // Two statements: written as one, GCC 12's UBSan checks of bounds and shifts miscompile it.
    const unsigned nonzero = tile.sparse[warp][lane][i] != 0;
    mask |= nonzero << i;
  }
  unsigned depths = __ballot_sync(0xffffffffu, mask != 0);
  while (depths != 0) {
    const int depth = __ffs(static_cast<int>(depths)) - 1;
    depths &= depths - 1;
    const unsigned rows = __shfl_sync(0xffffffffu, mask, depth);
    Vector<C> dense[Tile<C>::kVectors];
#pragma unroll
    for (int v = 0; v < Tile<C>::kVectors; ++v) {
      dense[v] = reinterpret_cast<const Vector<C>*>(tile.dense[depth])[v * kWarp + lane];
    }
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if ((rows >> i & 1) == 0) continue;
      const C value = tile.sparse[warp][depth][i];
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) {
        sum[i][j] = fma(value, dense[j / kVector].value[j % kVector], sum[i][j]);
      }
    }
  }
}

// Computes one block's tile of one segment. A Problem describes the operands of one pass:
//   types  Compute    float or double, of sums and products
//          PerThread  what a thread computes once and reuses for all tiles
//          Shared     what the block prepares in shared memory for the next tile
//   per_thread(row, column)        PerThread of a block whose tile begins at (row, column)
//   prepare(tile, Shared&)         fills Shared for a tile; runs before stage() of that tile
//   stage(tile, PerThread, Shared, Tile&)  all threads together fill the Tile, with zeros outside
//                                  the operands
//   store(row, column, Vector)     stores neighboring columns of the result; columns from
//                                  Split::columns on must be dropped
// partial: where partial sums go, or nullptr to store the result.
template <class Problem>
__global__ void __launch_bounds__(kProductThreads, 2)
    product_kernel(const Problem problem, const Split s,
                   typename Problem::Compute* __restrict__ partial) {
  using C = typename Problem::Compute;
  constexpr int kVector = Tile<C>::kVector, kPerLane = kVector * Tile<C>::kVectors;
  __shared__ Tile<C> tile;
  __shared__ typename Problem::Shared shared;
  const int column_tile = static_cast<int>(blockIdx.x) % s.column_tiles;
  const int rest = static_cast<int>(blockIdx.x) / s.column_tiles;
  const int64_t first_row = int64_t{rest % s.row_tiles} * kTileRows;
  const int64_t first_column = int64_t{column_tile} * Tile<C>::kColumns;
  const int segment = rest / s.row_tiles;
  const int first = segment * s.tiles_per_segment;
  const int next = first + s.tiles_per_segment, last = next < s.tiles ? next : s.tiles;

  C sum[kGroup][kPerLane] = {};
  const auto per_thread = problem.per_thread(first_row, first_column);
  problem.prepare(first, shared);
  __syncthreads();
  for (int i = first; i < last; ++i) {
    problem.stage(i, per_thread, shared, tile);
    __syncthreads();
    problem.prepare(i + 1, shared);
    multiply<C, kPerLane>(tile, sum);
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    const int64_t row = first_row + opaque(threadIdx.x) / kWarp * kGroup + i;
    if (row >= s.rows) continue;
#pragma unroll
    for (int v = 0; v < Tile<C>::kVectors; ++v) {
      const int64_t column = first_column + (v * kWarp + opaque(threadIdx.x) % kWarp) * kVector;
      if (column >= s.columns) continue;
      Vector<C> part;
#pragma unroll
      for (int j = 0; j < kVector; ++j) part.value[j] = sum[i][v * kVector + j];
      if (partial) {
        C* to = partial + (segment * s.rows + row) * s.pitch + column;
        *reinterpret_cast<Vector<C>*>(to) = part;
      } else {
        problem.store(row, column, part);
      }
    }
  }
}

// Adds the partial sums of all segments in order and stores the result: one vector a thread.
template <class Problem>
__global__ void __launch_bounds__(kProductThreads)
    add_segments_kernel(const Problem problem, const Split s,
                        const typename Problem::Compute* __restrict__ partial) {
  using C = typename Problem::Compute;
  constexpr int kVector = Tile<C>::kVector;
  const int64_t i = (int64_t{blockIdx.x} * kProductThreads + threadIdx.x) * kVector;
  if (i >= s.rows * s.pitch) return;
  Vector<C> sum = {};
  for (int segment = 0; segment < s.segments; ++segment) {
    const C* from = partial + segment * s.rows * s.pitch + i;
    const auto part = *reinterpret_cast<const Vector<C>*>(from);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum.value[j] += part.value[j];
  }
  problem.store(i / s.pitch, i % s.pitch, sum);
}

// Bytes of scratch of run_product(): the partial sums of all segments, or 0 for one segment.
template <class C>
int64_t product_scratch_bytes(const Split& s) {
  if (s.segments == 1) return 0;
  return s.segments * s.rows * s.pitch * static_cast<int64_t>(sizeof(C));
}

// Enqueues the product. scratch: product_scratch_bytes(), aligned to 16 bytes.
template <class Problem>
cudaError_t run_product(const Problem& problem, const Split& s, void* scratch,
                        cudaStream_t stream) {
  using C = typename Problem::Compute;
  auto* partial = s.segments > 1 ? static_cast<C*>(scratch) : nullptr;
  const cudaError_t error =
      launch(product_kernel<Problem>, s.blocks(), kProductThreads, stream, problem, s, partial);
  if (error || !partial) return error;
  const int64_t blocks = blocks_for(s.rows * s.pitch, kProductThreads * Tile<C>::kVector);
  return launch(add_segments_kernel<Problem>, blocks, kProductThreads, stream, problem, s, partial);
}

}  // namespace sparsetrain::cuda
