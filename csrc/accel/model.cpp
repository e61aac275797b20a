// The closed form of a pass: it ends when both its tasks and its DRAM stream have ended.
#include "model.h"

#include <algorithm>
#include <cmath>

namespace sparsetrain::accel {
namespace {

Counts counts(const Tally& t, const Plan& plan, const Config& chip) {
  const auto whole = [](double value) { return static_cast<int64_t>(std::llround(value)); };
  const double rate = static_cast<double>(chip.dram_bytes_per_cycle);
  const double read = plan.read_bytes / rate, written = plan.write_bytes / rate;
  const double blocks = static_cast<double>(plan.blocks());
  Counts c;
  // The latest of three ends: all tasks after the first load; the DRAM stream; and the tasks of the
  // last block after the DRAM stream up to its load.
  c.cycles = whole(std::ceil(std::max({t.makespan + plan.first_load_bytes / rate, read + written,
                                       read + written * (1 - 1 / blocks) + t.makespan / blocks})));
  c.busy_cycles = whole(t.busy);
  c.drain_cycles = whole(t.drain);
  c.tasks = whole(t.tasks);
  c.row_ops = whole(t.ops);
  c.macs = whole(t.macs);
  c.streamed_elements = whole(t.streamed);
  c.port_bytes = whole(t.port);
  c.output_bytes = whole(t.output);
  c.dram_read_bytes = whole(plan.read_bytes);
  c.dram_write_bytes = whole(plan.write_bytes);
  return c;
}

}  // namespace

Report model(const Workload& workload, const Config& chip) {
  check(chip);
  check(workload);
  Report report;
  report.layers.reserve(workload.layers.size());
  for (const Layer& layer : workload.layers) {
    const Profile profile(layer, chip);
    const Footprint bytes = footprint(layer, chip);
    auto& passes = report.layers.emplace_back();
    for (const Pass pass : {Pass::kForward, Pass::kGradInput, Pass::kGradWeight}) {
      if (pass == Pass::kGradInput && !layer.needs_grad_input) continue;
      if (pass == Pass::kGradWeight && !layer.needs_grad_weight) continue;
      const Plan p = plan(layer, pass, chip);
      Tally t;
      if (pass == Pass::kGradWeight) {
        t = model_osrc(profile, p, chip);
        t.output = static_cast<double>(p.slabs) * bytes.w;
        t.port +=
            static_cast<double>(p.slabs - 1) * bytes.w;  // partial sums of dw that are read back
      } else {
        t = model_src(profile, pass, chip);
        t.output = pass == Pass::kForward ? bytes.y : bytes.dx;
      }
      passes[static_cast<size_t>(pass)] = counts(t, p, chip);
    }
  }
  return report;
}

}  // namespace sparsetrain::accel
