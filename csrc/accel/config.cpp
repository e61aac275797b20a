// The chips that ship, dense twins, and the ranges of a chip's numbers.
#include "config.h"

#include <initializer_list>
#include <stdexcept>

namespace sparsetrain::accel {
namespace {

Config named(Config chip, const char* name) {
  chip.name = name;
  return chip;
}

Config dense168() {
  Config chip = named(Config{}, "dense_twin168");
  chip.skips_zeros = false;
  return chip;
}

Config wide_port168() {
  Config chip = named(Config{}, "sparsetrain168_wide_port");
  chip.port_bytes_per_cycle = 16;
  return chip;
}

Config sparse672() {
  Config chip = named(Config{}, "sparsetrain672");
  chip.pe_groups *= 4;
  chip.buffer_bytes *= 4;
  chip.dram_bytes_per_cycle *= 4;
  return chip;
}

}  // namespace

const Config kSparseTrain168 = named(Config{}, "sparsetrain168");
const Config kDenseTwin168 = dense168();
const Config kSparseTrain168WidePort = wide_port168();
const Config kSparseTrain672 = sparse672();

const std::vector<Config>& named_chips() {
  static const std::vector<Config> chips = {kSparseTrain168, kDenseTwin168, kSparseTrain168WidePort,
                                            kSparseTrain672};
  return chips;
}

Config dense_twin(const Config& chip) {
  if (chip == kSparseTrain168) return kDenseTwin168;
  Config twin = chip;
  twin.skips_zeros = false;
  if (chip.skips_zeros) twin.name = "dense twin of " + chip.name;
  return twin;
}

void check(const Config& chip) {
  struct Bound {
    const char* name;
    int64_t value, low, high;
  };
  constexpr int64_t kMost = int64_t{1} << 40;  // products of any two numbers then fit in int64
  for (const Bound& b :
       {Bound{"pe_groups", chip.pe_groups, 1, 1 << 20},
        Bound{"pes_per_group", chip.pes_per_group, 1, 64},
        Bound{"clock_mhz", chip.clock_mhz, 1, 1 << 20},
        Bound{"buffer_bytes", chip.buffer_bytes, 64, kMost},
        Bound{"port_bytes_per_cycle", chip.port_bytes_per_cycle, 1, 1 << 20},
        Bound{"dram_bytes_per_cycle", chip.dram_bytes_per_cycle, 1, 1 << 20},
        Bound{"value_bits", chip.value_bits, 1, 64}, Bound{"offset_bits", chip.offset_bits, 1, 32},
        Bound{"row_header_bits", chip.row_header_bits, 0, 1024},
        Bound{"register_values", chip.register_values, 1, 1 << 20},
        Bound{"row_start_cycles", chip.row_start_cycles, 0, 1024},
        Bound{"ppu_values_per_cycle", chip.ppu_values_per_cycle, 1, 1 << 20}}) {
    if (b.value < b.low || b.value > b.high) {
      throw std::invalid_argument("sparsetrain.accel: expected the chip's " + std::string(b.name) +
                                  " to be in [" + std::to_string(b.low) + ", " +
                                  std::to_string(b.high) + "], got " + std::to_string(b.value));
    }
  }
}

}  // namespace sparsetrain::accel
