// Tests of the simulator on thousands of random layers: it equals the stepped machine, and a fixed
// program obeys its laws. The layers have any kernel, stride, padding, dilation and groups,
// depthwise convolutions, rows longer than the registers, separate masks, traces with fewer images
// than the batch, and dense twins.
#include <array>
#include <random>
#include <stdexcept>

#include "accel/simulator.h"
#include "accel_stepped.h"
#include "check.h"

namespace {

using namespace sparsetrain;
using namespace sparsetrain::accel;

#ifdef __SANITIZE_ADDRESS__
constexpr int kLayers = 150;
#else
constexpr int kLayers = 3000;
#endif

std::mt19937_64 generator(20200719);

int64_t pick(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(generator() % static_cast<uint64_t>(high - low + 1));
}

Bitmap bits(int64_t images, int64_t channels, int64_t height, int64_t width, int64_t percent) {
  Bitmap b{images, channels, height, width, {}};
  b.words.assign(static_cast<size_t>(images * channels * height * b.row_words()), 0);
  for (int64_t row = 0; row < images * channels * height; ++row)
    for (int64_t w = 0; w < width; ++w)
      if (pick(1, 100) <= percent)
        b.words[static_cast<size_t>(row * b.row_words() + w / 64)] |= uint64_t{1} << (w % 64);
  return b;
}

double density(const Bitmap& b) {
  int64_t ones = 0;
  for (uint64_t word : b.words)
    for (; word; word &= word - 1) ++ones;
  return static_cast<double>(ones) /
         static_cast<double>(b.images * b.channels * b.height * b.width);
}

void set_trace(Trace trace, Layer* layer) {
  layer->x_density = density(trace.x);
  layer->dy_density = density(trace.dy);
  layer->mask_density = trace.mask ? density(*trace.mask) : layer->x_density;
  layer->trace = std::make_shared<const Trace>(std::move(trace));
}

ConvShape shape() {
  ConvShape s;
  const bool depthwise = pick(0, 5) == 0;
  s.groups = depthwise ? pick(1, 4) : pick(0, 3) ? 1 : pick(2, 3);
  s.C = depthwise ? s.groups : s.groups * pick(1, 4);
  s.K = s.groups * pick(1, 4);
  s.N = pick(1, 3);
  s.R = pick(1, 4);
  s.S = pick(1, 4);
  s.stride_h = pick(1, 3);
  s.stride_w = pick(1, 3);
  s.pad_h = pick(0, 3);
  s.pad_w = pick(0, 3);
  s.dilation_h = pick(1, 2);
  s.dilation_w = pick(1, 3);
  s.H = std::max<int64_t>(1, s.dilation_h * (s.R - 1) + 1 - 2 * s.pad_h) + pick(0, 4);
  s.W = std::max<int64_t>(1, s.dilation_w * (s.S - 1) + 1 - 2 * s.pad_w) +
        (pick(0, 9) ? pick(0, 8) : pick(30, 70));
  return s;
}

Config chip() {
  Config c;
  c.pe_groups = pick(1, 4);
  c.pes_per_group = pick(1, 4);
  c.buffer_bytes = std::array{600, 1500, 4000, 395264}[static_cast<size_t>(pick(0, 3))];
  c.port_bytes_per_cycle = std::array{1, 3, 8, 16}[static_cast<size_t>(pick(0, 3))];
  c.dram_bytes_per_cycle = std::array{5, 16, 64}[static_cast<size_t>(pick(0, 2))];
  c.register_values = std::array{3, 16, 256}[static_cast<size_t>(pick(0, 2))];
  c.offset_bits = pick(2, 8);
  c.row_start_cycles = pick(0, 2);
  c.ppu_values_per_cycle = pick(1, 2);
  return pick(0, 5) ? c : dense_twin(c);
}

Layer layer() {
  Layer l;
  l.name = "random";
  l.shape = shape();
  const ConvShape& s = l.shape;
  const int64_t images = pick(1, s.N), percent = pick(0, 100);
  Trace t{bits(images, s.C, s.H, s.W, percent), bits(images, s.K, s.P(), s.Q(), pick(0, 100)), {}};
  if (pick(0, 2) == 0) t.mask = bits(images, s.C, s.H, s.W, pick(0, 100));
  set_trace(std::move(t), &l);
  return l;
}

// A copy of the layer with more nonzeros in x and dy. Without a separate mask, the mask follows x.
Layer denser(const Layer& l) {
  Trace t = *l.trace;
  for (Bitmap* b : {&t.x, &t.dy}) {
    const Bitmap more = bits(b->images, b->channels, b->height, b->width, 20);
    for (size_t i = 0; i < b->words.size(); ++i) b->words[i] |= more.words[i];
  }
  Layer result = l;
  set_trace(std::move(t), &result);
  return result;
}

void check_against_stepping(const Layer& l, const Program& program, const Config& c,
                            const std::array<Counts, 3>& counts) {
  const Block* end = program.blocks.data() + program.blocks.size();
  for (const Block* b = program.blocks.data(); b != end;) {
    const Block* first = b;
    while (b != end && b->pass == first->pass) ++b;
    const stepped::Result oracle = stepped::Chip(l, c).run(first, b);
    const Counts& got = counts[static_cast<size_t>(first->pass)];
    CHECK(got.macs == oracle.macs);
    CHECK(got.row_ops == oracle.row_ops);
    CHECK(got.port_bytes == oracle.port_bytes);
    CHECK(got.cycles == oracle.cycles);
    CHECK(got.busy_cycles == got.macs + c.row_start_cycles * got.row_ops);
  }
}

// For a fixed program, more nonzeros never cost fewer cycles, and one more group of PEs never costs
// more cycles.
void check_laws(const Layer& l, const Program& program, const Config& c,
                const std::array<Counts, 3>& counts) {
  const auto more = simulate(program, {{denser(l)}}, c, 1, 0).layers[0];
  Config wider = c;
  wider.pe_groups += 1;
  const auto faster = simulate(program, {{l}}, wider, 2, 0).layers[0];
  for (size_t pass = 0; pass < 3; ++pass) {
    CHECK(more[pass].cycles >= counts[pass].cycles);
    CHECK(more[pass].macs >= counts[pass].macs);
    CHECK(faster[pass].cycles <= counts[pass].cycles);
    CHECK(faster[pass].macs == counts[pass].macs);
  }
}

}  // namespace

int main() {
  int refused = 0;
  for (int done = 0; done < kLayers;) {
    const Layer l = layer();
    const Config c = chip();
    Program program;
    try {
      program = compile({{l}}, c);
    } catch (const std::invalid_argument&) {  // the layer's rows do not fit the buffer
      CHECK(c.buffer_bytes < 4000);
      ++refused;
      continue;
    }
    const auto counts = simulate(program, {{l}}, c, 1, 0).layers[0];
    check_against_stepping(l, program, c, counts);
    check_laws(l, program, c, counts);
    ++done;
  }
  CHECK(refused < kLayers / 4);
  std::printf("accel: the simulator equals the stepped machine on %d layers\n", kLayers);
}
