// First half of the submodule sparsetrain._C.accel: chips, prices, counts, workloads and the closed
// form. sparsetrain/accel/core.py gives them to Python. Maps and bits come as numpy arrays, so this
// file does not need torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../accel/config.h"
#include "../../accel/model.h"
#include "../../accel/report.h"
#include "../../accel/workload.h"

namespace py = pybind11;

void bind_accel(py::module_& m);
void bind_accel_program(py::module_& accel);  // accel_program.cpp

namespace {

using namespace sparsetrain;
using namespace sparsetrain::accel;

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <class T>
std::vector<T> to_vector(const Array<T>& a) {
  return std::vector<T>(a.data(), a.data() + a.size());
}

// An integer of a chip, with its docstring. Sources of the defaults: csrc/accel/config.h.
struct ChipNumber {
  const char* name;
  int64_t Config::* member;
  const char* doc;
};

constexpr std::array<ChipNumber, 12> kChipNumbers = {{
    {"pe_groups", &Config::pe_groups, "Groups of PEs. Default 56 (assumed)."},
    {"pes_per_group", &Config::pes_per_group,
     "PEs of a group. Default 3 (assumed; 56 * 3 = 168 PEs are the paper's, recalled)."},
    {"clock_mhz", &Config::clock_mhz,
     "Clock in MHz, which converts cycles to time. Default 800 (assumed)."},
    {"buffer_bytes", &Config::buffer_bytes,
     "Capacity of the global buffer in bytes. Default 395264 (386 KB: the paper's, recalled)."},
    {"port_bytes_per_cycle", &Config::port_bytes_per_cycle,
     "Bytes that one group reads from the buffer in a cycle. Default 8 (assumed: 64 bits)."},
    {"dram_bytes_per_cycle", &Config::dram_bytes_per_cycle,
     "Bytes of DRAM traffic of the whole chip in a cycle. Default 16 (assumed: 12.8 GB/s of LPDDR4 "
     "at 800 MHz)."},
    {"value_bits", &Config::value_bits, "Bits of a value. Default 16 (the paper's)."},
    {"offset_bits", &Config::offset_bits,
     "Bits of a nonzero's column offset in a compressed row. Default 8 (assumed)."},
    {"row_header_bits", &Config::row_header_bits,
     "Bits of the header of a stored segment of a compressed row. Default 16 (assumed)."},
    {"register_values", &Config::register_values,
     "Values of an output row that a PE accumulates; longer rows are cut. Default 256 (assumed)."},
    {"row_start_cycles", &Config::row_start_cycles,
     "Cycles to set up a row operation. Default 1 (assumed)."},
    {"ppu_values_per_cycle", &Config::ppu_values_per_cycle,
     "Output values that a group's PPU writes in a cycle. Default 1 (assumed)."},
}};

Config replace(Config chip, const py::kwargs& changes) {
  for (const auto& [key, value] : changes) {
    const auto name = key.cast<std::string>();
    bool known = true;
    if (name == "name") {
      chip.name = value.cast<std::string>();
    } else if (name == "skips_zeros") {
      chip.skips_zeros = value.cast<bool>();
    } else {
      known = false;
      for (const ChipNumber& number : kChipNumbers) {
        if (name != number.name) continue;
        chip.*number.member = value.cast<int64_t>();
        known = true;
      }
    }
    if (!known)
      throw py::type_error("sparsetrain.accel.Config: expected numbers of a chip, got '" + name +
                           "'");
  }
  check(chip);
  return chip;
}

py::dict as_dict(const Config& chip) {
  py::dict d;
  d["name"] = chip.name;
  for (const ChipNumber& number : kChipNumbers) d[number.name] = chip.*number.member;
  d["skips_zeros"] = chip.skips_zeros;
  return d;
}

void bind_chip(py::module_& m) {
  auto config = py::class_<Config>(
      m, "Config",
      "The numbers of a chip: an immutable value. Numbers that are not given are those of "
      "`sparsetrain168`.\n\nRaises:\n    TypeError: an unknown number.\n    ValueError: a number "
      "outside its range.");
  config.def(py::init([](const py::kwargs& numbers) { return replace(Config{}, numbers); }));
  config.def("replace", &replace, "Returns a copy with the given numbers changed.");
  config.def("as_dict", &as_dict, "Returns name, every number and skips_zeros in a dictionary.");
  config.def_readonly("name", &Config::name, "Name of the chip. Default \"custom\".");
  for (const ChipNumber& number : kChipNumbers)
    config.def_readonly(number.name, number.member, number.doc);
  config.def_readonly("skips_zeros", &Config::skips_zeros,
                      "False for a dense twin: it computes every product and stores rows "
                      "uncompressed. Default True.");
  config.def_property_readonly("pes", &Config::pes, "PEs of the chip: pe_groups * pes_per_group.");
  config.def("__eq__", [](const Config& a, const Config& b) { return a == b; });
  config.def("__hash__", [](const Config& chip) { return py::hash(py::str(as_dict(chip))); });
  config.def("__repr__",
             [](const Config& chip) { return py::str("Config({})").format(as_dict(chip)); });
  config.def(py::pickle([](const Config& chip) { return as_dict(chip); },
                        [](const py::dict& d) { return replace(Config{}, py::kwargs(d)); }));
  m.def("named_chips", &named_chips, "Returns the chips that ship.");
  m.def("dense_twin", &dense_twin, py::arg("chip"),
        "Returns the dense twin of a chip: equal numbers without zero skipping. A chip is compared "
        "with its twin.");
}

void bind_prices(py::module_& m) {
  py::class_<Prices>(m, "Prices",
                     "Energies of one multiplication and of accesses to one 16-bit word: an "
                     "immutable value. The unit is pJ, or any other unit that all five "
                     "share.\n\nRaises:\n    ValueError: a price is negative or not finite.")
      .def(py::init([](std::string name, double mac_pj, double register_pj, double buffer_read_pj,
                       double buffer_write_pj, double dram_pj) {
             Prices prices{std::move(name), mac_pj,          register_pj,
                           buffer_read_pj,  buffer_write_pj, dram_pj};
             check(prices);
             return prices;
           }),
           py::kw_only(), py::arg("name") = "custom", py::arg("mac_pj"), py::arg("register_pj"),
           py::arg("buffer_read_pj"), py::arg("buffer_write_pj"), py::arg("dram_pj"))
      .def_readonly("name", &Prices::name, "Name of the table.")
      .def_readonly("mac_pj", &Prices::mac_pj, "pJ of a 16-bit multiplication with addition.")
      .def_readonly("register_pj", &Prices::register_pj, "pJ of a PE register access.")
      .def_readonly("buffer_read_pj", &Prices::buffer_read_pj, "pJ to read a word of the buffer.")
      .def_readonly("buffer_write_pj", &Prices::buffer_write_pj,
                    "pJ to write a word of the buffer.")
      .def_readonly("dram_pj", &Prices::dram_pj, "pJ to read or write a word of DRAM.")
      .def("__eq__", [](const Prices& a, const Prices& b) { return a == b; })
      .def("__repr__", [](const Prices& p) {
        return py::str(
                   "Prices(name={!r}, mac_pj={}, register_pj={}, buffer_read_pj={}, "
                   "buffer_write_pj={}, dram_pj={})")
            .format(p.name, p.mac_pj, p.register_pj, p.buffer_read_pj, p.buffer_write_pj,
                    p.dram_pj);
      });
  py::class_<Energy>(m, "Energy", "Energy by part, in the unit of the prices (pJ).")
      .def_readonly("mac_pj", &Energy::mac_pj, "mac_pj * macs.")
      .def_readonly("register_pj", &Energy::register_pj,
                    "register_pj * (4 * macs + streamed_elements).")
      .def_readonly("buffer_pj", &Energy::buffer_pj, "Reads and writes of the global buffer.")
      .def_readonly("dram_pj", &Energy::dram_pj, "Reads and writes of DRAM.")
      .def_property_readonly("chip_pj", &Energy::chip_pj, "The sum without DRAM.")
      .def_property_readonly("total_pj", &Energy::total_pj, "The sum with DRAM.");
  m.def("named_prices", &named_prices, "Returns the price tables that ship.");
  m.def("price", &price, py::arg("counts"), py::arg("prices"),
        "Returns the Energy of counts; the formula is in docs/accelerator.md.");
}

void bind_report(py::module_& m) {
  py::class_<Counts>(m, "Counts",
                     "The cost of a pass of a layer, or of a sum of passes, for the whole batch. "
                     "Counts can be added. All are 0 for a pass that does not run.")
      .def(py::init<>())
      .def_readonly("cycles", &Counts::cycles, "Cycles from the start of the pass to its end.")
      .def_readonly("busy_cycles", &Counts::busy_cycles,
                    "Cycles of work, summed over PEs: macs + row_start_cycles * row_ops.")
      .def_readonly("drain_cycles", &Counts::drain_cycles,
                    "Cycles in which PPUs write outputs, summed over groups.")
      .def_readonly("tasks", &Counts::tasks, "Number of tasks.")
      .def_readonly("row_ops", &Counts::row_ops, "Number of row operations.")
      .def_readonly("macs", &Counts::macs, "Number of multiplications that are executed.")
      .def_readonly("streamed_elements", &Counts::streamed_elements,
                    "Values of x, dy and weights that are written to PE registers.")
      .def_readonly("port_bytes", &Counts::port_bytes,
                    "Bytes read from the buffer: operands, masks, partial sums of dw.")
      .def_readonly("output_bytes", &Counts::output_bytes, "Bytes that PPUs write to the buffer.")
      .def_readonly("dram_read_bytes", &Counts::dram_read_bytes, "Bytes read from DRAM.")
      .def_readonly("dram_write_bytes", &Counts::dram_write_bytes, "Bytes written to DRAM.")
      .def("__add__", [](Counts a, const Counts& b) { return a += b; })
      .def("__eq__", [](const Counts& a, const Counts& b) { return a == b; });
}

void bind_workload(py::module_& m) {
  py::class_<Maps, std::shared_ptr<Maps>>(m, "Maps",
                                          "Counts of a layer's nonzeros by pixel and by channel.")
      .def(py::init([](int64_t images, const Array<int32_t>& x_map, const Array<int32_t>& dy_map,
                       const Array<int64_t>& x_channel_nnz, const Array<int64_t>& dy_channel_nnz,
                       double x_row_nnz_var, double dy_row_nnz_var, double window_var) {
             return std::make_shared<Maps>(Maps{images, to_vector(x_map), to_vector(dy_map),
                                                to_vector(x_channel_nnz), to_vector(dy_channel_nnz),
                                                x_row_nnz_var, dy_row_nnz_var, window_var});
           }),
           py::kw_only(), py::arg("images"), py::arg("x_map"), py::arg("dy_map"),
           py::arg("x_channel_nnz"), py::arg("dy_channel_nnz"), py::arg("x_row_nnz_var"),
           py::arg("dy_row_nnz_var"), py::arg("window_var"));
  py::class_<Layer>(m, "Layer", "One convolution of a step: an immutable value.")
      .def(py::init([](std::string name, const ConvShape& shape, bool needs_grad_input,
                       bool needs_grad_weight, double x_density, double dy_density,
                       double mask_density, double y_density, double dx_density,
                       std::shared_ptr<Maps> maps, std::shared_ptr<Trace> trace) {
             return Layer{std::move(name), shape,           needs_grad_input, needs_grad_weight,
                          x_density,       dy_density,      mask_density,     y_density,
                          dx_density,      std::move(maps), std::move(trace)};
           }),
           py::kw_only(), py::arg("name"), py::arg("shape"), py::arg("needs_grad_input"),
           py::arg("needs_grad_weight"), py::arg("x_density"), py::arg("dy_density"),
           py::arg("mask_density"), py::arg("y_density"), py::arg("dx_density"),
           py::arg("maps") = nullptr, py::arg("trace") = nullptr);
  py::class_<Workload>(m, "Workload",
                       "The convolutions of a step in forward order: an immutable value.")
      .def(py::init([](std::vector<Layer> layers) {
             Workload workload{std::move(layers)};
             check(workload);
             return workload;
           }),
           py::arg("layers"));
}

}  // namespace

// Called by module.cpp after it has registered ConvShape.
void bind_accel(py::module_& m) {
  py::module_ accel = m.def_submodule("accel", "The accelerator's cost model.");
  bind_chip(accel);
  bind_prices(accel);
  bind_report(accel);
  bind_workload(accel);
  accel.def(
      "model",
      [](const Workload& workload, const Config& chip) {
        py::gil_scoped_release nogil;
        return model(workload, chip).layers;
      },
      py::arg("workload"), py::arg("chip"),
      "The closed form. Returns the Counts of the three passes for each layer.");
  bind_accel_program(accel);
}
