// The forward (skips zeros of x) and grad_input (skips those of dy): rows are the pixels of the
// result, columns its channels, and the depth runs over taps and source channels.
#include "api.h"
#include "geometry.h"
#include "product.cuh"

namespace sparsetrain::cuda {
namespace {

template <class T>
struct Gather {
  using Compute = typename Storage<T>::Compute;
  using Block = Tile<Compute>;
  struct Shared {};
  struct Own {
    const T* image;  // of the source
    int h, w;        // the thread's pixel of the result, in the source's coordinates
    bool inside;
    int column;  // of the thread's vector of the dense tile
  };

  Geometry g;
  bool forward;
  const T *source, *matrix, *bias;  // bias [columns] or nullptr
  T* out;
  int pixels, height, width;                  // of the result
  int channels, source_height, source_width;  // of the source
  int columns, pitch;                         // of the result, and of the matrix
  bool packs;                                 // of the source may be loaded whole

  Gather(const ConvShape& s, Pass pass, const T* source, const T* matrix, const T* bias, T* out)
      : g(s),
        forward(pass == Pass::kForward),
        source(source),
        matrix(matrix),
        bias(bias),
        out(out),
        height(forward ? g.P : g.H),
        width(forward ? g.Q : g.W),
        channels(forward ? g.C : g.K),
        source_height(forward ? g.H : g.P),
        source_width(forward ? g.W : g.Q),
        columns(forward ? g.K : g.C),
        pitch(static_cast<int>(matrix_pitch(columns))),
        packs(aligned(source) && channels * sizeof(T) % 16 == 0) {
    pixels = g.N * height * width;
  }

  int tiles_per_tap() const { return (channels + kTileDepth - 1) / kTileDepth; }
  Split shares() const { return split<Compute>(pixels, columns, g.R * g.S * tiles_per_tap()); }

  __device__ Own own(int64_t row, int64_t column) const {
    const int pixel = static_cast<int>(row) + static_cast<int>(threadIdx.x) / kPacks;
    const int n = pixel / (height * width), rest = pixel % (height * width);
    const int i = rest / width, j = rest % width;
    const int64_t image = int64_t{n} * source_height * source_width * channels;
    const int vector = static_cast<int>(threadIdx.x) % (Block::kColumns / Block::kVector);
    return {pixel < pixels ? source + image : source, forward ? g.row(i, 0) : i + g.pad_h,
            forward ? g.column(j, 0) : j + g.pad_w, pixel < pixels,
            static_cast<int>(column) + vector * Block::kVector};
  }
  __device__ void prepare(int, Shared&) const {}

  __device__ void stage(int tile, const Own& own, const Shared&, Block& to) const {
    const int per_tap = (channels + kTileDepth - 1) / kTileDepth;
    const int tap = tile / per_tap, first = tile % per_tap * kTileDepth;
    const int thread = static_cast<int>(threadIdx.x);
    stage_sparse(tap / g.S, tap % g.S, first, thread, own, to);
    stage_dense(tap * channels, first, thread, own, to);
  }
  __device__ void store(int64_t row, int64_t column, Vector<Compute> v) const {
#pragma unroll
    for (int i = 0; bias && i < Block::kVector; ++i) {
      if (column + i < columns) v.value[i] += Storage<T>::load(bias[column + i]);
    }
    store_vector(out + row * columns + column, v, columns - column, pitch == columns);
  }

 private:
  static constexpr int kPacks = kTileDepth / kPack;  // of a row of the sparse tile

  // Eight channels of the source pixel that tap (r, s) connects with the thread's pixel.
  __device__ void stage_sparse(int r, int s, int first, int thread, const Own& own,
                               Block& to) const {
    int h = own.h + r * g.dilation_h, w = own.w + s * g.dilation_w;
    bool met = own.inside;
    if (!forward) {
      h = own.h - r * g.dilation_h;
      w = own.w - s * g.dilation_w;
      met = met && h >= 0 && w >= 0 && h % g.stride_h == 0 && w % g.stride_w == 0;
      h /= g.stride_h;
      w /= g.stride_w;
    }
    met = met && h >= 0 && h < source_height && w >= 0 && w < source_width;
    const int row = thread / kPacks, depth = thread % kPacks * kPack;
    const int64_t pixel = met ? int64_t{h} * source_width + w : 0;
    stage_pack(
        own.image + pixel * channels + first + depth, met ? channels - first - depth : 0, packs,
        [&](int i, Compute value) { to.sparse[row / kGroup][depth + i][row % kGroup] = value; });
  }

  // Rows base + [first, first + kTileDepth) of the matrix [taps * channels, pitch].
  __device__ void stage_dense(int base, int first, int thread, const Own& own, Block& to) const {
    constexpr int kAcross = Block::kColumns / Block::kVector;
    constexpr int kDown = kProductThreads / kAcross;
    const int vector = thread % kAcross;
#pragma unroll
    for (int d = thread / kAcross; d < kTileDepth; d += kDown) {
      const bool inside = first + d < channels && own.column < pitch;
      const Vector<Compute> v =
          load_vector<Compute>(matrix + int64_t{base + first + d} * pitch + own.column, inside);
      reinterpret_cast<Vector<Compute>*>(to.dense[d])[vector] = v;
    }
  }
};

}  // namespace

template <class T>
int64_t gather_scratch_bytes(const ConvShape& s, Pass pass) {
  using Compute = typename Storage<T>::Compute;
  const Gather<T> problem(s, pass, nullptr, nullptr, nullptr, nullptr);
  return product_scratch_bytes<Compute>(problem.shares());
}

template <class T>
cudaError_t gather(const ConvShape& s, Pass pass, const T* source, const T* matrix, const T* bias,
                   T* out, void* scratch, cudaStream_t stream) {
  const Gather<T> problem(s, pass, source, matrix, bias, out);
  return run_product(problem, problem.shares(), scratch, stream);
}

#define SPARSETRAIN_INSTANTIATE(T)                                                                \
  template int64_t gather_scratch_bytes<T>(const ConvShape&, Pass);                               \
  template cudaError_t gather<T>(const ConvShape&, Pass, const T*, const T*, const T*, T*, void*, \
                                 cudaStream_t);
SPARSETRAIN_INSTANTIATE(float)
SPARSETRAIN_INSTANTIATE(double)
SPARSETRAIN_INSTANTIATE(BFloat16)
SPARSETRAIN_INSTANTIATE(Half)
#undef SPARSETRAIN_INSTANTIATE

}  // namespace sparsetrain::cuda
