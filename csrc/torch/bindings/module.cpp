// Module sparsetrain._C: loading it registers the operators; what is not a tensor crosses here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "../../choice/choose.h"
#include "../ops.h"

namespace py = pybind11;

void bind_accel(py::module_& m);  // bindings_accel.cpp
void bind_cuda(py::module_& m);   // bindings_cuda.cpp

namespace {

using namespace sparsetrain;

constexpr std::pair<const char*, Costs CostTable::*> kStorages[] = {
    {"float32", &CostTable::float32},
    {"bfloat16", &CostTable::bfloat16},
    {"float16", &CostTable::float16}};
constexpr const char* kPasses[] = {"forward", "grad_input", "grad_weight"};  // in the order of Pass
constexpr std::pair<const char*, double PassCosts::*> kUnits[] = {
    {"dense_mac_ns", &PassCosts::dense_mac_ns},
    {"dense_element_ns", &PassCosts::dense_element_ns},
    {"dense_call_ns", &PassCosts::dense_call_ns},
    {"vector_ns", &PassCosts::vector_ns},
    {"visit_ns", &PassCosts::visit_ns},
    {"list_ns", &PassCosts::list_ns},
    {"copy_ns", &PassCosts::copy_ns}};

// The cost table as {storage: {pass: {unit: nanoseconds}}}.
using CostDict = std::map<std::string, std::map<std::string, std::map<std::string, double>>>;

CostDict cost_dict(const CostTable& table) {
  CostDict dict;
  for (const auto& [storage, member] : kStorages) {
    for (int pass = 0; pass < 3; ++pass) {
      for (const auto& [unit, ns] : kUnits) {
        dict[storage][kPasses[pass]][unit] = (table.*member).pass[pass].*ns;
      }
    }
  }
  return dict;
}

// Python has checked that nothing is missing.
void set_cost_dict(const CostDict& dict) {
  CostTable table = default_costs(current_isa(nullptr));
  for (const auto& [storage, member] : kStorages) {
    for (int pass = 0; pass < 3; ++pass) {
      for (const auto& [unit, ns] : kUnits) {
        (table.*member).pass[pass].*ns = dict.at(storage).at(kPasses[pass]).at(unit);
      }
    }
  }
  set_costs(table);
}

// The operator without the 5 to 7 us that a call through torch.ops takes in Python.
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

void bind_choose(py::module_& m) {
  py::enum_<Pass>(m, "Pass")
      .value("forward", Pass::kForward)
      .value("grad_input", Pass::kGradInput)
      .value("grad_weight", Pass::kGradWeight);
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
  m.def("work", [](const ConvShape& shape, Pass pass, double density) {
    return work_of({shape, pass, DType::kFloat32, density, density}, costs().float32.vector, false);
  });
  m.def("choose", [](const ConvShape& shape, Pass pass, DType dtype, double input_density,
                     double grad_density, Backend backend) {
    return choose({shape, pass, dtype, input_density, grad_density}, backend, costs());
  });
  m.def("costs", [] { return cost_dict(costs()); });
  m.def("shipped_costs", [] { return cost_dict(default_costs(current_isa(nullptr))); });
  m.def("set_costs", set_cost_dict);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.def("isa", [] {
    bool unknown = false;
    const auto isa = sparsetrain::current_isa(&unknown);
    if (unknown) {
      throw py::value_error(
          std::string("sparsetrain: expected SPARSETRAIN_ISA to be scalar, avx2 or avx512, got '") +
          std::getenv("SPARSETRAIN_ISA") + "'");
    }
    return sparsetrain::kernels<float>(isa).name;
  });
  m.def("conv2d", conv2d);
  bind_choose(m);
  bind_cuda(m);
  bind_accel(m);
}
