// Every number of a chip: unit in the name, source in the comment. A Config is a value: make
// another one to ask another question. A: assumed by us; T: stated in the SparseTrain paper or
// recalled from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sparsetrain::accel {

struct Config {
  std::string name = "custom";
  // 56 groups of 3 PEs: 168 PEs as in Eyeriss, the paper's baseline (T, recalled; the split is A).
  int64_t pe_groups = 56;
  int64_t pes_per_group = 3;
  // A: a modest clock for 14 nm; cycles do not depend on it.
  int64_t clock_mhz = 800;
  // 386 KB global buffer (T, recalled).
  int64_t buffer_bytes = 395264;
  // A: one 64-bit buffer port a group.
  int64_t port_bytes_per_cycle = 8;
  // A: 12.8 GB/s of LPDDR4 at 800 MHz.
  int64_t dram_bytes_per_cycle = 16;
  // T: 16-bit words. A: one byte of offset a nonzero, one word of header a row segment.
  int64_t value_bits = 16;
  int64_t offset_bits = 8;
  int64_t row_header_bits = 16;
  // A: a PE accumulates an output row in a register of 256 values; longer rows are cut.
  int64_t register_values = 256;
  // A: setting up a row operation; then one effectual multiplication a cycle (T).
  int64_t row_start_cycles = 1;
  // A: the PPU adds the PEs' rows and writes one value a cycle, not overlapped with the PEs.
  int64_t ppu_values_per_cycle = 1;
  // False: the dense twin. Every product is computed and rows are stored uncompressed.
  bool skips_zeros = true;

  int64_t pes() const { return pe_groups * pes_per_group; }
  bool operator==(const Config&) const = default;
};

// The SparseTrain chip as the paper's reader can best reconstruct it, and the same silicon without
// zero skipping (the paper's baseline is an Eyeriss-like dense machine with the same PEs and
// buffer).
extern const Config kSparseTrain168;
extern const Config kDenseTwin168;
// The same chip with twice the port (the port is what binds it most often; docs/accelerator.md).
extern const Config kSparseTrain168WidePort;
// Four times the groups, buffer and DRAM bandwidth: an edge-server sized sibling (A throughout).
extern const Config kSparseTrain672;

// All of the above, in this order.
const std::vector<Config>& named_chips();

// The chip's dense twin: the same numbers, no skipping, "dense twin of <name>" as its name.
Config dense_twin(const Config& chip);

// Throws std::invalid_argument with one sentence when a number is impossible.
void check(const Config& chip);

}  // namespace sparsetrain::accel
