// The plan of grad_weight (see grad_weight_plan.h). The sizes below were measured on a Zen 4 (32 KB
// L1, 1 MB L2).
#include "grad_weight_plan.h"

#include <algorithm>

namespace sparsetrain {
namespace {

// Bytes of the padded copy of one block of x. Larger copies make longer lists. A list reads the
// copy in row order, so it may be a little larger than L1.
constexpr int64_t kCopyBytes = int64_t{32} * 1024;
// Bytes of a task's sums: a third of L2. Every band loads and stores them.
constexpr int64_t kSumBytes = int64_t{320} * 1024;
// Vectors of channels that are copied together, to read whole cache lines of a channels_last x.
constexpr int64_t kSetVectors = 4;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whether one walk serves all nine taps.
bool whole_kernel(const ConvShape& s) { return s.R == 3 && s.S == 3 && s.dilation_w == 1; }

// Taps that the next walk serves if `left` taps of a kernel row are left. Dilated taps are not
// neighbors in the copy.
int box_taps(const ConvShape& s, int64_t left) {
  if (s.dilation_w > 1) return 1;
  for (const int size : {7, 5, 3}) {
    if (size <= left) return size;
  }
  return 1;
}

// Vectors of channels in a block: as many sums as registers hold, to cover the latency of FMA.
int choose_registers(const ConvShape& s, int64_t channels, VectorShape v) {
  int registers = 1;
  if (!whole_kernel(s)) {
    const int taps = box_taps(s, s.S);
    registers = taps * 4 <= v.registers - 2 ? 4 : taps * 2 <= v.registers - 2 ? 2 : 1;
  }
  while (registers > 1 && int64_t{registers / 2} * v.width >= channels) registers /= 2;
  return registers;
}

int64_t boxes_per_row(const ConvShape& s) {
  int64_t count = 1;
  for (int64_t left = s.S - box_taps(s, s.S); left > 0; ++count) left -= box_taps(s, left);
  return count;
}

// Chooses the band with the most pixels whose copy has at most `room` pixels; among equal ones the
// one with the fewest cuts of its columns.
void choose_band(GradWeightPlan& p, int64_t room) {
  const int64_t P = p.shape.P(), Q = p.shape.Q();
  p.band_images = p.band_rows = p.band_columns = 1;
  for (int64_t cuts = 1; cuts <= Q; ++cuts) {
    GradWeightPlan trial = p;
    trial.band_images = trial.band_rows = 1;
    trial.band_columns = divide_up(Q, cuts);
    const int64_t fit = room / trial.copy_columns();  // rows of the copy
    if (fit < trial.copy_rows(1)) continue;
    const int64_t most = 1 + (fit - trial.copy_rows(1)) / p.shape.stride_h;
    trial.band_rows = divide_up(P, divide_up(P, std::min(most, P)));
    const int64_t best = p.band_rows * p.band_columns;
    if (trial.band_rows * trial.band_columns > best) p = trial;
    if (cuts >= 64) break;
  }
  if (p.band_rows == P && p.band_columns == Q) {
    p.band_images = std::clamp<int64_t>(room / p.copy_pixels(), 1, std::max<int64_t>(1, p.shape.N));
    p.band_images = divide_up(p.shape.N, divide_up(p.shape.N, p.band_images));
  }
}

}  // namespace

Band GradWeightPlan::band(int64_t index) const {
  const int64_t across = column_bands(), per_images = row_bands() * across;
  const int64_t image = index / per_images * band_images;
  const int64_t row = index % per_images / across * band_rows;
  const int64_t column = index % across * band_columns;
  return {image,  std::min(band_images, shape.N - image),
          row,    std::min(band_rows, shape.P() - row),
          column, std::min(band_columns, shape.Q() - column)};
}

bool GradWeightPlan::fits() const {
  const int64_t pixels = band_images * band_rows * band_columns + vector.width;
  return fits_32_bits(pixels, shape.K) && fits_32_bits(copy_pixels(), block * vector.scalar_bytes);
}

int64_t GradWeightPlan::stream_entries() const {
  // append() may write a whole vector more. An odd number of cache lines keeps the streams from
  // mapping to the same sets of the cache.
  constexpr int64_t kLine = 16;  // entries of 4 bytes
  const int64_t entries = band_images * band_rows * band_columns + int64_t{2} * vector.width;
  return (divide_up(entries, kLine) | 1) * kLine;
}

int64_t GradWeightPlan::list_scratch_bytes() const {
  const int64_t pixels = band_images * band_rows * band_columns + vector.width;
  return pixels * 4 + streams(vector.width) * stream_entries() * (vector.scalar_bytes + 4);
}

int64_t GradWeightPlan::boxes() const {
  return whole_kernel(shape) ? 1 : boxes_per_row(shape) * shape.R;
}

TapBox GradWeightPlan::box(int64_t index) const {
  if (whole_kernel(shape)) return {0, 0, 3, 3};
  const int64_t per_row = boxes_per_row(shape);
  TapBox box{index / per_row, 0, 1, box_taps(shape, shape.S)};
  for (int64_t i = 0; i < index % per_row; ++i) {
    box.tap += box.taps;
    box.taps = box_taps(shape, shape.S - box.tap);
  }
  return box;
}

void GradWeightPlan::divide_among(int threads) {
  // Enough tasks for all threads: by smaller sets first, then by ranges of output channels.
  const int64_t tasks_per_group = divide_up(threads, shape.groups);
  set = std::clamp<int64_t>(blocks / tasks_per_group, 1,
                            std::max<int64_t>(1, kSetVectors / registers));
  sets = divide_up(blocks, set);
  const int64_t channel_bytes = set * shape.R * shape.S * block * vector.scalar_bytes;
  const int64_t cuts = divide_up(channels_out * channel_bytes, kSumBytes);
  splits = std::clamp<int64_t>(std::max(cuts, divide_up(tasks_per_group, sets)), 1, channels_out);
}

GradWeightPlan plan_grad_weight(const ConvShape& shape, VectorShape vector, int threads) {
  GradWeightPlan p{};
  p.shape = shape;
  p.vector = vector;
  p.channels_in = shape.C / shape.groups;
  p.channels_out = shape.K / shape.groups;
  p.registers = choose_registers(shape, p.channels_in, vector);
  p.block = int64_t{p.registers} * vector.width;
  p.blocks = divide_up(p.channels_in, p.block);
  p.divide_among(threads);
  choose_band(p, kCopyBytes / (p.block * vector.scalar_bytes));
  return p;
}

}  // namespace sparsetrain
