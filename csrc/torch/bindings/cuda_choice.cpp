// What `auto` goes by on CUDA, for Python: on every machine, with a GPU or without.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <map>
#include <string>

#include "../../choice/choose.h"
#include "../density.h"
#include "../precision.h"

namespace py = pybind11;

namespace {

using namespace sparsetrain;

constexpr const char* kPasses[] = {"forward", "grad_input", "grad_weight"};  // in the order of Pass
constexpr std::pair<const char*, Precision> kPrecisions[] = {{"fp64", Precision::kFloat64},
                                                             {"fp32", Precision::kFloat32},
                                                             {"tf32", Precision::kTf32},
                                                             {"bf16", Precision::kBFloat16},
                                                             {"fp16", Precision::kFloat16}};
constexpr std::pair<const char*, double CudaPassCosts::*> kUnits[] = {
    {"dense_mac_ns", &CudaPassCosts::dense_mac_ns},
    {"dense_element_ns", &CudaPassCosts::dense_element_ns},
    {"dense_call_ns", &CudaPassCosts::dense_call_ns},
    {"tile_ns", &CudaPassCosts::tile_ns},
    {"load_ns", &CudaPassCosts::load_ns},
    {"nonzero_ns", &CudaPassCosts::nonzero_ns},
    {"element_ns", &CudaPassCosts::element_ns},
    {"call_ns", &CudaPassCosts::call_ns}};

// {10 * major + minor: {precision: {pass: {unit: nanoseconds}}}}
using CudaCostDict =
    std::map<int, std::map<std::string, std::map<std::string, std::map<std::string, double>>>>;

CudaCostDict cost_dict() {
  CudaCostDict dict;
  for (const auto& [key, costs] : cuda_costs()) {
    for (const auto& [name, precision] : kPrecisions) {
      if (precision != key.second) continue;
      for (int pass = 0; pass < 3; ++pass) {
        for (const auto& [unit, ns] : kUnits) {
          dict[key.first][name][kPasses[pass]][unit] = costs.pass[pass].*ns;
        }
      }
    }
  }
  return dict;
}

// Python has checked that nothing is missing and every name is known.
void set_cost_dict(const CudaCostDict& dict) {
  CudaCostTable table;
  for (const auto& [capability, precisions] : dict) {
    for (const auto& [name, precision] : kPrecisions) {
      const auto found = precisions.find(name);
      if (found == precisions.end()) continue;
      CudaCosts& costs = table[{capability, precision}];
      for (int pass = 0; pass < 3; ++pass) {
        for (const auto& [unit, ns] : kUnits) {
          costs.pass[pass].*ns = found->second.at(kPasses[pass]).at(unit);
        }
      }
    }
  }
  set_cuda_costs(std::move(table));
}

Choice choose_for(const ConvShape& shape, Pass pass, double input_density, double grad_density,
                  Backend backend, std::optional<int> capability, Precision precision,
                  bool deterministic) {
  const CudaCosts* costs = capability ? cuda_costs_of(*capability, precision) : nullptr;
  return choose_on_cuda({shape, pass, DType::kFloat32, input_density, grad_density}, backend,
                        {costs, precision, deterministic});
}

}  // namespace

void bind_cuda(py::module_& m) {
  py::enum_<Precision> precisions(m, "Precision");
  for (const auto& [name, precision] : kPrecisions) precisions.value(name, precision);
  py::class_<CudaWork>(m, "CudaWork")
      .def_readonly("macs", &CudaWork::macs)
      .def_readonly("elements", &CudaWork::elements)
      .def_readonly("tiles", &CudaWork::tiles)
      .def_readonly("loads", &CudaWork::loads)
      .def_readonly("nonzeros", &CudaWork::nonzeros);
  m.def("cuda_work", cuda_work_of);
  m.def("dense_precision", dense_precision);
  m.def("choose_on_cuda", choose_for);
  m.def("cuda_costs", cost_dict);
  m.def("set_cuda_costs", set_cost_dict);
  m.attr("CUDA_UNITS") = [] {
    py::list names;
    for (const auto& [unit, ns] : kUnits) names.append(unit);
    return py::tuple(names);
  }();
  m.def("density_slot", new_density_slot);
}
