// The plan of forward and grad_input (see scatter_plan.h). The sizes below were measured on a Zen 4
// (32 KB L1, 1 MB L2).
#include "scatter_plan.h"

#include <algorithm>

namespace sparsetrain {
namespace {

// Packed weights of a tile: most of a 32 KB L1; the rest is for lists and output rows. With 24 KB
// the loop is 10 % slower (shorter lists), with weights in L2 it has half the speed.
constexpr int64_t kTileBytes = int64_t{30} * 1024;
// Bytes of a band: a quarter of L2. Smaller bands reload the tiles more often.
constexpr int64_t kBandBytes = int64_t{256} * 1024;
constexpr int64_t kRegionPixels = 256;         // of a region; an NCHW region is transposed at once
constexpr int kSlotSizes[] = {7, 5, 3, 2, 1};  // slots for which scatter_row() is compiled

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// Taps first, first + step, ... of a kernel row, whose output pixels for one source pixel are
// neighbors.
struct TapRun {
  int64_t first, step, count;
};

// The number of runs that cover a kernel row. In grad_input, neighboring taps contribute to
// neighboring pixels unless they are dilated. In the forward with stride t, tap s contributes to
// pixel (i + pad - s) / t, so taps s, s + t, ... contribute to neighboring pixels.
int64_t run_count(const ScatterPlan& p) {
  const ConvShape& s = p.shape;
  if (s.dilation_w > 1) return s.S;
  return p.forward ? std::min(s.stride_w, s.S) : 1;
}

TapRun run(const ScatterPlan& p, int64_t index) {
  const ConvShape& s = p.shape;
  if (s.dilation_w > 1) return {index, 1, 1};
  if (!p.forward) return {0, 1, s.S};
  return {index, s.stride_w, divide_up(s.S - index, s.stride_w)};
}

// The slots of the next piece, if `left` taps of a run are left.
int piece_slots(int64_t left, int largest) {
  for (const int size : kSlotSizes) {
    if (size <= left && size <= largest) return size;
  }
  return 1;
}

// The most slots of a piece. scatter_row() is compiled for overlapping windows with steps 1 and 2
// only; with longer steps the windows of neighboring source pixels must not overlap.
int largest_slots(const ScatterPlan& p) {
  const bool long_step = !p.forward && p.shape.stride_w > 2;
  return long_step ? static_cast<int>(std::min<int64_t>(p.shape.stride_w, 7)) : 7;
}

// The slots of the largest piece.
int64_t largest_piece(const ScatterPlan& p) {
  int64_t largest = 1;
  for (int64_t i = 0; i < run_count(p); ++i) {
    largest = std::max<int64_t>(largest, piece_slots(run(p, i).count, largest_slots(p)));
  }
  return largest;
}

// Vectors of output channels in a block. Few vectors keep lists long, because then more source
// channels fit into a tile. Two suffice to cover the latency of FMA if a nonzero contributes to 3
// pixels or more; a 1 x 1 kernel needs four.
int choose_registers(int64_t slots, int64_t channels, VectorShape v) {
  int registers = slots == 1 || (v.registers <= 16 && slots <= 3) ? 4 : 2;
  while (registers > 1 && int64_t{registers / 2} * v.width >= channels) registers /= 2;
  return registers;
}

}  // namespace

int64_t ScatterPlan::region_entries() const {
  return region_rows * source_width * groups * source_channels + vector.width;
}

int64_t ScatterPlan::list_scratch_bytes() const {
  const int64_t padded_tile = divide_up(tile, vector.width) * vector.width;
  return region_rows * source_width * padded_tile * vector.scalar_bytes;
}

bool ScatterPlan::fits() const {
  const int64_t channels = tile + vector.width;  // append() may write a whole vector more
  return fits_32_bits(source_width, channels) &&
         fits_32_bits(channels, shape.S * block * vector.scalar_bytes);
}

int64_t ScatterPlan::source_row(int64_t out_row, int64_t r) const {
  if (forward) {
    const int64_t row = out_row * shape.stride_h - shape.pad_h + r * shape.dilation_h;
    return row >= 0 && row < source_height ? row : -1;
  }
  const int64_t scaled = out_row + shape.pad_h - r * shape.dilation_h;
  if (shape.stride_h == 1) return scaled >= 0 && scaled < source_height ? scaled : -1;
  if (scaled < 0 || scaled % shape.stride_h != 0) return -1;
  return scaled / shape.stride_h < source_height ? scaled / shape.stride_h : -1;
}

int64_t ScatterPlan::pieces() const {
  int64_t count = 0;
  for (int64_t i = 0; i < run_count(*this); ++i) {
    for (int64_t left = run(*this, i).count; left > 0; ++count) {
      left -= piece_slots(left, largest_slots(*this));
    }
  }
  return count;
}

Piece ScatterPlan::piece(int64_t index) const {
  const ConvShape& s = shape;
  int64_t run_index = 0, slot0 = 0, done = 0;
  TapRun taps = run(*this, 0);
  int slots = piece_slots(taps.count, largest_slots(*this));
  for (int64_t i = 0; i < index; ++i) {
    slot0 += slots;
    done += slots;
    if (done == taps.count) {
      taps = run(*this, ++run_index);
      done = 0;
    }
    slots = piece_slots(taps.count - done, largest_slots(*this));
  }
  Piece piece{slots, static_cast<int>(slot0), 0, 1, source_width, 0, 1};
  const int64_t s0 = (taps.first + done * taps.step) * s.dilation_w;
  if (!forward) {
    piece.out = s0 - s.pad_w;
    piece.out_step = s.stride_w;
  } else {
    // Of the piece's taps the last one contributes to the leftmost pixel. Only source pixels i for
    // which i + pad - s0 is divisible by the stride contribute.
    const int64_t phase = ((s0 - s.pad_w) % s.stride_w + s.stride_w) % s.stride_w;
    piece.first = phase;
    piece.step = s.stride_w;
    piece.count = phase < source_width ? divide_up(source_width - phase, s.stride_w) : 0;
    piece.out = floor_divide(phase + s.pad_w - s0, s.stride_w) - (slots - 1);
  }
  // Drop source pixels that contribute to no output pixel: all j with out + j * out_step + slots -
  // 1 < 0 or out + j * out_step >= out_width.
  const int64_t skip = std::max<int64_t>(0, divide_up(-(piece.out + slots - 1), piece.out_step));
  const int64_t stop = std::max<int64_t>(0, divide_up(out_width - piece.out, piece.out_step));
  piece.count = std::max<int64_t>(0, std::min(piece.count, stop) - skip);
  piece.first += skip * piece.step;
  piece.out += skip * piece.out_step;
  return piece;
}

int64_t ScatterPlan::slot_of_tap(int64_t tap) const {
  int64_t slot = 0;
  for (int64_t i = 0; i < run_count(*this); ++i) {
    const TapRun taps = run(*this, i);
    for (int64_t done = 0; done < taps.count;) {
      const int slots = piece_slots(taps.count - done, largest_slots(*this));
      for (int j = 0; j < slots; ++j) {
        if (taps.first + (done + j) * taps.step == tap) {
          return slot + (forward ? slots - 1 - j : j);
        }
      }
      slot += slots;
      done += slots;
    }
  }
  return -1;
}

ScatterPlan plan_scatter(const ConvShape& shape, Pass pass, VectorShape vector) {
  ScatterPlan p{};
  p.forward = pass == Pass::kForward;
  p.shape = shape;
  p.groups = shape.groups;
  p.vector = vector;
  const int64_t c = shape.C / shape.groups, k = shape.K / shape.groups;
  p.source_channels = p.forward ? c : k;
  p.out_channels = p.forward ? k : c;
  p.source_height = p.forward ? shape.H : shape.P();
  p.source_width = p.forward ? shape.W : shape.Q();
  p.out_height = p.forward ? shape.P() : shape.H;
  p.out_width = p.forward ? shape.Q() : shape.W;

  const int64_t slots = largest_piece(p);
  p.registers = choose_registers(slots, p.out_channels, vector);
  p.block = int64_t{p.registers} * vector.width;
  p.blocks = divide_up(p.out_channels, p.block);
  const int64_t fit = kTileBytes / (slots * p.block * vector.scalar_bytes);
  const int64_t largest_tile = std::max<int64_t>(vector.width, fit / vector.width * vector.width);
  p.tiles = divide_up(p.source_channels, largest_tile);
  const int64_t even = divide_up(p.source_channels, p.tiles);
  p.tile = p.tiles == 1 ? even : divide_up(even, vector.width) * vector.width;
  p.tiles = divide_up(p.source_channels, p.tile);

  p.margin = slots - 1;  // a piece with one slot inside the output has at most that many outside
  const int64_t row_bytes = p.band_width() * p.block * vector.scalar_bytes;
  p.band_rows = std::clamp<int64_t>(kBandBytes / row_bytes, 1, std::max<int64_t>(1, p.out_rows()));
  p.region_rows = std::clamp<int64_t>(kRegionPixels / std::max<int64_t>(1, p.source_width), 1,
                                      std::max<int64_t>(1, p.source_height));
  return p;
}

}  // namespace sparsetrain
