// Submodule sparsetrain._C.accel: the accelerator's values and functions. No tensors cross here:
// maps and bits come as numpy arrays, so that this file and its room need no torch.
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
void bind_accel_program(py::module_& accel);  // bindings_accel_program.cpp

namespace {

using namespace sparsetrain;
using namespace sparsetrain::accel;

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <class T>
std::vector<T> to_vector(const Array<T>& a) {
  return std::vector<T>(a.data(), a.data() + a.size());
}

constexpr std::array<std::pair<const char*, int64_t Config::*>, 12> kChipNumbers = {{
    {"pe_groups", &Config::pe_groups},
    {"pes_per_group", &Config::pes_per_group},
    {"clock_mhz", &Config::clock_mhz},
    {"buffer_bytes", &Config::buffer_bytes},
    {"port_bytes_per_cycle", &Config::port_bytes_per_cycle},
    {"dram_bytes_per_cycle", &Config::dram_bytes_per_cycle},
    {"value_bits", &Config::value_bits},
    {"offset_bits", &Config::offset_bits},
    {"row_header_bits", &Config::row_header_bits},
    {"register_values", &Config::register_values},
    {"row_start_cycles", &Config::row_start_cycles},
    {"ppu_values_per_cycle", &Config::ppu_values_per_cycle},
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
      for (const auto& [field, member] : kChipNumbers) {
        if (name != field) continue;
        chip.*member = value.cast<int64_t>();
        known = true;
      }
    }
    if (!known) throw py::type_error("Config has no number " + name);
  }
  check(chip);
  return chip;
}

py::dict as_dict(const Config& chip) {
  py::dict d;
  d["name"] = chip.name;
  for (const auto& [field, member] : kChipNumbers) d[field] = chip.*member;
  d["skips_zeros"] = chip.skips_zeros;
  return d;
}

void bind_chip(py::module_& m) {
  auto config = py::class_<Config>(m, "Config", "The numbers of a chip; immutable.");
  config.def(py::init([](const py::kwargs& numbers) { return replace(Config{}, numbers); }));
  config.def("replace", &replace, "A copy with some numbers changed.");
  config.def("as_dict", &as_dict, "Every number by its name.");
  config.def_readonly("name", &Config::name);
  for (const auto& [field, member] : kChipNumbers) config.def_readonly(field, member);
  config.def_readonly("skips_zeros", &Config::skips_zeros);
  config.def_property_readonly("pes", &Config::pes);
  config.def("__eq__", [](const Config& a, const Config& b) { return a == b; });
  config.def("__hash__", [](const Config& chip) { return py::hash(py::str(as_dict(chip))); });
  config.def("__repr__",
             [](const Config& chip) { return py::str("Config({})").format(as_dict(chip)); });
  config.def(py::pickle([](const Config& chip) { return as_dict(chip); },
                        [](const py::dict& d) { return replace(Config{}, py::kwargs(d)); }));
  m.def("named_chips", &named_chips);
  m.def("dense_twin", &dense_twin, py::arg("chip"),
        "The same numbers without zero skipping: the machine a chip is compared with.");
}

void bind_prices(py::module_& m) {
  py::class_<Prices>(m, "Prices", "Prices of one 16-bit word; immutable.")
      .def(py::init([](std::string name, double mac_pj, double register_pj, double buffer_read_pj,
                       double buffer_write_pj, double dram_pj) {
             Prices prices{std::move(name), mac_pj,          register_pj,
                           buffer_read_pj,  buffer_write_pj, dram_pj};
             check(prices);
             return prices;
           }),
           py::kw_only(), py::arg("name") = "custom", py::arg("mac_pj"), py::arg("register_pj"),
           py::arg("buffer_read_pj"), py::arg("buffer_write_pj"), py::arg("dram_pj"))
      .def_readonly("name", &Prices::name)
      .def_readonly("mac_pj", &Prices::mac_pj)
      .def_readonly("register_pj", &Prices::register_pj)
      .def_readonly("buffer_read_pj", &Prices::buffer_read_pj)
      .def_readonly("buffer_write_pj", &Prices::buffer_write_pj)
      .def_readonly("dram_pj", &Prices::dram_pj)
      .def("__eq__", [](const Prices& a, const Prices& b) { return a == b; })
      .def("__repr__", [](const Prices& p) {
        return py::str(
                   "Prices(name={!r}, mac_pj={}, register_pj={}, buffer_read_pj={}, "
                   "buffer_write_pj={}, dram_pj={})")
            .format(p.name, p.mac_pj, p.register_pj, p.buffer_read_pj, p.buffer_write_pj,
                    p.dram_pj);
      });
  py::class_<Energy>(m, "Energy", "pJ by part.")
      .def_readonly("mac_pj", &Energy::mac_pj)
      .def_readonly("register_pj", &Energy::register_pj)
      .def_readonly("buffer_pj", &Energy::buffer_pj)
      .def_readonly("dram_pj", &Energy::dram_pj)
      .def_property_readonly("chip_pj", &Energy::chip_pj)
      .def_property_readonly("total_pj", &Energy::total_pj);
  m.def("named_prices", &named_prices);
  m.def("price", &price, py::arg("counts"), py::arg("prices"));
}

void bind_report(py::module_& m) {
  py::class_<Counts>(m, "Counts", "What one pass of one layer costs, whole batch.")
      .def(py::init<>())
      .def_readonly("cycles", &Counts::cycles)
      .def_readonly("busy_cycles", &Counts::busy_cycles)
      .def_readonly("drain_cycles", &Counts::drain_cycles)
      .def_readonly("tasks", &Counts::tasks)
      .def_readonly("row_ops", &Counts::row_ops)
      .def_readonly("macs", &Counts::macs)
      .def_readonly("streamed_elements", &Counts::streamed_elements)
      .def_readonly("port_bytes", &Counts::port_bytes)
      .def_readonly("output_bytes", &Counts::output_bytes)
      .def_readonly("dram_read_bytes", &Counts::dram_read_bytes)
      .def_readonly("dram_write_bytes", &Counts::dram_write_bytes)
      .def("__add__", [](Counts a, const Counts& b) { return a += b; })
      .def("__eq__", [](const Counts& a, const Counts& b) { return a == b; });
}

void bind_workload(py::module_& m) {
  py::class_<Maps, std::shared_ptr<Maps>>(m, "Maps", "Counts of nonzeros over channels.")
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
  py::class_<Layer>(m, "Layer", "One convolution of a step; immutable.")
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
  py::class_<Workload>(m, "Workload", "The convolutions of a step in forward order; immutable.")
      .def(py::init([](std::vector<Layer> layers) {
             Workload workload{std::move(layers)};
             check(workload);
             return workload;
           }),
           py::arg("layers"));
}

}  // namespace

// Called by bindings.cpp after ConvShape is known to pybind11.
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
      py::arg("workload"), py::arg("chip"), "Closed form: per layer, counts of the three passes.");
  bind_accel_program(accel);
}
