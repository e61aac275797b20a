// Counts, Report, Prices and Energy: the cost of a training step. Counts do not depend on prices,
// so a report can be priced again with another table.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "../shape.h"

namespace sparsetrain::accel {

// The cost of one pass of one layer for the whole batch. All zero for a pass that does not run.
struct Counts {
  int64_t cycles = 0;        // from the start of the pass to its end
  int64_t busy_cycles = 0;   // summed over PEs: macs + row_start_cycles * row_ops
  int64_t drain_cycles = 0;  // summed over groups: the PPU writes the outputs of the PEs
  int64_t tasks = 0, row_ops = 0;
  int64_t macs = 0;               // multiplications executed
  int64_t streamed_elements = 0;  // values of x, dy and weights that are written to PE registers
  int64_t port_bytes = 0;         // read from the buffer: operands, masks, partial sums of dw
  int64_t output_bytes = 0;       // written to the buffer by the PPUs
  int64_t dram_read_bytes = 0, dram_write_bytes = 0;

  Counts& operator+=(const Counts& other);
  bool operator==(const Counts&) const = default;
};

struct Report {
  std::vector<std::array<Counts, 3>> layers;  // in the order of the workload, then of Pass

  Counts total() const;  // passes run one after the other, so cycles add up
};

// Price of an access to one 16-bit word, and of one multiplication with addition (mac_pj). The unit
// is pJ, or any other unit that all five share.
struct Prices {
  std::string name = "custom";
  double mac_pj = 0, register_pj = 0, buffer_read_pj = 0, buffer_write_pj = 0, dram_pj = 0;

  bool operator==(const Prices&) const = default;
};

// Energy by part, in the unit of the prices.
struct Energy {
  double mac_pj = 0, register_pj = 0, buffer_pj = 0, dram_pj = 0;

  double chip_pj() const { return mac_pj + register_pj + buffer_pj; }
  double total_pj() const { return chip_pj() + dram_pj; }
};

// The energy of the counts: linear in counts and in prices. Leakage, clock tree, controller and
// wires between blocks are not included.
Energy price(const Counts& counts, const Prices& prices);

// The price tables that ship; sparsetrain.accel.PRICES lists them by name. The first is the
// default.
const std::vector<Prices>& named_prices();

// Throws std::invalid_argument if a price is negative or not finite.
void check(const Prices& prices);

}  // namespace sparsetrain::accel
