// Module sparsetrain._C. Loading it registers the operators. It binds instruction sets, density
// slots, and what the other files of this folder bind.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <string>

#include "../../choice/cpu_costs.h"
#include "../density.h"

namespace py = pybind11;

void bind_accel(py::module_& m);      // accel.cpp
void bind_choice(py::module_& m);     // choice.cpp
void bind_operators(py::module_& m);  // operators.cpp

namespace {

using namespace sparsetrain;

std::string isa() {
  const CpuSetting& setting = cpu_setting();
  if (!setting.unknown_isa.empty()) {
    throw py::value_error(
        "sparsetrain: expected SPARSETRAIN_ISA to be scalar, avx2 or avx512, got '" +
        setting.unknown_isa + "'");
  }
  return kernels<float>(setting.isa).name;
}

void set_isa_by_name(const std::string& name) {
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (name == kernels<float>(isa).name) return set_isa(isa);
  }
  throw py::value_error("sparsetrain.set_isa: expected name to be scalar, avx2 or avx512, got '" +
                        name + "'");
}

std::optional<at::Tensor> density_slot(const std::string& device) {
  return new_density_slot(c10::Device(device).type());
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.def("isa", isa);
  m.def("best_isa", [] { return kernels<float>(best_isa()).name; });
  m.def("set_isa", set_isa_by_name, py::arg("name"));
  m.def("density_slot", density_slot, py::arg("device_type"));
  bind_operators(m);
  bind_choice(m);
  bind_accel(m);
}
