// The closed form: Workload x Config -> Report without walking through the work.
#pragma once

#include "config.h"
#include "plan.h"
#include "profile.h"
#include "report.h"
#include "workload.h"

namespace sparsetrain::accel {

// Exact counts where the layer has maps (cycles are estimates), expected counts where it only has
// densities. Throws std::invalid_argument as check() does. Thread-safe, no state.
Report model(const Workload& workload, const Config& chip);

// Sums over a pass's tasks, as expectations.
struct Tally {
  double busy = 0, drain = 0, tasks = 0, ops = 0, macs = 0, streamed = 0, port = 0, output = 0;
  double makespan = 0;
};
// Forward (SRC) and kGradInput (MSRC): one task an output row segment.
Tally model_src(const Profile& profile, Pass pass, const Config& chip);
// kGradWeight (OSRC): one task a channel, pes_per_group rows of dw and slab.
Tally model_osrc(const Profile& profile, const Plan& plan, const Config& chip);

}  // namespace sparsetrain::accel
