// The closed form, Workload x Config -> Report: expected cycles without executing the row
// operations.
#pragma once

#include "config.h"
#include "plan.h"
#include "profile.h"
#include "report.h"
#include "workload.h"

namespace sparsetrain::accel {

// Cycles are estimates. Counts are exact for layers with maps (with groups of the convolution,
// pairs of x and dy are estimated), and expected values for layers with densities only. Throws
// std::invalid_argument as check() and plan() do. Has no state and is thread-safe.
Report model(const Workload& workload, const Config& chip);

// Expected sums over the tasks of a pass; the members of Counts with the same meaning.
struct Tally {
  double busy = 0, drain = 0, tasks = 0, ops = 0, macs = 0, streamed = 0, port = 0, output = 0;
  double makespan = 0;  // cycles until the last task ends, without waiting for DRAM
};
// Forward (SRC) and kGradInput (MSRC): a task is one segment of an output row.
Tally model_src(const Profile& profile, Pass pass, const Config& chip);
// kGradWeight (OSRC): a task is pes_per_group rows of dw of one channel, over one slab.
Tally model_osrc(const Profile& profile, const Plan& plan, const Config& chip);

}  // namespace sparsetrain::accel
