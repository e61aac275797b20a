// What a step costs: counts first, prices later, so that price tables change without counting
// again.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "../shape.h"

namespace sparsetrain::accel {

// Of one pass of one layer over the whole batch; all zero for a pass that does not run.
struct Counts {
  int64_t cycles = 0;        // from the start of the pass to its end
  int64_t busy_cycles = 0;   // summed over PEs: macs + row_start_cycles * row_ops
  int64_t drain_cycles = 0;  // summed over groups: the PPU empties the PEs
  int64_t tasks = 0, row_ops = 0;
  int64_t macs = 0;               // multiplications done
  int64_t streamed_elements = 0;  // values of x and dy, and weights, written into PE registers
  int64_t port_bytes = 0;         // read from the buffer: operands, masks, partial sums of dw
  int64_t output_bytes = 0;       // written to the buffer by the PPUs
  int64_t dram_read_bytes = 0, dram_write_bytes = 0;

  Counts& operator+=(const Counts& other);
  bool operator==(const Counts&) const = default;
};

struct Report {
  std::vector<std::array<Counts, 3>> layers;  // by Pass, layers in the workload's order

  Counts total() const;  // passes run one after the other: cycles add up
};

// Prices of one 16-bit word (mac_pj: one multiplication and addition), pJ or any common unit.
struct Prices {
  std::string name = "custom";
  double mac_pj = 0, register_pj = 0, buffer_read_pj = 0, buffer_write_pj = 0, dram_pj = 0;

  bool operator==(const Prices&) const = default;
};

struct Energy {
  double mac_pj = 0, register_pj = 0, buffer_pj = 0, dram_pj = 0;

  double chip_pj() const { return mac_pj + register_pj + buffer_pj; }
  double total_pj() const { return chip_pj() + dram_pj; }
};

// Linear in counts and in prices. No leakage, clock tree, controller or wires between blocks.
Energy price(const Counts& counts, const Prices& prices);

// The price tables that ship; the first is the default.
const std::vector<Prices>& named_prices();

// Throws std::invalid_argument with one sentence when a price is negative or not finite.
void check(const Prices& prices);

}  // namespace sparsetrain::accel
