// The forward (skipping zeros of x) and grad_input (skipping zeros of dy) on CUDA, for backend
// "sparse"; csrc/torch/cuda calls gather(). "Gather" is the output-stationary form: a thread block
// owns pixels of the result and gathers the source pixels that contribute to them.
//
// As a product (product.cuh): rows are the pixels of the result, columns are its channels, and the
// depth runs over taps and, within a tap, over source channels.
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
  struct PerThread {
    const T* image;  // the image of the source that holds the thread's pixel
    int h, w;        // the thread's pixel of the result, in coordinates of the source at tap (0, 0)
    bool inside;     // whether the thread's pixel exists
    int column;      // first column of the thread's vector of the dense tile
  };

  Geometry g;
  bool forward;
  const T *source, *matrix, *bias;  // as in api.h
  T* out;
  int pixels, height, width;                  // of the result
  int channels, source_height, source_width;  // of the source
  int columns, pitch;                         // channels of the result; row pitch of the matrix
  bool whole_packs;                           // packs of the source may be loaded by 16 bytes

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
        whole_packs(aligned(source) && channels * sizeof(T) % 16 == 0) {
    pixels = g.N * height * width;
  }

  int tiles_per_tap() const { return (channels + kTileDepth - 1) / kTileDepth; }
  Split split() const {
    return split_product<Compute>(pixels, columns, g.R * g.S * tiles_per_tap());
  }

  __device__ PerThread per_thread(int64_t row, int64_t column) const {
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

  __device__ void stage(int tile, const PerThread& mine, const Shared&, Block& to) const {
    const int per_tap = (channels + kTileDepth - 1) / kTileDepth;
    const int tap = tile / per_tap, first_channel = tile % per_tap * kTileDepth;
    const int thread = static_cast<int>(threadIdx.x);
    stage_sparse(tap / g.S, tap % g.S, first_channel, thread, mine, to);
    stage_dense(tap * channels, first_channel, thread, mine, to);
  }
  __device__ void store(int64_t row, int64_t column, Vector<Compute> v) const {
#pragma unroll
    for (int i = 0; bias && i < Block::kVector; ++i) {
      if (column + i < columns) v.value[i] += Storage<T>::load(bias[column + i]);
    }
    store_vector(out + row * columns + column, v, columns - column, pitch == columns);
  }

 private:
  static constexpr int kPacks = kTileDepth / kPack;  // packs in a row of the sparse tile

  // Stages a pack of channels of the source pixel that tap (r, s) connects with the thread's pixel,
  // or zeros if there is none.
  __device__ void stage_sparse(int r, int s, int first_channel, int thread, const PerThread& mine,
                               Block& to) const {
    int h = mine.h + r * g.dilation_h, w = mine.w + s * g.dilation_w;
    bool exists = mine.inside;
    if (!forward) {
      h = mine.h - r * g.dilation_h;
      w = mine.w - s * g.dilation_w;
      exists = exists && h >= 0 && w >= 0 && h % g.stride_h == 0 && w % g.stride_w == 0;
      h /= g.stride_h;
      w /= g.stride_w;
    }
    exists = exists && h >= 0 && h < source_height && w >= 0 && w < source_width;
    const int row = thread / kPacks, depth = thread % kPacks * kPack;
    const int64_t pixel = exists ? int64_t{h} * source_width + w : 0;
    stage_pack(
        mine.image + pixel * channels + first_channel + depth,
        exists ? channels - first_channel - depth : 0, whole_packs,
        [&](int i, Compute value) { to.sparse[row / kGroup][depth + i][row % kGroup] = value; });
  }

  // Stages rows base_row + [first_channel, first_channel + kTileDepth) of the matrix [taps *
  // channels, pitch]; rows from base_row + channels on belong to the next tap and are staged as 0.
  __device__ void stage_dense(int base_row, int first_channel, int thread, const PerThread& mine,
                              Block& to) const {
    constexpr int kAcross = Block::kColumns / Block::kVector;  // threads side by side in a row
    constexpr int kDown = kProductThreads / kAcross;           // rows that all threads load at once
    const int vector = thread % kAcross;
#pragma unroll
    for (int d = thread / kAcross; d < kTileDepth; d += kDown) {
      const bool inside = first_channel + d < channels && mine.column < pitch;
      const int64_t row = base_row + first_channel + d;
      const Vector<Compute> v = load_vector<Compute>(matrix + row * pitch + mine.column, inside);
      reinterpret_cast<Vector<Compute>*>(to.dense[d])[vector] = v;
    }
  }
};

}  // namespace

template <class T>
int64_t gather_scratch_bytes(const ConvShape& s, Pass pass) {
  using Compute = typename Storage<T>::Compute;
  const Gather<T> problem(s, pass, nullptr, nullptr, nullptr, nullptr);
  return product_scratch_bytes<Compute>(problem.split());
}

template <class T>
cudaError_t gather(const ConvShape& s, Pass pass, const T* source, const T* matrix, const T* bias,
                   T* out, void* scratch, cudaStream_t stream) {
  const Gather<T> problem(s, pass, source, matrix, bias, out);
  return run_product(problem, problem.split(), scratch, stream);
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
