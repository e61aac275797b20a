// Second half of the submodule sparsetrain._C.accel: bits, programs and the simulator. Tensors of
// any strides come as numpy arrays of words of their element size, because numpy has no bfloat16.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <string>
#include <vector>

#include "../../accel/bits.h"
#include "../../accel/nonzero_maps.h"
#include "../../accel/program.h"
#include "../../accel/simulator.h"

namespace py = pybind11;

void bind_accel_program(py::module_& accel);

namespace {

using namespace sparsetrain;
using namespace sparsetrain::accel;

View view(const py::array& a, bool is_float) {
  if (a.ndim() != 4)
    throw py::value_error("sparsetrain.accel: expected array to have 4 dimensions, got " +
                          std::to_string(a.ndim()));
  View v{static_cast<const char*>(a.data()), {}, {}, a.itemsize(), is_float};
  for (size_t i = 0; i < 4; ++i) {
    v.shape[i] = a.shape(static_cast<py::ssize_t>(i));
    v.strides[i] = a.strides(static_cast<py::ssize_t>(i));
  }
  return v;
}

template <class T>
py::array_t<T> to_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

int64_t count(const Bitmap& bits) {
  int64_t total = 0;
  for (uint64_t word : bits.words) total += count_bits(word);
  return total;
}

void bind_bits(py::module_& m) {
  py::class_<Bitmap>(m, "Bitmap",
                     "One bit for each element of a tensor [images, channels, height, width], set "
                     "where it is not zero.")
      .def(py::init([](const py::array& array, bool is_float, int64_t images) {
             return pack(view(array, is_float), images);
           }),
           py::arg("array"), py::arg("is_float") = false,
           py::arg("images") = std::numeric_limits<int64_t>::max())
      .def_readonly("images", &Bitmap::images)
      .def_property_readonly("nonzeros", &count)
      .def_property_readonly("shape", [](const Bitmap& b) {
        return py::make_tuple(b.images, b.channels, b.height, b.width);
      });
  py::class_<Trace, std::shared_ptr<Trace>>(m, "Trace",
                                            "Bitmaps of x, dy and, if it is not x != 0, the "
                                            "gradient mask.")
      .def(py::init([](const Bitmap& x, const Bitmap& dy, const std::optional<Bitmap>& mask) {
             return std::make_shared<Trace>(Trace{x, dy, mask});
           }),
           py::arg("x"), py::arg("dy"), py::arg("mask") = py::none())
      .def_readonly("x", &Trace::x)
      .def_readonly("dy", &Trace::dy)
      .def_readonly("mask", &Trace::mask)
      .def("maps", [](const Trace& trace, const ConvShape& shape) {
        return std::make_shared<Maps>(maps_of(trace, shape));
      });
  m.def("nonzero_maps", [](const py::array& array, bool is_float) {
    const View v = view(array, is_float);
    NonzeroMaps o;
    {
      py::gil_scoped_release nogil;
      o = nonzero_maps(v);
    }
    return py::make_tuple(to_array(o.map), to_array(o.channels), o.row_nnz_var);
  });
  m.def("window_variance", &window_variance, py::arg("x"), py::arg("shape"));
  m.def("draw", [](const Layer& layer, uint64_t seed) {
    return std::make_shared<Trace>(draw(layer, seed));
  });
}

void bind_program(py::module_& m) {
  py::class_<Block>(m, "Block", "One pair (tile, slab) of a pass.")
      .def_readonly("layer", &Block::layer)
      .def_property_readonly("pass_name", [](const Block& b) { return pass_name(b.pass); })
      .def_readonly("k0", &Block::k0)
      .def_readonly("k1", &Block::k1)
      .def_readonly("c0", &Block::c0)
      .def_readonly("c1", &Block::c1)
      .def_readonly("row0", &Block::row0)
      .def_readonly("row1", &Block::row1)
      .def_readonly("load_bytes", &Block::load_bytes)
      .def_readonly("store_bytes", &Block::store_bytes)
      .def_readonly("reads_partial", &Block::reads_partial);
  py::class_<Program>(m, "Program", "A workload compiled for a chip.")
      .def_readonly("blocks", &Program::blocks);
  m.def("compile", &compile, py::arg("workload"), py::arg("chip"),
        py::call_guard<py::gil_scoped_release>());
  m.def(
      "print_program",
      [](const Program& program, const Workload& workload, const Config& chip, int detail,
         int64_t most) {
        return print(program, workload, chip, static_cast<Detail>(detail), most);
      },
      py::arg("program"), py::arg("workload"), py::arg("chip"), py::arg("detail"), py::arg("most"));
  m.def(
      "simulate",
      [](const Program& program, const Workload& workload, const Config& chip, int64_t threads,
         uint64_t seed) { return simulate(program, workload, chip, threads, seed).layers; },
      py::arg("program"), py::arg("workload"), py::arg("chip"), py::arg("threads"), py::arg("seed"),
      py::call_guard<py::gil_scoped_release>());
}

// The event-driven parts of the simulator, for tests that compare them with stepped machines.
void bind_queues(py::module_& m) {
  m.def("group_cycles",
        [](const std::vector<std::vector<int64_t>>& ops, int64_t pes, int64_t port) {
          GroupQueue queue(pes, port);
          for (const auto& op : ops) {  // (bytes, PE, cycles)
            queue.stream(op.at(0));
            queue.run(op.at(1), op.at(2));
          }
          return queue.end();
        });
  m.def("dispatch", [](const std::vector<std::pair<int64_t, int64_t>>& tasks, int64_t groups) {
    Dispatcher dispatcher(groups);
    for (const auto& [ready, cycles] : tasks) dispatcher.run(ready, cycles);
    return dispatcher.end();
  });
}

}  // namespace

// Called by bind_accel after it has registered Layer, Workload and Config.
void bind_accel_program(py::module_& accel) {
  bind_bits(accel);
  bind_program(accel);
  bind_queues(accel);
}
