// grad_weight on CUDA, skipping zeros of dy, for backend "sparse"; csrc/torch/cuda calls
// grad_weight(). The form is output-stationary: a thread block owns weights and gathers the
// products of all output pixels.
//
// As a product (product.cuh): rows are output channels, columns are taps and, within a tap, input
// channels, and the depth runs over output pixels. In channels_last the eight rows of a warp are
// eight neighboring elements of dy.
#include "api.h"
#include "geometry.h"
#include "product.cuh"

namespace sparsetrain::cuda {
namespace {

template <class T>
struct GradWeight {
  using Compute = typename Storage<T>::Compute;
  using Block = Tile<Compute>;
  // A row coordinate that stays outside every image, whatever tap is added to it.
  static constexpr int kNowhere = -(1 << 30);

  // For each output pixel of the tile: the number of rows of x before its image, and the pixel of x
  // that tap (0, 0) reads.
  struct Shared {
    int image_row[kTileDepth], h[kTileDepth], w[kTileDepth];
  };
  // Neighboring columns of the product: their tap, as pixels below and right of tap (0, 0), and
  // their first channel. Columns beyond the last tap have down = kNowhere.
  struct Columns {
    int down, right, channel;
  };
  struct PerThread {
    int row;          // first output channel of the thread's pack of the sparse tile
    Columns columns;  // the thread's vector of the dense tile
  };

  Geometry g;
  const T *dy, *x;
  T* dw;
  int pixels, columns;
  bool whole_packs;  // packs of dy may be loaded by 16 bytes

  GradWeight(const ConvShape& s, const T* dy, const T* x, T* dw)
      : g(s),
        dy(dy),
        x(x),
        dw(dw),
        pixels(g.N * g.P * g.Q),
        columns(g.R * g.S * g.C),
        whole_packs(aligned(dy) && g.K * sizeof(T) % 16 == 0) {}

  Split split() const {
    return split_product<Compute>(g.K, columns, (pixels + kTileDepth - 1) / kTileDepth);
  }

  __device__ PerThread per_thread(int64_t row, int64_t column) const {
    const int pack = threadIdx.x % kProductWarps;
    const int vector = threadIdx.x % (Block::kColumns / Block::kVector);
    const int at = static_cast<int>(column) + vector * Block::kVector, tap = at / g.C;
    return {
        static_cast<int>(row) + pack * kPack,
        {at < columns ? tap / g.S * g.dilation_h : kNowhere, tap % g.S * g.dilation_w, at % g.C}};
  }
  __device__ void prepare(int tile, Shared& shared) const {
    const int thread = static_cast<int>(threadIdx.x), width = g.Q, area = g.P * g.Q;
    if (thread >= kTileDepth) return;
    const int64_t pixel = int64_t{tile} * kTileDepth + thread;
    const int at = static_cast<int>(pixel < pixels ? pixel : 0), rest = at % area;
    shared.image_row[thread] = at / area * g.H;
    shared.h[thread] = pixel < pixels ? g.row(rest / width, 0) : kNowhere;
    shared.w[thread] = g.column(rest % width, 0);
  }
  __device__ void stage(int tile, const PerThread& mine, const Shared& shared, Block& to) const {
    const int thread = static_cast<int>(threadIdx.x);
    stage_sparse(tile, thread, mine, to);
    constexpr int kAcross = Block::kColumns / Block::kVector;  // threads side by side in a row
    constexpr int kDown = kProductThreads / kAcross;           // rows that all threads load at once
#pragma unroll
    for (int d = thread / kAcross; d < kTileDepth; d += kDown) {
      reinterpret_cast<Vector<Compute>*>(to.dense[d])[thread % kAcross] =
          dense_vector(d, mine.columns, shared);
    }
  }
  __device__ void store(int64_t row, int64_t column, const Vector<Compute>& v) const {
    store_vector(dw + row * columns + column, v, Block::kVector, true);
  }

 private:
  // Stages a pack of output channels of one output pixel.
  __device__ void stage_sparse(int tile, int thread, const PerThread& mine, Block& to) const {
    const int depth = thread / kProductWarps, pack = thread % kProductWarps;
    const int64_t pixel = int64_t{tile} * kTileDepth + depth;
    stage_pack(dy + pixel * g.K + mine.row, pixel < pixels ? g.K - mine.row : 0, whole_packs,
               [&](int i, Compute value) { to.sparse[pack][depth][i] = value; });
  }

  // The elements of x that the thread's columns multiply with output pixel d of the tile; zeros
  // where the tap reads padding. All columns of a vector have the same tap, as C is a multiple
  // of 4.
  __device__ Vector<Compute> dense_vector(int d, const Columns& at, const Shared& shared) const {
    const int h = shared.h[d] + at.down, w = shared.w[d] + at.right;
    const bool inside = h >= 0 && h < g.H && w >= 0 && w < g.W;
    const int64_t pixel = int64_t{shared.image_row[d] + h} * g.W + w;
    return load_vector<Compute>(x + pixel * g.C + at.channel, inside);
  }
};

}  // namespace

template <class T>
int64_t grad_weight_scratch_bytes(const ConvShape& s) {
  using Compute = typename Storage<T>::Compute;
  return product_scratch_bytes<Compute>(GradWeight<T>(s, nullptr, nullptr, nullptr).split());
}

template <class T>
cudaError_t grad_weight(const ConvShape& s, const T* dy, const T* x, T* dw, void* scratch,
                        cudaStream_t stream) {
  const GradWeight<T> problem(s, dy, x, dw);
  return run_product(problem, problem.split(), scratch, stream);
}

#define SPARSETRAIN_INSTANTIATE(T)                                                     \
  template int64_t grad_weight_scratch_bytes<T>(const ConvShape&);                     \
  template cudaError_t grad_weight<T>(const ConvShape&, const T*, const T*, T*, void*, \
                                      cudaStream_t);
SPARSETRAIN_INSTANTIATE(float)
SPARSETRAIN_INSTANTIATE(double)
SPARSETRAIN_INSTANTIATE(BFloat16)
SPARSETRAIN_INSTANTIATE(Half)
#undef SPARSETRAIN_INSTANTIATE

}  // namespace sparsetrain::cuda
