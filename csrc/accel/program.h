// Program: a workload compiled for a chip, as blocks of tasks of row operations. The paper's row
// operations are SRC (forward), MSRC (grad_input) and OSRC (grad_weight). Tasks and row operations
// are enumerated when needed and never stored: one image of ResNet-18 has 58.5 million row
// operations.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "plan.h"
#include "rows.h"
#include "workload.h"

namespace sparsetrain::accel {

// One (tile, slab) of a pass. Forward: filters [k0, k1), all channels of their groups, and output
// rows (n, p) with index n * P + p in [row0, row1). kGradInput: channels [c0, c1), all filters of
// their groups, and rows (n, h) of dx with index n * H + h. kGradWeight: channels [c0, c1), and
// filters [k0, k1) of the group of each channel.
struct Block {
  Pass pass;
  int32_t layer, k0, k1, c0, c1;
  int64_t row0, row1;
  int64_t load_bytes, store_bytes;  // DRAM traffic: the load, then the store, in program order
  bool reads_partial;               // kGradWeight: adds to partial sums of earlier slabs
};

struct Program {
  std::vector<Block> blocks;  // by layer in the order of the workload, then by pass
};

// Loads are exact for layers with a trace or maps, and expected values otherwise. Stores follow
// from y_density and dx_density. Throws std::invalid_argument as check() and plan() do.
Program compile(const Workload& workload, const Config& chip);

// A task of a block: what one group of PEs runs without a break. Forward and kGradInput: one
// segment of one output row of filter or channel `out`. kGradWeight: `entries` rows of dw of
// channel `out`, starting with `entry`, summed over the rows of the block. Entry e is kernel row e
// % R of filter k0 + e / R of the channel's group.
struct Task {
  int64_t image, row, segment, out;  // image, row and segment are 0 in kGradWeight
  int64_t entry, entries;
};

// Calls f(task) for the tasks of a block, in the order in which they are dispatched.
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

// "forward", "grad_input" or "grad_weight".
const char* pass_name(Pass pass);

enum class Detail { kBlock, kTask, kOperation };

// The program as text, for people. kBlock writes one line for each block, kTask also one for each
// task, kOperation also one for each row operation. At most `most` blocks of a pass, tasks of a
// block and operations of a task are written, followed by the number left out.
std::string print(const Program& program, const Workload& workload, const Config& chip,
                  Detail detail, int64_t most);

}  // namespace sparsetrain::accel
