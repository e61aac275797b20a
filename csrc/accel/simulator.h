// The simulator, Program x Config -> Report: executes every row operation on the zeros of a trace.
#pragma once

#include "program.h"
#include "queues.h"
#include "report.h"

namespace sparsetrain::accel {

// The report is exact for the images of each layer's trace; image n of a larger batch is image
// n % images of the trace. A layer without a trace gets random bits with its densities, drawn from
// `seed`. `threads` passes are simulated at a time; their number does not change the report. Throws
// std::invalid_argument as check() does, and if the program belongs to another workload.
Report simulate(const Program& program, const Workload& workload, const Config& chip,
                int64_t threads, uint64_t seed);

// The cost of one task; cycles are without the drain.
struct TaskCost {
  int64_t cycles = 0, ops = 0, macs = 0, bytes = 0, elements = 0;
};

// Simulates the blocks [begin, end) of one pass of one layer, in order, on an idle machine.
Counts simulate_src(const Block* begin, const Block* end, const Layer& layer, const Trace& trace,
                    const Config& chip);
Counts simulate_osrc(const Block* begin, const Block* end, const Layer& layer, const Trace& trace,
                     const Config& chip);

// Time and counts of one pass: its tasks and its DRAM stream run in parallel.
class PassClock {
 public:
  PassClock(const Config& chip) : chip_(chip), dispatcher_(chip.pe_groups) {}

  // Begins a block: its tasks may start when its load has arrived.
  void open(const Block& block) {
    counts_.dram_read_bytes += block.load_bytes;
    counts_.dram_write_bytes += block.store_bytes;
    stream_ += block.load_bytes;
    ready_ = ceil_div(stream_, chip_.dram_bytes_per_cycle);
    stream_ += block.store_bytes;
  }
  void run(const TaskCost& t, int64_t drain) {
    dispatcher_.run(ready_, t.cycles + drain);
    counts_.tasks += 1;
    counts_.drain_cycles += drain;
    counts_.row_ops += t.ops;
    counts_.macs += t.macs;
    counts_.port_bytes += t.bytes;
    counts_.streamed_elements += t.elements;
  }
  Counts finish(int64_t output_bytes, int64_t partial_bytes) {
    counts_.busy_cycles = counts_.macs + chip_.row_start_cycles * counts_.row_ops;
    counts_.cycles = std::max(dispatcher_.end(), ceil_div(stream_, chip_.dram_bytes_per_cycle));
    counts_.output_bytes = output_bytes;
    counts_.port_bytes += partial_bytes;
    return counts_;
  }

 private:
  const Config& chip_;
  Dispatcher dispatcher_;
  Counts counts_;
  int64_t stream_ = 0;  // bytes of the DRAM stream so far
  int64_t ready_ = 0;   // the cycle in which the load of the open block has arrived
};

}  // namespace sparsetrain::accel
