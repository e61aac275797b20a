// Tests that parallel runs give the results of one thread: chunks of pruning, and passes of the
// accelerator's simulation. Also run under ThreadSanitizer. (cpu_conv.cpp does this for
// convolutions.)
#include <algorithm>
#include <thread>
#include <vector>

#include "accel/simulator.h"
#include "check.h"
#include "kernels/cpu/prune.h"

namespace {

using namespace sparsetrain;

// Calls f(0), ..., f(count - 1), each on a thread of its own.
template <class F>
void run_in_parallel(int64_t count, F&& f) {
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < count; ++i) threads.emplace_back([&f, i] { f(i); });
  for (std::thread& thread : threads) thread.join();
}

void test_prune_on_many_threads() {
  constexpr int64_t kElements = 8 * kChunk + 5;
  std::vector<float> grad(kElements), serial(kElements), parallel(kElements);
  for (int64_t i = 0; i < kElements; ++i) {
    grad[static_cast<size_t>(i)] = static_cast<float>(i % 97 - 48) / 48;
  }
  const int64_t chunks = prune_chunks(kElements);
  std::vector<PruneStats> serial_stats(static_cast<size_t>(chunks)), parallel_stats = serial_stats;
  prune(current_isa(nullptr), grad.data(), serial.data(), kElements, 0, chunks, 0.7f, 5, 6,
        serial_stats.data());
  run_in_parallel(chunks, [&](int64_t i) {
    prune(current_isa(nullptr), grad.data(), parallel.data(), kElements, i, i + 1, 0.7f, 5, 6,
          parallel_stats.data());
  });
  CHECK(serial == parallel);
  CHECK(reduce(serial_stats.data(), chunks).abs_sum ==
        reduce(parallel_stats.data(), chunks).abs_sum);
  CHECK(std::count(serial.begin(), serial.end(), 0.0f) > kElements / 10);
}

accel::Workload workload() {
  accel::Workload work;
  for (const int64_t channels : {3, 8, 16}) {
    accel::Layer layer;
    layer.name = "layer" + std::to_string(channels);
    layer.shape = {.N = 2,
                   .C = channels,
                   .H = 9,
                   .W = 11,
                   .K = 2 * channels,
                   .R = 3,
                   .S = 3,
                   .pad_h = 1,
                   .pad_w = 1};
    layer.x_density = 0.5, layer.dy_density = 0.2;
    work.layers.push_back(layer);
  }
  return work;
}

void test_simulate_on_many_threads() {
  const accel::Workload work = workload();
  const accel::Config& chip = accel::kSparseTrain168;
  const accel::Program program = accel::compile(work, chip);
  const accel::Report serial = accel::simulate(program, work, chip, 1, 7);
  const accel::Report parallel = accel::simulate(program, work, chip, 4, 7);
  CHECK(serial.layers == parallel.layers);
  CHECK(serial.total().macs > 0);
}

}  // namespace

int main() {
  test_prune_on_many_threads();
  test_simulate_on_many_threads();
  std::puts("prune and simulate give the same results on one thread and on many");
}
