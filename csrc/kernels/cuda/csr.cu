// Compaction of dy. A list is what one thread or warp writes in one piece: a row of grad_input's
// matrix; of grad_weight's the share of an output channel in a segment of output pixels, channel by
// channel.
#include "../common/storage.h"
#include "csr.h"
#include "geometry.h"
#include "launch.cuh"
#include "scan.cuh"

namespace sparsetrain::cuda {
namespace {

constexpr int kThreads = kScanThreads, kWarps = kThreads / kWarp;
constexpr int kWords = 4;      // that a warp marks: as many loads under way
constexpr int kSegment = 256;  // output pixels

// A convolution as these kernels see it.
struct Source {
  Geometry g;
  int words, segments;  // words of 32 channels a pixel, segments of output pixels

  explicit Source(const ConvShape& s)
      : g(s),
        words((g.K + kWarp - 1) / kWarp),
        segments(static_cast<int>(blocks_for(s.N * s.P() * s.Q(), kSegment))) {}

  int64_t lists(Pass pass) const {
    return pass == Pass::kGradInput ? int64_t{g.N} * g.H * g.W : int64_t{g.K} * segments;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    mark_kernel(const T* __restrict__ dy, uint32_t pixels, uint32_t words, uint32_t channels,
                uint32_t* __restrict__ bits) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t first = (blockIdx.x * kWarps + threadIdx.x / kWarp) * kWords;
#pragma unroll
  for (uint32_t i = 0; i < kWords; ++i) {
    const uint32_t word = first + i, pixel = word / words;
    const uint32_t channel = word % words * kWarp + lane;
    const bool inside = pixel < pixels && channel < channels;
    const bool nonzero = inside && Storage<T>::load(dy[int64_t{pixel} * channels + channel]) != 0;
    const uint32_t vote = __ballot_sync(0xffffffffu, nonzero);
    if (lane == 0 && pixel < pixels) bits[word] = vote;
  }
}

// meets(tap, output pixel) for all that meet a pixel of x, in the order of the taps.
template <class F>
__device__ __forceinline__ void each_tap(const Geometry& g, int row, const F& meets) {
  const int n = row / (g.H * g.W), rest = row % (g.H * g.W);
  const int h = rest / g.W + g.pad_h, w = rest % g.W + g.pad_w;
  for (int r = 0; r < g.R && r * g.dilation_h <= h; ++r) {
    const int down = h - r * g.dilation_h, p = down / g.stride_h;
    if (p * g.stride_h != down || p >= g.P) continue;
    for (int s = 0; s < g.S && s * g.dilation_w <= w; ++s) {
      const int right = w - s * g.dilation_w, q = right / g.stride_w;
      if (q * g.stride_w != right || q >= g.Q) continue;
      meets(r * g.S + s, (n * g.P + p) * g.Q + q);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    count_rows_kernel(const Source source, int rows, const uint32_t* __restrict__ bits,
                      int* __restrict__ counts) {
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) return;
  int count = 0;
  each_tap(source.g, static_cast<int>(row), [&](int, int pixel) {
    for (int i = 0; i < source.words; ++i) {
      count += __popc(bits[int64_t{pixel} * source.words + i]);
    }
  });
  counts[row] = count;
}

// f(pixel) for the output pixels of a segment.
template <class F>
__device__ __forceinline__ void each_pixel(const Geometry& g, int segment, const F& f) {
  const int first = segment * kSegment, pixels = g.N * g.P * g.Q;
  const int last = pixels - first < kSegment ? pixels : first + kSegment;
  for (int pixel = first; pixel < last; ++pixel) f(pixel);
}

// A warp's part of grad_weight's matrix: a channel a lane, in one segment.
struct Share {
  int word, segment, channel;
  bool inside;

  __device__ explicit Share(const Source& source) {
    const int warp = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / kWarp);
    word = warp % source.words;
    segment = warp / source.words;
    channel = word * kWarp + static_cast<int>(threadIdx.x) % kWarp;
    inside = segment < source.segments && channel < source.g.K;
  }
};

__global__ void __launch_bounds__(kThreads)
    count_columns_kernel(const Source source, const uint32_t* __restrict__ bits,
                         int* __restrict__ counts) {
  const Share share(source);
  if (!share.inside) return;
  int count = 0;
  each_pixel(source.g, share.segment, [&](int pixel) {
    const uint32_t word = bits[int64_t{pixel} * source.words + share.word];
    count += static_cast<int>(word >> share.channel % kWarp & 1);
  });
  counts[share.channel * source.segments + share.segment] = count;
}

// A warp a row. Left to itself the compiler spills two registers to fit eight blocks.
template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    write_rows_kernel(const Source source, const T* __restrict__ dy,
                      const uint32_t* __restrict__ bits, const Starts starts, const Csr<T> csr) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (row >= csr.rows) return;
  const int lane = threadIdx.x % kWarp, channels = source.g.K;
  int at = starts[static_cast<int>(row)];
  if (lane == 0) csr.start[row] = at;
  each_tap(source.g, static_cast<int>(row), [&](int tap, int pixel) {
    for (int i = 0; i < source.words; ++i) {
      const uint32_t word = bits[int64_t{pixel} * source.words + i];
      if (word >> lane & 1) {
        const int to = at + __popc(word & ((1u << lane) - 1)), channel = i * kWarp + lane;
        csr.column[to] = tap * channels + channel;
        csr.value[to] = dy[int64_t{pixel} * channels + channel];
      }
      at += __popc(word);
    }
  });
  if (lane == 0 && row == csr.rows - 1) csr.start[csr.rows] = at;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    write_columns_kernel(const Source source, const T* __restrict__ dy,
                         const uint32_t* __restrict__ bits, const Starts starts, const Csr<T> csr) {
  const Share share(source);
  if (!share.inside) return;
  const Geometry& g = source.g;
  const int height = g.H + 2 * g.pad_h, width = g.W + 2 * g.pad_w;
  int at = starts[share.channel * source.segments + share.segment];
  if (share.segment == 0) csr.start[share.channel] = at;
  const int first = share.segment * kSegment;
  int q = first % g.Q, p = first / g.Q % g.P, n = first / g.Q / g.P;
  int row = (n * height + p * g.stride_h) * width;
  each_pixel(g, share.segment, [&](int pixel) {
    const uint32_t word = bits[int64_t{pixel} * source.words + share.word];
    if (word >> share.channel % kWarp & 1) {
      csr.column[at] = row + q * g.stride_w;
      csr.value[at] = dy[int64_t{pixel} * g.K + share.channel];
      ++at;
    }
    if (++q < g.Q) return;
    q = 0;
    if (++p == g.P) p = 0, ++n;
    row = (n * height + p * g.stride_h) * width;
  });
  const bool last = share.channel == g.K - 1 && share.segment == source.segments - 1;
  if (last) csr.start[csr.rows] = at;
}

}  // namespace

int64_t csr_rows(const ConvShape& s, Pass pass) {
  return pass == Pass::kGradInput ? s.N * s.H * s.W : s.K;
}

int64_t csr_columns(const ConvShape& s, Pass pass) {
  if (pass == Pass::kGradInput) return s.R * s.S * s.K;
  return s.N * padded_height(s) * padded_width(s) - tap_shift(s, s.R - 1, s.S - 1);
}

int64_t nonzero_words(const ConvShape& s) { return s.N * s.P() * s.Q() * Source(s).words; }

template <class T>
cudaError_t mark_nonzeros(const ConvShape& s, const T* dy, uint32_t* bits, cudaStream_t stream) {
  const auto number = [](int64_t v) { return static_cast<uint32_t>(v); };
  return launch(mark_kernel<T>, blocks_for(nonzero_words(s), kWarps * kWords), kThreads, stream, dy,
                number(s.N * s.P() * s.Q()), number(Source(s).words), number(s.K), bits);
}

int64_t counts_bytes(const ConvShape& s, Pass pass) { return starts_bytes(Source(s).lists(pass)); }

cudaError_t count_entries(const ConvShape& s, Pass pass, const uint32_t* bits, void* counts,
                          int64_t* entries, cudaStream_t stream) {
  const Source source(s);
  const int64_t lists = source.lists(pass);
  const Starts starts(counts, lists);
  cudaError_t error = cudaSuccess;
  if (pass == Pass::kGradInput) {
    error = launch(count_rows_kernel, blocks_for(lists, kThreads), kThreads, stream, source,
                   static_cast<int>(lists), bits, starts.list);
  } else {
    const int64_t warps = int64_t{source.segments} * source.words;
    error = launch(count_columns_kernel, blocks_for(warps, kWarps), kThreads, stream, source, bits,
                   starts.list);
  }
  if (error) return error;
  return scan(starts, lists, entries, stream);
}

template <class T>
cudaError_t write_csr(const ConvShape& s, Pass pass, const T* dy, const uint32_t* bits,
                      const void* counts, const Csr<T>& csr, cudaStream_t stream) {
  const Source source(s);
  const Starts starts(const_cast<void*>(counts), source.lists(pass));
  if (pass == Pass::kGradInput) {
    return launch(write_rows_kernel<T>, blocks_for(csr.rows, kWarps), kThreads, stream, source, dy,
                  bits, starts, csr);
  }
  const int64_t warps = int64_t{source.segments} * source.words;
  return launch(write_columns_kernel<T>, blocks_for(warps, kWarps), kThreads, stream, source, dy,
                bits, starts, csr);
}

#define SPARSETRAIN_INSTANTIATE(T)                                                            \
  template cudaError_t mark_nonzeros<T>(const ConvShape&, const T*, uint32_t*, cudaStream_t); \
  template cudaError_t write_csr<T>(const ConvShape&, Pass, const T*, const uint32_t*,        \
                                    const void*, const Csr<T>&, cudaStream_t);
SPARSETRAIN_INSTANTIATE(float)
SPARSETRAIN_INSTANTIATE(double)
SPARSETRAIN_INSTANTIATE(BFloat16)
SPARSETRAIN_INSTANTIATE(Half)
#undef SPARSETRAIN_INSTANTIATE

}  // namespace sparsetrain::cuda
