// Compaction of dy into CSR matrices (see csr.h). The entries of a matrix form lists, each written
// by one thread or warp: in grad_input's matrix a list is a row; in grad_weight's it is the part of
// a row (an output channel) that lies in one segment of output pixels. Lists are counted, an
// exclusive scan turns their counts into starts, and then they are written.
#include <cub/device/device_scan.cuh>

#include "../common/storage.h"
#include "csr.h"
#include "geometry.h"
#include "launch.cuh"

namespace sparsetrain::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kWords = 4;      // words that a warp marks, to have several loads in flight
constexpr int kSegment = 256;  // output pixels of a segment

// A convolution as the kernels of this file index it.
struct Source {
  Geometry g;
  int words;     // 32-channel words of a pixel in the bit map
  int segments;  // segments of kSegment output pixels

  explicit Source(const ConvShape& s)
      : g(s),
        words((g.K + kWarp - 1) / kWarp),
        segments(static_cast<int>(blocks_for(s.N * s.P() * s.Q(), kSegment))) {}

  // Lists of the matrix of a pass. Below 2^30, as choose_on_cuda() accepts no larger shapes.
  int lists(Pass pass) const { return pass == Pass::kGradInput ? g.N * g.H * g.W : g.K * segments; }
};

// The memory of counts_bytes(): one int a list, and one more; then CUB's temporary storage. The
// kernels of count_entries() write the counts, with 0 as the last one. The scan replaces them by
// starts, so that the last one becomes the number of entries.
struct Counts {
  int* list;           // [lists + 1]
  void* scan_storage;  // storage_bytes

  Counts(void* memory, int lists)
      : list(static_cast<int*>(memory)),
        scan_storage(static_cast<char*>(memory) + list_bytes(lists)) {}

  static int64_t list_bytes(int lists) {
    return blocks_for((int64_t{lists} + 1) * static_cast<int64_t>(sizeof(int)), 16) * 16;
  }
};

// Replaces count[0, lists] by its exclusive sums, in place. Integer sums do not depend on the order
// in which CUB adds them. storage: *bytes of temporary storage; if nullptr, only *bytes is set.
cudaError_t scan(void* storage, size_t* bytes, int* count, int lists, cudaStream_t stream) {
  return cub::DeviceScan::ExclusiveSum(storage, *bytes, count, count, lists + 1, stream);
}

size_t scan_storage_bytes(int lists) {
  size_t bytes = 0;
  // An error leaves 0 bytes; the scan itself will return it again.
  scan(nullptr, &bytes, nullptr, lists, nullptr);
  return bytes;
}

// Copies the number of entries, which follows the starts, into the caller's counter. One thread.
__global__ void store_entries_kernel(const int* __restrict__ total, int64_t* __restrict__ entries) {
  *entries = *total;
}

// Fills the bit map of dy: a warp marks kWords words, a lane one channel of each.
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

// Calls f(tap, output pixel) for every output pixel that a tap connects with pixel `row` of x, in
// the order of the taps.
template <class F>
__device__ __forceinline__ void each_tap(const Geometry& g, int row, const F& f) {
  const int n = row / (g.H * g.W), rest = row % (g.H * g.W);
  const int h = rest / g.W + g.pad_h, w = rest % g.W + g.pad_w;
  for (int r = 0; r < g.R && r * g.dilation_h <= h; ++r) {
    const int down = h - r * g.dilation_h, p = down / g.stride_h;
    if (p * g.stride_h != down || p >= g.P) continue;
    for (int s = 0; s < g.S && s * g.dilation_w <= w; ++s) {
      const int right = w - s * g.dilation_w, q = right / g.stride_w;
      if (q * g.stride_w != right || q >= g.Q) continue;
      f(r * g.S + s, (n * g.P + p) * g.Q + q);
    }
  }
}

// Counts the lists of grad_input's matrix: a thread a row, and one thread for the final 0.
__global__ void __launch_bounds__(kThreads)
    count_rows_kernel(const Source source, int rows, const uint32_t* __restrict__ bits,
                      int* __restrict__ counts) {
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row > rows) return;
  int count = 0;
  if (row == rows) {
    counts[row] = 0;
    return;
  }
  each_tap(source.g, static_cast<int>(row), [&](int, int pixel) {
    for (int i = 0; i < source.words; ++i) {
      count += __popc(bits[int64_t{pixel} * source.words + i]);
    }
  });
  counts[row] = count;
}

// Calls f(pixel) for the output pixels of a segment.
template <class F>
__device__ __forceinline__ void each_pixel(const Geometry& g, int segment, const F& f) {
  const int first = segment * kSegment, pixels = g.N * g.P * g.Q;
  const int last = pixels - first < kSegment ? pixels : first + kSegment;
  for (int pixel = first; pixel < last; ++pixel) f(pixel);
}

// The list of grad_weight's matrix that a thread counts or writes: a warp takes the 32 channels of
// one word of the bit map in one segment, a lane one of them.
struct Share {
  int word, segment, channel;
  bool inside;  // whether there is such a list

  __device__ explicit Share(const Source& source) {
    const int warp = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / kWarp);
    word = warp % source.words;
    segment = warp / source.words;
    channel = word * kWarp + static_cast<int>(threadIdx.x) % kWarp;
    inside = segment < source.segments && channel < source.g.K;
  }
};

// Counts the lists of grad_weight's matrix; the first thread also writes the final 0.
__global__ void __launch_bounds__(kThreads)
    count_columns_kernel(const Source source, const uint32_t* __restrict__ bits,
                         int* __restrict__ counts) {
  const Share share(source);
  if (blockIdx.x == 0 && threadIdx.x == 0) counts[source.g.K * source.segments] = 0;
  if (!share.inside) return;
  int count = 0;
  each_pixel(source.g, share.segment, [&](int pixel) {
    const uint32_t word = bits[int64_t{pixel} * source.words + share.word];
    count += static_cast<int>(word >> share.channel % kWarp & 1);
  });
  counts[share.channel * source.segments + share.segment] = count;
}

// Writes grad_input's matrix, a warp a row. The bound of four resident blocks is explicit because
// the compiler would aim at eight and spill two registers for that.
template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    write_rows_kernel(const Source source, const T* __restrict__ dy,
                      const uint32_t* __restrict__ bits, const int* __restrict__ starts,
                      const Csr<T> csr) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (row >= csr.rows) return;
  const int lane = threadIdx.x % kWarp, channels = source.g.K;
  int at = starts[row];
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

// Writes grad_weight's matrix.
template <class T>
__global__ void __launch_bounds__(kThreads)
    write_columns_kernel(const Source source, const T* __restrict__ dy,
                         const uint32_t* __restrict__ bits, const int* __restrict__ starts,
                         const Csr<T> csr) {
  const Share share(source);
  if (!share.inside) return;
  const Geometry& g = source.g;
  const int height = g.H + 2 * g.pad_h, width = g.W + 2 * g.pad_w;  // of x with its padding
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

int64_t counts_bytes(const ConvShape& s, Pass pass) {
  const int lists = Source(s).lists(pass);
  return Counts::list_bytes(lists) + static_cast<int64_t>(scan_storage_bytes(lists));
}

cudaError_t count_entries(const ConvShape& s, Pass pass, const uint32_t* bits, void* counts,
                          int64_t* entries, cudaStream_t stream) {
  const Source source(s);
  const int lists = source.lists(pass);
  const Counts memory(counts, lists);
  cudaError_t error = cudaSuccess;
  if (pass == Pass::kGradInput) {
    error = launch(count_rows_kernel, blocks_for(int64_t{lists} + 1, kThreads), kThreads, stream,
                   source, lists, bits, memory.list);
  } else {
    const int64_t warps = int64_t{source.segments} * source.words;
    error = launch(count_columns_kernel, blocks_for(warps, kWarps), kThreads, stream, source, bits,
                   memory.list);
  }
  if (error) return error;
  size_t bytes = scan_storage_bytes(lists);
  error = scan(memory.scan_storage, &bytes, memory.list, lists, stream);
  if (error) return error;
  return launch(store_entries_kernel, 1, 1, stream, memory.list + lists, entries);
}

template <class T>
cudaError_t write_csr(const ConvShape& s, Pass pass, const T* dy, const uint32_t* bits,
                      const void* counts, const Csr<T>& csr, cudaStream_t stream) {
  const Source source(s);
  const int* starts = static_cast<const int*>(counts);
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
