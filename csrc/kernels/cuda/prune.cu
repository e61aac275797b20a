// Stochastic pruning on CUDA, declared in api.h and called by csrc/torch/cuda/prune.cpp. A warp
// prunes one chunk of kChunk elements, row by row; a lane takes one pack (eight neighbors) of each
// row. The bits of the results are defined by common/prune_rule.h and equal those of the CPU.
#undef NDEBUG  // prune_step reports a refused call by an assertion, in release builds too
#include <cassert>

#include "api.h"
#include "launch.cuh"
#include "packs.cuh"

namespace sparsetrain::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kRow = kWarp * kPack;  // elements of a chunk that a warp reads at once
static_assert(kRow == kChunkLanes, "lane l, place p of a row must be lane 8 * l + p of the sum");

// The arguments of one call's random draws, computed on the device.
struct alignas(16) Draw {
  uint64_t seed, offset;
  double threshold;  // not yet rounded to the storage type
  double padding;    // keeps the size a multiple of the alignment
};

struct alignas(16) ChunkStats {
  double abs_sum;
  uint32_t nonzeros_before, nonzeros;
};

// Adds the 256 lane sums of a chunk in the pairwise order of prune_rule.h; every thread of the warp
// gets the sum. Thread l holds lane sums 8 * l + [0, 8). The steps of width 128 to 8 add equal
// places of two threads (warp_sum), those of width 4 to 1 add places of one thread.
template <class V>
__device__ __forceinline__ V chunk_sum(V (&place)[kPack]) {
#pragma unroll
  for (int i = 0; i < kPack; ++i) place[i] = warp_sum(place[i]);
#pragma unroll
  for (int width = kPack / 2; width > 0; width /= 2) {
#pragma unroll
    for (int i = 0; i < width; ++i) place[i] += place[i + width];
  }
  return place[0];
}

// The statistics that a lane collects over the rows of its chunk.
template <class T>
struct LaneStats {
  typename Storage<T>::Compute sum[kPack] = {};
  uint32_t counts = 0;  // nonzeros before (low 16 bits) and after (high 16 bits), 2048 at most
};

// Prunes the lane's packs of one chunk, or only measures them (kWrite false). begin: the index of
// the lane's first element. kWhole: the chunk is complete and 16-byte accesses are allowed.
template <class T, bool kWrite, bool kWhole>
__device__ __forceinline__ void prune_rows(const T* __restrict__ grad, T* __restrict__ out,
                                           int64_t elements, int64_t begin,
                                           const PruneRule<T>& rule, const PhiloxKeys& keys,
                                           uint64_t offset, LaneStats<T>& stats) {
#pragma unroll(kWhole && sizeof(T) < 8 ? 2 : 1)
  for (int row = 0; row < kChunk / kRow; ++row, begin += kRow) {
    const int64_t left = kWhole ? kPack : elements - begin;
    T g[kPack];
    load_pack(grad + begin, left, kWhole, g);
    PhiloxBlock random[2] = {};
    if constexpr (kWrite) {
      random[0] = words_of(begin, keys, offset);
      random[1] = words_of(begin + 4, keys, offset);
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const auto value = Storage<T>::load(g[i]), magnitude = std::abs(value);
      stats.sum[i] += magnitude;
      stats.counts += value != 0;
      if constexpr (kWrite) {
        const bool keep = rule.keeps(magnitude, random[i / 4].word[i % 4]);
        stats.counts += keep ? 0x10000 : 0;
        const T kept = rule.kept(g[i], magnitude);  // computed always: a select, not a branch
        g[i] = keep ? kept : T{};
      }
    }
    if constexpr (kWrite) store_pack(out + begin, left, kWhole, g);
  }
}

// Prunes grad into out, one chunk a warp, or only measures it (kWrite false).
template <class T, bool kWrite>
__global__ void __launch_bounds__(kThreads)
    prune_chunks_kernel(const T* __restrict__ grad, T* __restrict__ out, int64_t elements,
                        bool aligned, const Draw* __restrict__ draw,
                        ChunkStats* __restrict__ stats) {
  const int64_t chunk = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (chunk * kChunk >= elements) return;  // all lanes of the warp return together
  const PruneRule<T> rule(rounded_threshold<T>(kWrite ? draw->threshold : 0));
  const uint64_t offset = kWrite ? draw->offset : 0;
  PhiloxKeys keys(kWrite ? draw->seed : 0);
  // Keeps the round keys in registers; the compiler would recompute them for every block of words.
  if constexpr (sizeof(T) < 8) {
    for (auto& pair : keys.round) {
      for (uint32_t& key : pair) asm("" : "+r"(key));
    }
  }
  const int64_t begin = chunk * kChunk + lane * kPack;
  LaneStats<T> lane_stats;
  if (aligned && (chunk + 1) * kChunk <= elements) {
    prune_rows<T, kWrite, true>(grad, out, elements, begin, rule, keys, offset, lane_stats);
  } else {
    prune_rows<T, kWrite, false>(grad, out, elements, begin, rule, keys, offset, lane_stats);
  }
  const double total = static_cast<double>(chunk_sum(lane_stats.sum));
  const uint32_t counts = warp_sum(lane_stats.counts);
  if (lane == 0) stats[chunk] = {total, counts & 0xffff, counts >> 16};
}

// Adds the statistics of all chunks in the order of prune_rule.h. Runs in one block of kReduceLanes
// threads; only thread 0 gets the result.
__device__ PruneStats reduce_chunks(const ChunkStats* __restrict__ stats, int64_t chunks) {
  __shared__ double sum[kReduceLanes];
  __shared__ int64_t before[kReduceLanes], after[kReduceLanes];
  const int lane = threadIdx.x;
  PruneStats total;
#pragma unroll 8
  for (int64_t i = lane; i < chunks; i += kReduceLanes) {
    const ChunkStats chunk = stats[i];
    total.abs_sum += chunk.abs_sum;
    total.nonzeros_before += chunk.nonzeros_before;
    total.nonzeros += chunk.nonzeros;
  }
  sum[lane] = total.abs_sum;
  before[lane] = total.nonzeros_before;
  after[lane] = total.nonzeros;
  for (int width = kReduceLanes / 2; width > 0; width /= 2) {
    __syncthreads();
    if (lane < width) {
      sum[lane] += sum[lane + width];
      before[lane] += before[lane + width];
      after[lane] += after[lane + width];
    }
  }
  return {sum[0], before[0], after[0]};
}

// The draw of prune(): with the caller's threshold and rng (seed, offset). One thread.
__global__ void draw_given_kernel(const double* threshold, const int64_t* rng, Draw* draw) {
  *draw = {static_cast<uint64_t>(rng[0]), static_cast<uint64_t>(rng[1]), *threshold, 0};
}

// The draw of prune_step(): with the threshold that the state predicts. One thread.
// measured: if call.history is 0, the sum of |grad| of this very gradient; else not read.
__global__ void draw_predicted_kernel(double* state, PruneCall call, const double* measured,
                                      Draw* draw) {
  const Refusal refusal = admit(state, call);
  assert(refusal != Refusal::kFactor &&
         "sparsetrain::prune_step: expected the factor in state to be finite and at least 0");
  assert(refusal != Refusal::kLayout &&
         "sparsetrain::prune_step: expected the gradient's memory format to be that of the saved "
         "state. Masks depend on it; load the state with strict=False to continue anyway");
  assert(refusal != Refusal::kSize &&
         "sparsetrain::prune_step: expected the gradient's size to be that of the saved state. "
         "Masks depend on the batch size; load the state with strict=False to continue anyway");
  double mean = predicted_mean(state, call);
  if (call.history == 0) mean = *measured / static_cast<double>(call.elements);
  const uint64_t offset = take_counters(state, call);
  *draw = {static_cast<uint64_t>(state[state::kSeed]), offset,
           threshold_of(state[state::kFactor], mean), 0};
}

// Writes the three statistics of prune() to total. One block.
__global__ void __launch_bounds__(kReduceLanes)
    total_kernel(const ChunkStats* stats, int64_t chunks, double* total) {
  const PruneStats sums = reduce_chunks(stats, chunks);
  if (threadIdx.x != 0) return;
  total[0] = sums.abs_sum;
  total[1] = static_cast<double>(sums.nonzeros_before);
  total[2] = static_cast<double>(sums.nonzeros);
}

// Records a call of prune_step() in its state. One block.
__global__ void __launch_bounds__(kReduceLanes)
    record_kernel(const ChunkStats* stats, PruneCall call, const Draw* draw, double* state,
                  double* density) {
  const PruneStats sums = reduce_chunks(stats, prune_chunks(call.elements));
  if (threadIdx.x != 0) return;
  record(state, call, draw->threshold, sums);
  store_density(density, sums.nonzeros, call.elements);
}

// The scratch of one call, cut into arrays.
struct Scratch {
  Draw* draw;
  double* measured;    // three statistics, and one double that keeps `chunks` aligned to 16 bytes
  ChunkStats* chunks;  // one a chunk

  explicit Scratch(void* memory)
      : draw(static_cast<Draw*>(memory)),
        measured(reinterpret_cast<double*>(draw + 1)),
        chunks(reinterpret_cast<ChunkStats*>(measured + 4)) {}
};

// Enqueues prune_chunks_kernel over all chunks.
template <class T, bool kWrite>
cudaError_t run(const T* grad, T* out, int64_t elements, const Scratch& scratch,
                cudaStream_t stream) {
  const int64_t blocks = blocks_for(prune_chunks(elements), kWarps);
  const bool whole_packs = aligned(grad) && aligned(out);
  return launch(prune_chunks_kernel<T, kWrite>, blocks, kThreads, stream, grad, out, elements,
                whole_packs, scratch.draw, scratch.chunks);
}

}  // namespace

int64_t prune_scratch_bytes(int64_t elements) {
  return static_cast<int64_t>(sizeof(Draw) + 4 * sizeof(double)) +
         prune_chunks(elements) * static_cast<int64_t>(sizeof(ChunkStats));
}

template <class T>
cudaError_t prune(const T* grad, T* out, int64_t elements, const double* threshold,
                  const int64_t* rng, void* memory, double* stats, cudaStream_t stream) {
  const Scratch scratch(memory);
  cudaError_t error = launch(draw_given_kernel, 1, 1, stream, threshold, rng, scratch.draw);
  if (!error) error = run<T, true>(grad, out, elements, scratch, stream);
  if (error) return error;
  return launch(total_kernel, 1, kReduceLanes, stream, scratch.chunks, prune_chunks(elements),
                stats);
}

template <class T>
cudaError_t prune_step(const T* grad, T* out, const PruneCall& call, double* state, double* density,
                       void* memory, cudaStream_t stream) {
  const Scratch scratch(memory);
  cudaError_t error = cudaSuccess;
  if (call.history == 0) {  // the threshold follows this gradient's mean: read it once more
    error = run<T, false>(grad, out, call.elements, scratch, stream);
    if (!error) {
      error = launch(total_kernel, 1, kReduceLanes, stream, scratch.chunks,
                     prune_chunks(call.elements), scratch.measured);
    }
  }
  if (!error) {
    error =
        launch(draw_predicted_kernel, 1, 1, stream, state, call, scratch.measured, scratch.draw);
  }
  if (!error) error = run<T, true>(grad, out, call.elements, scratch, stream);
  if (error) return error;
  return launch(record_kernel, 1, kReduceLanes, stream, scratch.chunks, call, scratch.draw, state,
                density);
}

#define SPARSETRAIN_INSTANTIATE(T)                                                            \
  template cudaError_t prune<T>(const T*, T*, int64_t, const double*, const int64_t*, void*,  \
                                double*, cudaStream_t);                                       \
  template cudaError_t prune_step<T>(const T*, T*, const PruneCall&, double*, double*, void*, \
                                     cudaStream_t);
SPARSETRAIN_INSTANTIATE(float)
SPARSETRAIN_INSTANTIATE(double)
SPARSETRAIN_INSTANTIATE(BFloat16)
SPARSETRAIN_INSTANTIATE(Half)
#undef SPARSETRAIN_INSTANTIATE

}  // namespace sparsetrain::cuda
