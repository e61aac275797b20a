// The instructions of the machine and what the compiler makes of a workload: SRC, MSRC and OSRC row
// operations in tasks, tasks in blocks. Tasks are enumerated, not stored: an image of ResNet-18 has
// 58.5 million row operations.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "plan.h"
#include "rows.h"
#include "workload.h"

namespace sparsetrain::accel {

// One (tile, slab) of a pass. Forward: filters [k0, k1), all channels of their groups, output rows
// (n, p) numbered n * P + p in [row0, row1). kGradInput: channels [c0, c1), all filters of their
// groups, rows (n, h) of dx. kGradWeight: channels [c0, c1), filters [k0, k1) of each one's group.
struct Block {
  Pass pass;
  int32_t layer, k0, k1, c0, c1;
  int64_t row0, row1;
  int64_t load_bytes, store_bytes;  // DRAM, in this order, one stream for the whole pass
  bool reads_partial;               // kGradWeight: dw has sums of earlier slabs to add to
};

struct Program {
  std::vector<Block> blocks;  // passes of a layer follow each other; layers in workload order
};

// Loads are exact where the layer has a trace or maps and expected values otherwise; stores follow
// y_density and dx_density. Throws std::invalid_argument as check() and plan() do.
Program compile(const Workload& workload, const Config& chip);

// A task of a block. Forward and kGradInput: one segment of one output row of filter or channel
// `out`. kGradWeight: dw rows `entry`, entry + 1, ... of channel `out`, entry e being kernel row
// e % R of filter k0 + e / R of the channel's group, over the block's rows.
struct Task {
  int64_t image, row, segment, out;  // image, row and segment are 0 in kGradWeight
  int64_t entry, entries;
};

// Calls f(task) for the tasks of a block in the order of dispatch.
template <class F>
void for_each_task(const Block& b, const ConvShape& s, int64_t segments, int64_t pes, F f) {
  if (b.pass == Pass::kGradWeight) {
    const int64_t entries = (b.k1 - b.k0) * s.R;
    for (int64_t c = b.c0; c < b.c1; ++c)
      for (int64_t e = 0; e < entries; e += pes) f(Task{0, 0, 0, c, e, std::min(pes, entries - e)});
    return;
  }
  const bool forward = b.pass == Pass::kForward;
  const int64_t rows = forward ? s.P() : s.H;
  for (int64_t row = b.row0; row < b.row1; ++row)
    for (int64_t g = 0; g < segments; ++g)
      for (int64_t out = forward ? b.k0 : b.c0; out < (forward ? b.k1 : b.c1); ++out)
        f(Task{row / rows, row % rows, g, out, 0, 0});
}

enum class Detail { kBlock, kTask, kOperation };

// The program as text: blocks; or with a line a task; or also a line a row operation. At most
// `most` lines of each kind below the one above are written, then how many are left out.
std::string print(const Program& program, const Workload& workload, const Config& chip,
                  Detail detail, int64_t most);

}  // namespace sparsetrain::accel
