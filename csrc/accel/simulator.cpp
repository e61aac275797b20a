// Splits a program into its passes and simulates them, several at a time.
#include "simulator.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "bits.h"

namespace sparsetrain::accel {
namespace {

// The blocks of one pass of one layer.
struct Job {
  const Block *begin, *end;
};

std::vector<Job> split(const Program& program) {
  std::vector<Job> jobs;
  const Block* end = program.blocks.data() + program.blocks.size();
  for (const Block* b = program.blocks.data(); b != end;) {
    const Block* first = b;
    while (b != end && b->layer == first->layer && b->pass == first->pass) ++b;
    jobs.push_back({first, b});
  }
  return jobs;
}

void run_job(const Job& job, const Workload& workload, const Config& chip,
             const std::vector<std::shared_ptr<const Trace>>& traces, Report* report) {
  const auto index = static_cast<size_t>(job.begin->layer);
  const Layer& layer = workload.layers[index];
  const auto run = job.begin->pass == Pass::kGradWeight ? simulate_osrc : simulate_src;
  report->layers[index][static_cast<size_t>(job.begin->pass)] =
      run(job.begin, job.end, layer, *traces[index], chip);
}

// Runs work(i) for i in [0, count) on `threads` threads; rethrows the first exception.
template <class F>
void parallel(size_t count, int64_t threads, F work) {
  std::atomic<size_t> next = 0;
  std::exception_ptr failure;
  std::mutex mutex;
  const auto loop = [&] {
    for (size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  std::vector<std::thread> helpers;
  for (int64_t t = 1; t < threads; ++t) helpers.emplace_back(loop);
  loop();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

Report simulate(const Program& program, const Workload& workload, const Config& chip,
                int64_t threads, uint64_t seed) {
  check(chip);
  check(workload);
  for (const Block& b : program.blocks) {
    if (b.layer < 0 || b.layer >= std::ssize(workload.layers)) {
      throw std::invalid_argument(
          "sparsetrain.accel: expected the program to be compiled from this workload, got layer " +
          std::to_string(b.layer) + " of " + std::to_string(workload.layers.size()));
    }
  }
  std::vector<std::shared_ptr<const Trace>> traces(workload.layers.size());
  parallel(traces.size(), threads, [&](size_t i) {
    const Layer& layer = workload.layers[i];
    if (!chip.skips_zeros)
      traces[i] = std::make_shared<Trace>(
          Trace{all_ones(1, layer.shape.C, layer.shape.H, layer.shape.W),
                all_ones(1, layer.shape.K, layer.shape.P(), layer.shape.Q()), std::nullopt});
    else
      traces[i] = layer.trace ? layer.trace : std::make_shared<Trace>(draw(layer, seed + 3 * i));
  });
  Report report;
  report.layers.resize(workload.layers.size());
  const std::vector<Job> jobs = split(program);
  parallel(jobs.size(), threads,
           [&](size_t i) { run_job(jobs[i], workload, chip, traces, &report); });
  return report;
}

}  // namespace sparsetrain::accel
