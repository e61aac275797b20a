// The loop of all three passes: out [rows, columns] = sparse [rows, depth] * dense [depth,
// columns], both staged in shared memory tile by tile, where `sparse` is skipped by its zeros.
//
// A warp owns eight rows and all columns of the block's tile. At one depth the eight rows' nonzeros
// are a byte: where it is 0 nothing is read, else the dense row is loaded once and multiplied for
// each bit that is set. Tiles and the depth of each segment depend on the shape alone, segments are
// added in order, and nothing is atomic: the same operands give the same bits.
#pragma once

#include "../common/storage.h"
#include "launch.cuh"
#include "packs.cuh"
#include "tile.h"

namespace sparsetrain::cuda {

constexpr int kProductWarps = kTileRows / kGroup, kProductThreads = kProductWarps * kWarp;
static_assert(kTileDepth == kWarp);

// C: what sums are kept in. Lanes have kVector neighbouring columns (16 bytes), kVectors times.
template <class C>
struct Tile {
  static constexpr int kVector = 16 / sizeof(C), kVectors = sizeof(C) == 4 ? 2 : 1;
  static constexpr int kColumns = tile_columns(sizeof(C));
  static_assert(kColumns == kWarp * kVector * kVectors);

  C sparse[kProductWarps][kTileDepth][kGroup];
  C dense[kTileDepth][kColumns];
};

template <class C>
struct alignas(16) Vector {
  C value[Tile<C>::kVector];
};

// A value that the compiler takes for another one each time: addresses it would otherwise work out
// before the loop, for behind the loop, cost registers that the sums need.
__device__ __forceinline__ int again(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// What p holds, or zeros where it is outside. p is a multiple of kVector elements from a pointer
// aligned to 16 bytes.
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

// p[0, kVector) = v; only what is below `left` unless whole, which asks p to be aligned as above.
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

// put(i, p[i]) for eight neighbours, with zeros from `left` on.
template <class T, class Put>
__device__ __forceinline__ void stage_pack(const T* p, int left, bool aligned, const Put& put) {
  if (aligned && left >= kPack) {
    T v[kPack];
    load_pack(p, kPack, true, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) put(i, Storage<T>::load(v[i]));
  } else {
#pragma unroll 1  // eight registers fewer, at the edge of a tensor
    for (int i = 0; i < kPack; ++i) {
      const T v = i < left ? p[i] : T{};
      put(i, Storage<T>::load(v));
    }
  }
}

// How a product is cut: each segment's tiles into partial [segment][rows][pitch], or straight into
// the result where there is one segment.
struct Split {
  int64_t rows, columns, pitch;
  int tiles, segments = 1, tiles_per_segment = 0, column_tiles = 0, row_tiles = 0;

  int64_t blocks() const { return int64_t{row_tiles} * column_tiles * segments; }
};

template <class C>
Split split(int64_t rows, int64_t columns, int tiles) {
  constexpr int64_t kBlocks = 528;  // two for each of 132 multiprocessors, twice
  constexpr int64_t kVector = Tile<C>::kVector;
  const int64_t pitch = (columns + kVector - 1) / kVector * kVector;
  Split s{.rows = rows, .columns = columns, .pitch = pitch, .tiles = tiles};
  s.row_tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
  s.column_tiles = static_cast<int>((columns + Tile<C>::kColumns - 1) / Tile<C>::kColumns);
  const int64_t blocks = int64_t{s.row_tiles} * s.column_tiles;
  const int64_t wanted = blocks < kBlocks ? kBlocks / blocks : 1;
  s.tiles_per_segment = static_cast<int>((tiles + wanted - 1) / wanted);
  s.segments = (tiles + s.tiles_per_segment - 1) / s.tiles_per_segment;
  return s;
}

// Adds one tile: sum[i][j] belongs to row i of the warp and to column j of the lane.
template <class C, int kPerLane>
__device__ __forceinline__ void multiply(const Tile<C>& tile, C (&sum)[kGroup][kPerLane]) {
  constexpr int kVector = Tile<C>::kVector;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  unsigned mask = 0;  // of depth `lane`
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    // In one expression, GCC 12's checks of bounds and shifts (UBSan) compute another mask.
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

// One block of a product. Problem has Compute, Own (what a thread remembers over all tiles), Shared
// (what a block prepares for the next tile), and
//   own(row, column)                   for the block's first row and column
//   prepare(tile, Shared&)             before stage() of that tile
//   stage(tile, own, Shared, Tile&)    all threads fill it, with zeros outside the operands
//   store(row, column, Vector)         neighbours of the result, of which some may lie behind it
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
  const int64_t row = int64_t{rest % s.row_tiles} * kTileRows;
  const int64_t column = int64_t{column_tile} * Tile<C>::kColumns;
  const int segment = rest / s.row_tiles;
  const int first = segment * s.tiles_per_segment;
  const int behind = first + s.tiles_per_segment, last = behind < s.tiles ? behind : s.tiles;

  C sum[kGroup][kPerLane] = {};
  const auto own = problem.own(row, column);
  problem.prepare(first, shared);
  __syncthreads();
  for (int i = first; i < last; ++i) {
    problem.stage(i, own, shared, tile);
    __syncthreads();
    problem.prepare(i + 1, shared);
    multiply<C, kPerLane>(tile, sum);
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    const int64_t at_row = row + again(threadIdx.x) / kWarp * kGroup + i;
    if (at_row >= s.rows) continue;
#pragma unroll
    for (int v = 0; v < Tile<C>::kVectors; ++v) {
      const int64_t at = column + (v * kWarp + again(threadIdx.x) % kWarp) * kVector;
      if (at >= s.columns) continue;
      Vector<C> part;
#pragma unroll
      for (int j = 0; j < kVector; ++j) part.value[j] = sum[i][v * kVector + j];
      if (partial) {
        C* to = partial + (segment * s.rows + at_row) * s.pitch + at;
        *reinterpret_cast<Vector<C>*>(to) = part;
      } else {
        problem.store(at_row, at, part);
      }
    }
  }
}

// Adds the segments in order.
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

template <class C>
int64_t product_scratch_bytes(const Split& s) {
  if (s.segments == 1) return 0;
  return s.segments * s.rows * s.pitch * static_cast<int64_t>(sizeof(C));
}

template <class Problem>
cudaError_t run_product(const Problem& problem, const Split& s, void* scratch,
                        cudaStream_t stream) {
  using C = typename Problem::Compute;
  auto* partial = s.segments > 1 ? static_cast<C*>(scratch) : nullptr;
  const cudaError_t error =
      launch(product_kernel<Problem>, s.blocks(), kProductThreads, stream, problem, s, partial);
  if (error || !partial) return error;
  constexpr int64_t kEach = kProductThreads * Tile<C>::kVector;
  const int64_t blocks = (s.rows * s.pitch + kEach - 1) / kEach;
  return launch(add_segments_kernel<Problem>, blocks, kProductThreads, stream, problem, s, partial);
}

}  // namespace sparsetrain::cuda
