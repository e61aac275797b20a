// Config: every number of a chip, with the unit in the name and the source in the comment. The
// compiler, the simulator and the closed form read it.
//
// Sources: "paper" is a number of the SparseTrain paper (DAC 2020); some are recalled rather than
// read there, and the comment then says so. "assumed" is our choice.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sparsetrain::accel {

// An immutable value. To ask another question, make another Config.
struct Config {
  std::string name = "custom";
  // Groups of PEs, and PEs in each group. Paper, recalled: 168 PEs, as many as Eyeriss has.
  // Assumed: the division into 56 groups of 3.
  int64_t pe_groups = 56;
  int64_t pes_per_group = 3;
  // Assumed: a modest clock for 14 nm. Counts of cycles do not depend on it.
  int64_t clock_mhz = 800;
  // Capacity of the global buffer. Paper, recalled: 386 KB.
  int64_t buffer_bytes = 395264;
  // What one group reads from the buffer in a cycle. Assumed: a 64-bit port for each group.
  int64_t port_bytes_per_cycle = 8;
  // DRAM traffic of the whole chip in a cycle. Assumed: 12.8 GB/s (LPDDR4) at 800 MHz.
  int64_t dram_bytes_per_cycle = 16;
  // The compressed row format: bits of a value, of a nonzero's column offset, and of the header of
  // a stored segment. Paper: 16-bit values. Assumed: one byte of offset, one word of header.
  int64_t value_bits = 16;
  int64_t offset_bits = 8;
  int64_t row_header_bits = 16;
  // Values of an output row that a PE accumulates in registers; longer rows are cut into segments.
  // Assumed.
  int64_t register_values = 256;
  // Cycles to set up a row operation. Assumed. After that, a PE does one effectual multiplication a
  // cycle (paper).
  int64_t row_start_cycles = 1;
  // Output values that a group's PPU writes in a cycle, after the PEs have finished. Assumed.
  int64_t ppu_values_per_cycle = 1;
  // False for a dense twin: it computes every product and stores rows uncompressed.
  bool skips_zeros = true;

  int64_t pes() const { return pe_groups * pes_per_group; }
  bool operator==(const Config&) const = default;
};

// The SparseTrain chip as far as a reader of the paper can reconstruct it, and its dense twin: the
// same PEs, buffer, ports and DRAM without zero skipping. The twin stands for the paper's baseline,
// a dense machine like Eyeriss with as many PEs and as large a buffer.
extern const Config kSparseTrain168;
extern const Config kDenseTwin168;
// kSparseTrain168 with ports of twice the width, since the port limits it most often
// (docs/accelerator.md).
extern const Config kSparseTrain168WidePort;
// Four times the groups, buffer and DRAM bandwidth of kSparseTrain168, for an edge server. All its
// numbers are assumed.
extern const Config kSparseTrain672;

// The chips above, in this order. sparsetrain.accel.CHIPS lists them by name.
const std::vector<Config>& named_chips();

// The dense twin of a chip: equal numbers without zero skipping, named "dense twin of <name>".
Config dense_twin(const Config& chip);

// Throws std::invalid_argument if a number is outside its range.
void check(const Config& chip);

}  // namespace sparsetrain::accel
