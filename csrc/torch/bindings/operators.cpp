// Operators as functions of CPython. Layers call them in every step: a call through torch.ops takes
// 5 us longer, and one through pybind11 half a microsecond.
#include <pybind11/pybind11.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include <array>
#include <optional>

#include "../ops.h"

namespace {

using namespace sparsetrain;

// Raises TypeError. ops.py then words the refusal, with the names of function and argument.
[[noreturn]] void refuse(const char* wanted) {
  PyErr_Format(PyExc_TypeError, "sparsetrain._C: expected an argument to be %s", wanted);
  throw python_error();
}

void check_count(Py_ssize_t count, Py_ssize_t wanted) {
  if (count == wanted) return;
  PyErr_Format(PyExc_TypeError, "sparsetrain._C: expected %zd arguments, got %zd", wanted, count);
  throw python_error();
}

const at::Tensor& tensor(PyObject* value) {
  if (!THPVariable_Check(value)) refuse("a tensor");
  return THPVariable_Unpack(value);
}
std::optional<at::Tensor> optional_tensor(PyObject* value) {
  if (value == Py_None) return std::nullopt;
  return tensor(value);
}

int64_t integer(PyObject* value) {
  const int64_t number = PyLong_Check(value) ? PyLong_AsLongLong(value) : -1;
  if (number == -1 && (PyErr_Occurred() || !PyLong_Check(value))) refuse("a 64-bit integer");
  return number;
}
// One integer, or a tuple or list of one or two.
std::array<int64_t, 2> pair(PyObject* value) {
  if (PyLong_Check(value)) return {integer(value), integer(value)};
  const bool sequence = PyTuple_Check(value) || PyList_Check(value);
  const Py_ssize_t size = sequence ? PySequence_Fast_GET_SIZE(value) : 0;
  if (size != 1 && size != 2) refuse("one integer or two");
  PyObject** items = PySequence_Fast_ITEMS(value);
  return {integer(items[0]), integer(items[size - 1])};
}

std::string_view text(PyObject* value) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &size) : nullptr;
  if (!data) refuse("a string");
  return {data, static_cast<size_t>(size)};
}

// None is false, and an integer is true unless it is 0.
bool truth(PyObject* value) {
  if (value != Py_None && !PyLong_Check(value)) refuse("a bool");
  return PyObject_IsTrue(value) == 1;
}

// Calls the operator without Python's lock.
template <class F>
PyObject* call(const F& f) {
  at::Tensor result;
  {
    const pybind11::gil_scoped_release released;
    result = f();
  }
  return THPVariable_Wrap(std::move(result));
}

PyObject* conv2d(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  check_count(count, 11);
  const at::Tensor &input = tensor(args[0]), &weight = tensor(args[1]);
  const auto bias = optional_tensor(args[2]);
  const auto stride = pair(args[3]), padding = pair(args[4]), dilation = pair(args[5]);
  const int64_t groups = integer(args[6]);
  const auto backend = text(args[7]);
  const bool check_finite = truth(args[8]);
  const auto input_density = optional_tensor(args[9]), grad_density = optional_tensor(args[10]);
  return call([&] {
    return ops::conv2d(input, weight, bias, c10::fromIntArrayRefSlow(stride),
                       c10::fromIntArrayRefSlow(padding), c10::fromIntArrayRefSlow(dilation),
                       groups, backend, check_finite, input_density, grad_density);
  });
  END_HANDLE_TH_ERRORS
}

PyObject* prune_grad(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  check_count(count, 3);
  const at::Tensor &input = tensor(args[0]), &state = tensor(args[1]);
  const auto density = optional_tensor(args[2]);
  return call([&] { return ops::prune_grad(input, state, density); });
  END_HANDLE_TH_ERRORS
}

// CPython takes functions of METH_FASTCALL by this cast. The text before "--" is the signature that
// Python shows.
template <auto f>
PyMethodDef method(const char* name, const char* signature) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f)), METH_FASTCALL,
          signature};
}
PyMethodDef methods[] = {
    method<conv2d>("conv2d",
                   "conv2d($module, input, weight, bias, stride, padding, dilation, groups, "
                   "backend, check_finite, input_density, grad_density, /)\n--\n\n"),
    method<prune_grad>("prune_grad", "prune_grad($module, input, state, density, /)\n--\n\n"),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

// module.cpp calls this.
void bind_operators(pybind11::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) != 0) throw pybind11::error_already_set();
}
