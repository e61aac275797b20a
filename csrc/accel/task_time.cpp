// Normal approximations of queues. docs/accelerator.md has their errors against the simulator.
#include "task_time.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace sparsetrain::accel {
namespace {

double normal_cdf(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }
double normal_pdf(double z) { return std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi); }

double integrate_expected_max(int64_t n) {
  // The expected maximum is the integral over z of z n phi(z) Phi(z)^(n-1).
  constexpr int kSteps = 128;  // in an interval of length 1
  double total = 0;
  for (int i = -9 * kSteps; i < 9 * kSteps; ++i) {
    const double z = static_cast<double>(i) / kSteps;
    total += z * static_cast<double>(n) * normal_pdf(z) *
             std::pow(normal_cdf(z), static_cast<double>(n - 1)) / kSteps;
  }
  return total;
}

}  // namespace

double expected_max(double a, double b, double sd) {
  if (sd <= 0) return std::max(a, b);
  const double z = (a - b) / sd;
  if (z > 6) return a;
  if (z < -6) return b;
  return a * normal_cdf(z) + b * normal_cdf(-z) + sd * normal_pdf(z);
}

double expected_max_of(int64_t n) {
  switch (n) {  // known values for small groups of PEs; any other n is integrated
    case 0:
    case 1:
      return 0;
    case 2:
      return std::numbers::inv_sqrtpi;
    case 3:
      return 0.84628438;
    case 4:
      return 1.02937537;
    default:
      return integrate_expected_max(n);
  }
}

double task_cycles(const GroupWork& w) {
  double slowest = 0;
  if (!w.pe_cycles.empty()) {
    double mean = 0, most = 0;
    for (size_t j = 0; j < w.pe_cycles.size(); ++j) {
      const double end = w.first_cycles[j] + w.pe_cycles[j];
      mean += end / static_cast<double>(w.pe_cycles.size());
      most = std::max(most, end);
    }
    // The systematic imbalance and the random spread combine as independent deviations (root of the
    // sum of squares).
    slowest = mean + std::hypot(most - mean, expected_max_of(std::ssize(w.pe_cycles)) * w.pe_sd);
  }
  return expected_max(slowest, w.port_cycles + w.last_cycles, w.race_sd);
}

double TaskTimes::cv() const {
  if (tasks_ <= 0 || sum_ <= 0) return 0;
  const double m = mean();
  return std::sqrt(std::max(0.0, squares_ / tasks_ - m * m)) / m;
}

double makespan(const std::vector<TaskTimes>& blocks, int64_t groups, double cv_floor) {
  double end = 0, begun = 0;  // begun: work of this and all earlier blocks, divided by the groups
  for (const TaskTimes& block : blocks) {
    if (block.cycles() <= 0) continue;
    begun += block.cycles() / static_cast<double>(groups);
    const double x = begun / block.mean(), cv = std::max(block.cv(), cv_floor);
    // x is the number of tasks that a group runs. After x tasks the finishing times of the groups
    // have the deviation cv * sqrt(x), in units of a task. `loose` is 0 if all tasks are equal, so
    // that the groups run in step, in whole rounds. It is 1 if the finishing times are spread over
    // a whole task: a uniform distribution has a deviation of 1 / sqrt(12) = 1 / 3.46 of its width.
    const double loose = std::min(1.0, 3.46 * cv * std::sqrt(x));
    const double tail = (1 - loose) * (std::ceil(x) - x) + loose * (0.5 + cv);
    // A short last block fills the groups that are idle while earlier tasks end.
    end = std::max(end, begun + block.mean() * tail);
  }
  return end;
}

}  // namespace sparsetrain::accel
