// Module sparsetrain._C. Loading it registers the operators. It binds what Python needs besides
// them: calls of operators that skip torch.ops, instruction sets, and what the other files here
// bind.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <string>

#include "../../choice/cpu_costs.h"
#include "../density.h"
#include "../ops.h"

namespace py = pybind11;

void bind_accel(py::module_& m);   // accel.cpp
void bind_choice(py::module_& m);  // choice.cpp

namespace {

using namespace sparsetrain;

// A call through torch.ops takes 5 to 7 us more.
at::Tensor conv2d(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::array<int64_t, 2> stride,
                  std::array<int64_t, 2> padding, std::array<int64_t, 2> dilation, int64_t groups,
                  std::string_view backend, bool check_finite,
                  const std::optional<at::Tensor>& input_density,
                  const std::optional<at::Tensor>& grad_density) {
  const py::gil_scoped_release released;
  return ops::conv2d(input, weight, bias, c10::fromIntArrayRefSlow(stride),
                     c10::fromIntArrayRefSlow(padding), c10::fromIntArrayRefSlow(dilation), groups,
                     backend, check_finite, input_density, grad_density);
}

at::Tensor prune_grad(const at::Tensor& input, const at::Tensor& state,
                      const std::optional<at::Tensor>& density) {
  const py::gil_scoped_release released;
  return ops::prune_grad(input, state, density);
}

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
  m.def("conv2d", conv2d);
  m.def("prune_grad", prune_grad);
  bind_choice(m);
  bind_accel(m);
}
