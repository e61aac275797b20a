// Tests the CUDA kernels of pruning and of counting nonzeros, run by the emulator, against those of
// the CPU: all bits of outputs, statistics and states, for odd sizes and for unaligned storage.
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "kernels/cpu/prune.h"
#include "kernels/cuda/api.h"

namespace {

using namespace sparsetrain;

// Memory of exactly n elements, so that a sanitizer sees the first access beyond it. It begins at a
// multiple of 16 bytes, or one element after it if not `aligned`.
template <class T>
class Memory {
 public:
  Memory(int64_t n, bool aligned)
      : bytes_(static_cast<size_t>(n) * sizeof(T) + (aligned ? 0 : sizeof(T))),
        data_(static_cast<char*>(std::aligned_alloc(16, (bytes_ + 15) / 16 * 16))),
        begin_(aligned ? 0 : sizeof(T)),
        n_(n) {
    std::memset(data_, 0x5a, bytes_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { std::free(data_); }

  T* data() { return reinterpret_cast<T*>(data_ + begin_); }
  T& operator[](int64_t i) { return data()[i]; }
  bool same(Memory& other) {
    return std::memcmp(data(), other.data(), static_cast<size_t>(n_) * sizeof(T)) == 0;
  }

 private:
  size_t bytes_;
  char* data_;
  size_t begin_;
  int64_t n_;
};

// Fills grad with normal random numbers, zeros of both signs and, unless `finite`, some Inf and
// NaN.
template <class T>
void fill(Memory<T>& grad, int64_t n, unsigned seed, bool finite) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < n; ++i) {
    double value = normal(random);
    if (random() % 4 == 0) value = value < 0 ? -0.0 : 0.0;
    if (!finite && random() % 64 == 0) value = random() % 2 ? 1 / 0.0 : std::nan("");
    grad[i] = Storage<T>::store(static_cast<typename Storage<T>::Compute>(value));
  }
}

// Prunes the whole tensor by the CPU's kernels; out == nullptr only measures it.
template <class T>
PruneStats prune_on_cpu(Memory<T>& grad, T* out, int64_t n, double threshold, uint64_t seed,
                        uint64_t offset) {
  const int64_t chunks = prune_chunks(n);
  std::vector<PruneStats> stats(static_cast<size_t>(chunks));
  prune(current_isa(nullptr), grad.data(), out, n, 0, chunks, rounded_threshold<T>(threshold), seed,
        offset, stats.data());
  return reduce(stats.data(), chunks);
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

template <class T>
void test_prune(int64_t n, bool aligned, double threshold, bool finite) {
  Memory<T> grad(n, aligned), out(n, true), expected_out(n, true);
  fill(grad, n, static_cast<unsigned>(n), finite);
  const int64_t rng[] = {0x123456789abcdef, (int64_t{1} << 32) - 2};  // the low word overflows
  Memory<char> scratch(cuda::prune_scratch_bytes(n), true);
  double stats[3];
  CHECK(cuda::prune(grad.data(), out.data(), n, &threshold, rng, scratch.data(), stats, nullptr) ==
        cudaSuccess);
  const PruneStats expected =
      prune_on_cpu(grad, expected_out.data(), n, threshold, static_cast<uint64_t>(rng[0]),
                   static_cast<uint64_t>(rng[1]));
  CHECK(out.same(expected_out));
  CHECK(same(stats[0], expected.abs_sum));
  CHECK(stats[1] == static_cast<double>(expected.nonzeros_before));
  CHECK(stats[2] == static_cast<double>(expected.nonzeros));
}

// Runs calls of varying sizes through one state, one of them with a gradient that is not finite.
template <class T>
void test_prune_step(int64_t history) {
  std::vector<double> state(static_cast<size_t>(state::kFifo + history));
  state[state::kSeed] = 77;
  state[state::kFactor] = 1.3;
  std::vector<double> expected_state = state;
  const int64_t sizes[] = {5000, 5000, 4999, 300, 5000, 2048};
  for (unsigned i = 0; i < 6; ++i) {
    const int64_t n = sizes[i];
    const PruneCall call{n, i % 2 ? state::kChannelsLast : state::kContiguous, history};
    Memory<T> grad(n, i != 4), out(n, true), expected(n, true);
    fill(grad, n, i, i != 3);
    Memory<char> scratch(cuda::prune_scratch_bytes(n), true);
    double density = -1;  // must be written if it is passed
    CHECK(cuda::prune_step(grad.data(), out.data(), call, state.data(), i % 3 ? &density : nullptr,
                           scratch.data(), nullptr) == cudaSuccess);
    double* s = expected_state.data();
    CHECK(admit(s, call) == Refusal::kNone);
    const uint64_t offset = take_counters(s, call);
    double mean = predicted_mean(s, call);
    if (history == 0) {
      mean = prune_on_cpu<T>(grad, nullptr, n, 0, 0, 0).abs_sum / static_cast<double>(n);
    }
    const double threshold = threshold_of(1.3, mean);
    record(s, call, threshold, prune_on_cpu(grad, expected.data(), n, threshold, 77, offset));
    CHECK(out.same(expected));
    for (size_t slot = 0; slot < state.size(); ++slot) {
      CHECK(same(state[slot], expected_state[slot]));
    }
    CHECK(density == (i % 3 ? s[state::kNonzeros] / static_cast<double>(n) : -1));
  }
  CHECK(state[state::kThreshold] > 0);
}

// Counts on every third call. Call 3 passes no density, so that call 0's must survive.
template <class T>
void test_count_nonzeros(int64_t n, bool aligned, unsigned calls) {
  double state[state::kCounterSlots] = {};
  int64_t counted = -1;
  double density = -1, expected_density = -1;
  for (unsigned call = 0; call < calls; ++call) {
    Memory<T> data(n, aligned);
    fill(data, n, call, false);
    Memory<char> scratch(cuda::count_nonzeros_scratch_bytes(n), true);
    CHECK(cuda::count_nonzeros(data.data(), n, 3, state, call == 3 ? nullptr : &density,
                               scratch.data(), nullptr) == cudaSuccess);
    if (call % 3 == 0) {
      counted = 0;
      for (int64_t i = 0; i < n; ++i) counted += Storage<T>::load(data[i]) != 0;
    }
    CHECK(state[state::kCalls] == call + 1);
    CHECK(state[state::kCountedElements] == static_cast<double>(n));
    CHECK(state[state::kCountedNonzeros] == static_cast<double>(counted));
    if (call == 0) {  // NaN if there are no elements
      expected_density = static_cast<double>(counted) / static_cast<double>(n);
    }
    CHECK(same(density, expected_density));
  }
}

template <class T>
void test_storage_type() {
  for (const int64_t n : {0, 1, 3, 7, 8, 9, 255, 256, 257, 2047, 2048, 2049, 8 * 2048 + 5}) {
    for (const bool aligned : {true, false}) {
      test_prune<T>(n, aligned, 0.7, true);
      test_count_nonzeros<T>(n, aligned, 5);
    }
  }
  for (const double threshold : {0.0, -1.0, 1e-3, 1e30, 1 / 0.0, std::nan("")}) {
    test_prune<T>(3000, true, threshold, false);
  }
  for (const int64_t history : {0, 1, 2}) test_prune_step<T>(history);
}

}  // namespace

int main() {
  test_storage_type<float>();
  test_storage_type<double>();
  test_storage_type<BFloat16>();
  test_storage_type<Half>();
#if !defined(__SANITIZE_ADDRESS__)  // takes a minute there, and has no new kinds of access
  // More than one chunk for each lane of the sum, and more elements than all blocks count at once.
  test_prune<BFloat16>(kReduceLanes * kChunk + 2049, true, 0.7, true);
  test_count_nonzeros<Half>(1024 * 256 * 8 + 9, true, 1);
#endif
}
