// The choice of backends for Python: shapes, passes, cost tables and predictions. The part for CUDA
// works on every machine, with a GPU or without.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <map>
#include <string>
#include <utility>

#include "../../choice/choose.h"
#include "../precision.h"

namespace py = pybind11;

namespace {

using namespace sparsetrain;

constexpr std::pair<const char*, Pass> kPasses[] = {{"forward", Pass::kForward},
                                                    {"grad_input", Pass::kGradInput},
                                                    {"grad_weight", Pass::kGradWeight}};
constexpr std::pair<const char*, Costs CostTable::*> kStorages[] = {
    {"float32", &CostTable::float32},
    {"bfloat16", &CostTable::bfloat16},
    {"float16", &CostTable::float16}};
constexpr std::pair<const char*, double PassCosts::*> kUnits[] = {
    {"dense_mac_ns", &PassCosts::dense_mac_ns},
    {"dense_element_ns", &PassCosts::dense_element_ns},
    {"dense_call_ns", &PassCosts::dense_call_ns},
    {"vector_ns", &PassCosts::vector_ns},
    {"visit_ns", &PassCosts::visit_ns},
    {"list_ns", &PassCosts::list_ns},
    {"copy_ns", &PassCosts::copy_ns}};
constexpr std::pair<const char*, Precision> kPrecisions[] = {{"fp64", Precision::kFloat64},
                                                             {"fp32", Precision::kFloat32},
                                                             {"tf32", Precision::kTf32},
                                                             {"bf16", Precision::kBFloat16},
                                                             {"fp16", Precision::kFloat16}};
constexpr std::pair<const char*, double CudaPassCosts::*> kCudaUnits[] = {
    {"dense_mac_ns", &CudaPassCosts::dense_mac_ns},
    {"dense_element_ns", &CudaPassCosts::dense_element_ns},
    {"dense_call_ns", &CudaPassCosts::dense_call_ns},
    {"tile_ns", &CudaPassCosts::tile_ns},
    {"load_ns", &CudaPassCosts::load_ns},
    {"nonzero_ns", &CudaPassCosts::nonzero_ns},
    {"element_ns", &CudaPassCosts::element_ns},
    {"call_ns", &CudaPassCosts::call_ns}};

// {pass: {unit: nanoseconds}}, which Costs and CudaCosts become in Python.
using PassDict = std::map<std::string, std::map<std::string, double>>;
using CostDict = std::map<std::string, PassDict>;  // by storage or precision
using CudaCostDict = std::map<int, CostDict>;      // by 10 * major + minor

template <class AnyCosts, class Units>
PassDict to_dict(const AnyCosts& costs, const Units& units) {
  PassDict dict;
  for (const auto& [name, pass] : kPasses) {
    for (const auto& [unit, ns] : units) {
      dict[name][unit] = costs.pass[static_cast<int>(pass)].*ns;
    }
  }
  return dict;
}

// cost_table.py has checked that no entry is missing.
template <class AnyCosts, class Units>
AnyCosts from_dict(const PassDict& dict, const Units& units) {
  AnyCosts costs{};
  for (const auto& [name, pass] : kPasses) {
    for (const auto& [unit, ns] : units) {
      costs.pass[static_cast<int>(pass)].*ns = dict.at(name).at(unit);
    }
  }
  return costs;
}

CostDict cpu_dict(const CostTable& table) {
  CostDict dict;
  for (const auto& [storage, member] : kStorages) dict[storage] = to_dict(table.*member, kUnits);
  return dict;
}

void set_cpu_dict(const CostDict& dict) {
  CostTable table{};
  for (const auto& [storage, member] : kStorages) {
    table.*member = from_dict<Costs>(dict.at(storage), kUnits);
  }
  set_costs(table);
}

CudaCostDict cuda_dict() {
  CudaCostDict dict;
  for (const auto& [key, costs] : cuda_costs()) {
    for (const auto& [name, precision] : kPrecisions) {
      if (precision == key.second) dict[key.first][name] = to_dict(costs, kCudaUnits);
    }
  }
  return dict;
}

void set_cuda_dict(const CudaCostDict& dict) {
  CudaCostTable table;
  for (const auto& [capability, precisions] : dict) {
    for (const auto& [name, precision] : kPrecisions) {
      const auto found = precisions.find(name);
      if (found == precisions.end()) continue;
      table[{capability, precision}] = from_dict<CudaCosts>(found->second, kCudaUnits);
    }
  }
  set_cuda_costs(std::move(table));
}

void bind_types(py::module_& m) {
  py::enum_<Pass> passes(m, "Pass");
  for (const auto& [name, pass] : kPasses) passes.value(name, pass);
  py::enum_<Backend>(m, "Backend")
      .value("auto", Backend::kAuto)
      .value("sparse", Backend::kSparse)
      .value("dense", Backend::kDense)
      .value("cusparse", Backend::kCusparse);
  py::enum_<DType>(m, "DType")
      .value("float64", DType::kFloat64)
      .value("float32", DType::kFloat32)
      .value("bfloat16", DType::kBFloat16)
      .value("float16", DType::kFloat16);
  py::enum_<Precision> precisions(m, "Precision");
  for (const auto& [name, precision] : kPrecisions) precisions.value(name, precision);
  py::class_<ConvShape>(m, "ConvShape")
      .def(py::init([](int64_t N, int64_t C, int64_t H, int64_t W, int64_t K, int64_t R, int64_t S,
                       int64_t stride_h, int64_t stride_w, int64_t pad_h, int64_t pad_w,
                       int64_t dilation_h, int64_t dilation_w, int64_t groups) {
             return ConvShape{N,        C,        H,     W,     K,          R,          S,
                              stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups};
           }),
           py::arg("N"), py::arg("C"), py::arg("H"), py::arg("W"), py::arg("K"), py::arg("R"),
           py::arg("S"), py::arg("stride_h") = 1, py::arg("stride_w") = 1, py::arg("pad_h") = 0,
           py::arg("pad_w") = 0, py::arg("dilation_h") = 1, py::arg("dilation_w") = 1,
           py::arg("groups") = 1)
      .def_property_readonly("P", &ConvShape::P)
      .def_property_readonly("Q", &ConvShape::Q);
  py::class_<Choice>(m, "Choice")
      .def_readonly("backend", &Choice::backend)
      .def_readonly("skips_input_zeros", &Choice::skips_input_zeros)
      .def_readonly("reason", &Choice::reason)
      .def_readonly("dense_ms", &Choice::dense_ms)
      .def_readonly("sparse_ms", &Choice::sparse_ms);
  py::class_<Work>(m, "Work")
      .def_readonly("dense_macs", &Work::dense_macs)
      .def_readonly("dense_elements", &Work::dense_elements)
      .def_readonly("dense_calls", &Work::dense_calls)
      .def_readonly("vectors", &Work::vectors)
      .def_readonly("visits", &Work::visits)
      .def_readonly("lists", &Work::lists)
      .def_readonly("copies", &Work::copies);
  py::class_<CudaWork>(m, "CudaWork")
      .def_readonly("macs", &CudaWork::macs)
      .def_readonly("elements", &CudaWork::elements)
      .def_readonly("tiles", &CudaWork::tiles)
      .def_readonly("loads", &CudaWork::loads)
      .def_readonly("nonzeros", &CudaWork::nonzeros);
}

}  // namespace

// module.cpp calls this.
void bind_choice(py::module_& m) {
  bind_types(m);
  m.def("work", [](const ConvShape& shape, Pass pass, double density) {
    return PassPlan({shape, pass, DType::kFloat32}, cpu_setting()).work(false, {density, density});
  });
  m.def("choose", [](const ConvShape& shape, Pass pass, DType dtype, double input_density,
                     double grad_density, Backend backend) {
    return choose({shape, pass, dtype}, backend, {input_density, grad_density}, cpu_setting());
  });
  m.def("costs", [] { return cpu_dict(cpu_setting().costs); });
  m.def("shipped_costs", [] { return cpu_dict(default_costs(cpu_setting().isa)); });
  m.def("set_costs", set_cpu_dict);

  m.def("cuda_work", cuda_work_of);
  m.def("dense_precision", dense_precision);
  m.def("choose_on_cuda", [](const ConvShape& shape, Pass pass, double input_density,
                             double grad_density, Backend backend, std::optional<int> capability,
                             Precision precision, bool deterministic) {
    const CudaCosts* costs = capability ? cuda_costs_of(*capability, precision) : nullptr;
    return choose_on_cuda({shape, pass, DType::kFloat32}, backend, {input_density, grad_density},
                          {costs, precision, deterministic});
  });
  m.def("cuda_costs", cuda_dict);
  m.def("set_cuda_costs", set_cuda_dict);
  py::list units;
  for (const auto& [unit, ns] : kCudaUnits) units.append(unit);
  m.attr("CUDA_UNITS") = py::tuple(units);
}
