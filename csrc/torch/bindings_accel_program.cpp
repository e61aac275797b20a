// Submodule sparsetrain._C.accel, second half: bits, programs and the simulator. Arrays of any
// strides cross as numpy arrays of unsigned words, so that bfloat16 (which numpy lacks) can too.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "../accel/bits.h"
#include "../accel/program.h"
#include "../accel/simulator.h"

namespace py = pybind11;

void bind_accel_program(py::module_& accel);

namespace {

using namespace sparsetrain;
using namespace sparsetrain::accel;

// Sets the bit of every word that is not zero once its top bit, a float's sign, is shifted out.
template <class T>
void pack(const py::array& a, bool is_float, Bitmap* bits) {
  const auto* base = static_cast<const char*>(a.data());
  const int shift = is_float ? 1 : 0;
  const int64_t step = a.strides(3);
  for (int64_t row = 0; row < bits->images * bits->channels * bits->height; ++row) {
    const int64_t n = row / (bits->channels * bits->height);
    const int64_t c = row / bits->height % bits->channels, h = row % bits->height;
    const char* in = base + n * a.strides(0) + c * a.strides(1) + h * a.strides(2);
    uint64_t* out = bits->words.data() + row * bits->row_words();
    for (int64_t w = 0; w < bits->width; ++w) {
      const T value = *reinterpret_cast<const T*>(in + w * step);
      out[w / 64] |= static_cast<uint64_t>(static_cast<T>(value << shift) != 0) << (w % 64);
    }
  }
}

Bitmap make_bitmap(const py::array& a, bool is_float) {
  if (a.ndim() != 4) throw py::value_error("expected an array of rank 4");
  Bitmap bits{a.shape(0), a.shape(1), a.shape(2), a.shape(3), {}};
  bits.words.assign(
      static_cast<size_t>(bits.images * bits.channels * bits.height * bits.row_words()), 0);
  switch (a.itemsize()) {
    case 1:
      pack<uint8_t>(a, is_float, &bits);
      break;
    case 2:
      pack<uint16_t>(a, is_float, &bits);
      break;
    case 4:
      pack<uint32_t>(a, is_float, &bits);
      break;
    case 8:
      pack<uint64_t>(a, is_float, &bits);
      break;
    default:
      throw py::value_error("expected elements of 1, 2, 4 or 8 bytes");
  }
  return bits;
}

int64_t count(const Bitmap& bits) {
  int64_t total = 0;
  for (uint64_t word : bits.words) total += count_bits(word);
  return total;
}

void bind_bits(py::module_& m) {
  py::class_<Bitmap>(m, "Bitmap", "One bit an element of [images, channels, height, width].")
      .def(py::init(&make_bitmap), py::arg("array"), py::arg("is_float") = false)
      .def_readonly("images", &Bitmap::images)
      .def_property_readonly("nonzeros", &count)
      .def_property_readonly("shape", [](const Bitmap& b) {
        return py::make_tuple(b.images, b.channels, b.height, b.width);
      });
  py::class_<Trace, std::shared_ptr<Trace>>(m, "Trace", "Where x, dy and the mask are not zero.")
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
  m.def("draw", [](const Layer& layer, uint64_t seed) {
    return std::make_shared<Trace>(draw(layer, seed));
  });
}

void bind_program(py::module_& m) {
  py::class_<Block>(m, "Block", "One (tile, slab) of a pass.")
      .def_readonly("layer", &Block::layer)
      .def_property_readonly("stage", [](const Block& b) { return static_cast<int>(b.pass); })
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
      "simulate",
      [](const Program& program, const Workload& workload, const Config& chip, int64_t threads,
         uint64_t seed) { return simulate(program, workload, chip, threads, seed).layers; },
      py::arg("program"), py::arg("workload"), py::arg("chip"), py::arg("threads"), py::arg("seed"),
      py::call_guard<py::gil_scoped_release>());
}

// The event-driven parts alone, for tests that step the same machines cycle by cycle.
void bind_queues(py::module_& m) {
  m.def("group_cycles",
        [](const std::vector<std::vector<int64_t>>& ops, int64_t pes, int64_t port) {
          GroupQueue queue(pes, port);
          for (const auto& op : ops) {  // bytes, PE, cycles
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

// Called by bind_accel once Layer, Workload and Config are known to pybind11.
void bind_accel_program(py::module_& accel) {
  bind_bits(accel);
  bind_program(accel);
  bind_queues(accel);
}
