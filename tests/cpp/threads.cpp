// What may run side by side gives what one thread gives: chunks of a prune, passes of a simulation.
// (tests/cpp/kernels.cpp deals the tasks of convolutions to two threads.) For ThreadSanitizer.
#include <algorithm>
#include <thread>
#include <vector>

#include "accel/simulator.h"
#include "check.h"
#include "kernels/cpu/prune.h"

namespace {

using namespace sparsetrain;

template <class F>
void side_by_side(int64_t count, F&& f) {
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < count; ++i) threads.emplace_back([&f, i] { f(i); });
  for (std::thread& thread : threads) thread.join();
}

void prune_in_chunks() {
  constexpr int64_t kElements = 8 * kChunk + 5;
  std::vector<float> grad(kElements), once(kElements), parts(kElements);
  for (int64_t i = 0; i < kElements; ++i) {
    grad[static_cast<size_t>(i)] = static_cast<float>(i % 97 - 48) / 48;
  }
  const int64_t chunks = prune_chunks(kElements);
  std::vector<PruneStats> one(static_cast<size_t>(chunks)), many(static_cast<size_t>(chunks));
  prune(current_isa(nullptr), grad.data(), once.data(), kElements, 0, chunks, 0.7f, 5, 6,
        one.data());
  side_by_side(chunks, [&](int64_t i) {
    prune(current_isa(nullptr), grad.data(), parts.data(), kElements, i, i + 1, 0.7f, 5, 6,
          many.data());
  });
  CHECK(once == parts);
  CHECK(reduce(one.data(), chunks).abs_sum == reduce(many.data(), chunks).abs_sum);
  CHECK(std::count(once.begin(), once.end(), 0.0f) > kElements / 10);
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

void simulate_on_threads() {
  const accel::Workload work = workload();
  const accel::Config& chip = accel::kSparseTrain168;
  const accel::Program program = accel::compile(work, chip);
  const accel::Report one = accel::simulate(program, work, chip, 1, 7);
  const accel::Report many = accel::simulate(program, work, chip, 4, 7);
  CHECK(one.layers == many.layers);
  CHECK(one.total().macs > 0);
}

}  // namespace

int main() {
  prune_in_chunks();
  simulate_on_threads();
  std::puts("threads: prune and simulate give what one thread gives");
}
