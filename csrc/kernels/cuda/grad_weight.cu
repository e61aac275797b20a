// grad_weight, skipping zeros of dy: rows are output channels, of which eight neighbours are a byte
// of dy's pixel in channels_last, columns are taps and input channels, and the depth runs over
// output pixels.
#include "api.h"
#include "geometry.h"
#include "product.cuh"

namespace sparsetrain::cuda {
namespace {

template <class T>
struct GradWeight {
  using Compute = typename Storage<T>::Compute;
  using Block = Tile<Compute>;
  static constexpr int kNowhere = -(1 << 30);

  // For each output pixel of a tile: its image's first row of x, and the pixel of x at tap (0, 0).
  struct Shared {
    int image_row[kTileDepth], h[kTileDepth], w[kTileDepth];
  };
  // A column of the product: a tap, as its distance from tap (0, 0) or nowhere, and a channel.
  struct Column {
    int down, right, channel;
  };
  struct Own {
    int row;    // of the thread's pack of the sparse tile
    Column at;  // of the thread's vector of the dense tile
  };

  Geometry g;
  const T *dy, *x;
  T* dw;
  int pixels, columns;
  bool packs;  // of dy may be loaded whole

  GradWeight(const ConvShape& s, const T* dy, const T* x, T* dw)
      : g(s),
        dy(dy),
        x(x),
        dw(dw),
        pixels(g.N * g.P * g.Q),
        columns(g.R * g.S * g.C),
        packs(aligned(dy) && g.K * sizeof(T) % 16 == 0) {}

  Split shares() const {
    return split<Compute>(g.K, columns, (pixels + kTileDepth - 1) / kTileDepth);
  }

  __device__ Own own(int64_t row, int64_t column) const {
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
  __device__ void stage(int tile, const Own& own, const Shared& shared, Block& to) const {
    const int thread = static_cast<int>(threadIdx.x);
    stage_sparse(tile, thread, own, to);
    constexpr int kAcross = Block::kColumns / Block::kVector;
    constexpr int kDown = kProductThreads / kAcross;
#pragma unroll
    for (int d = thread / kAcross; d < kTileDepth; d += kDown) {
      reinterpret_cast<Vector<Compute>*>(to.dense[d])[thread % kAcross] =
          dense_vector(d, own, shared);
    }
  }
  __device__ void store(int64_t row, int64_t column, const Vector<Compute>& v) const {
    store_vector(dw + row * columns + column, v, Block::kVector, true);
  }

 private:
  // Eight output channels of one output pixel.
  __device__ void stage_sparse(int tile, int thread, const Own& own, Block& to) const {
    const int depth = thread / kProductWarps, pack = thread % kProductWarps;
    const int64_t pixel = int64_t{tile} * kTileDepth + depth;
    stage_pack(dy + pixel * g.K + own.row, pixel < pixels ? g.K - own.row : 0, packs,
               [&](int i, Compute value) { to.sparse[pack][depth][i] = value; });
  }

  // What the thread's columns, all of one tap, meet at the tile's output pixel d: zeros in the
  // padding.
  __device__ Vector<Compute> dense_vector(int d, const Own& own, const Shared& shared) const {
    const int h = shared.h[d] + own.at.down, w = shared.w[d] + own.at.right;
    const bool inside = h >= 0 && h < g.H && w >= 0 && w < g.W;
    const int64_t pixel = int64_t{shared.image_row[d] + h} * g.W + w;
    return load_vector<Compute>(x + pixel * g.C + own.at.channel, inside);
  }
};

}  // namespace

template <class T>
int64_t grad_weight_scratch_bytes(const ConvShape& s) {
  using Compute = typename Storage<T>::Compute;
  return product_scratch_bytes<Compute>(GradWeight<T>(s, nullptr, nullptr, nullptr).shares());
}

template <class T>
cudaError_t grad_weight(const ConvShape& s, const T* dy, const T* x, T* dw, void* scratch,
                        cudaStream_t stream) {
  const GradWeight<T> problem(s, dy, x, dw);
  return run_product(problem, problem.shares(), scratch, stream);
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
