// Sums of counts, the energy formula, and the price tables with their sources.
#include "report.h"

#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <utility>

namespace sparsetrain::accel {

Counts& Counts::operator+=(const Counts& o) {
  cycles += o.cycles;
  busy_cycles += o.busy_cycles;
  drain_cycles += o.drain_cycles;
  tasks += o.tasks;
  row_ops += o.row_ops;
  macs += o.macs;
  streamed_elements += o.streamed_elements;
  port_bytes += o.port_bytes;
  output_bytes += o.output_bytes;
  dram_read_bytes += o.dram_read_bytes;
  dram_write_bytes += o.dram_write_bytes;
  return *this;
}

Counts Report::total() const {
  Counts sum;
  for (const auto& passes : layers)
    for (const Counts& counts : passes) sum += counts;
  return sum;
}

// A multiplication reads two registers and updates an accumulator (a read and a write): 4 register
// accesses. A streamed element is one register write. Buffer and DRAM traffic is in bytes, and
// prices are for 2 bytes.
Energy price(const Counts& c, const Prices& p) {
  Energy e;
  e.mac_pj = p.mac_pj * static_cast<double>(c.macs);
  e.register_pj = p.register_pj *
                  (4.0 * static_cast<double>(c.macs) + static_cast<double>(c.streamed_elements));
  const double read = static_cast<double>(c.port_bytes) + static_cast<double>(c.dram_write_bytes);
  const double written =
      static_cast<double>(c.output_bytes) + static_cast<double>(c.dram_read_bytes);
  e.buffer_pj = (p.buffer_read_pj * read + p.buffer_write_pj * written) / 2;
  e.dram_pj = p.dram_pj *
              (static_cast<double>(c.dram_read_bytes) + static_cast<double>(c.dram_write_bytes)) /
              2;
  return e;
}

// Sources, at 14 nm:
// mac_pj: 16-bit multiplication and 32-bit addition. .53 is Aladdin's 45 nm table, .12 Horowitz
// (ISSCC
//   2014), both scaled with Stillmaker and Baas.
// register_pj: a 0.5 KB SRAM, and buffer prices: CACTI 7 at 22 nm times .798, for 16 bits.
// dram_pj: LPDDR4, 128 pJ for 16 bits (Accelergy).
// eyeriss_ratios: ratios at 65 nm (Eyeriss, ISCA 2016). Its unit is one MAC instead of one pJ.
const std::vector<Prices>& named_prices() {
  static const std::vector<Prices> tables = {
      {"aladdin_cacti32_14nm", .53, .061, .756, .756, 128},  // the buffer in banks of 32 KB
      {"aladdin_cacti8_14nm", .53, .061, .317, .353, 128},   // 56 banks of 6.9 KB, wires at no cost
      {"aladdin_cacti387_14nm", .53, .061, 2.93, 2.04, 128},  // the buffer as one array of 387 KB
      {"horowitz_cacti387_14nm", .12, .061, 2.93, 2.04, 128}, {"eyeriss_ratios", 1, 1, 6, 6, 200},
  };
  return tables;
}

void check(const Prices& prices) {
  for (const auto& [name, value] : {std::pair{"mac_pj", prices.mac_pj},
                                    {"register_pj", prices.register_pj},
                                    {"buffer_read_pj", prices.buffer_read_pj},
                                    {"buffer_write_pj", prices.buffer_write_pj},
                                    {"dram_pj", prices.dram_pj}}) {
    if (!std::isfinite(value) || value < 0) {
      throw std::invalid_argument("sparsetrain.accel: expected the price " + std::string(name) +
                                  " to be finite and at least 0, got " + std::to_string(value));
    }
  }
}

}  // namespace sparsetrain::accel
