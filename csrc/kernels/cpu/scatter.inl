// The forward (skipping zeros of x) and grad_input (skipping zeros of dy) on the CPU;
// Kernels::scatter of api.h. "Scatter" is the input-stationary form: a nonzero of the source is
// multiplied with the weights of its channel and scattered to the output pixels that it contributes
// to. Included by all.inl.

// Walks along one source row and adds its products to one output row.
//   start        start[0], start[1]: the entries of the first pixel; the next one's are source_step
//                elements later
//   count        source pixels
//   value        values of the row's entries
//   offset       byte offsets of their channels' weights from `weights`
//   out          the output pixel of slot 0 of the first source pixel; a pixel is kRegs vectors
//   step         output pixels from one source pixel's slot 0 to that of the next
// Pixel j adds, for each of its nonzeros v of channel a and each slot t, the vectors
// v * weights[a][t][0..kRegs) to output pixel j * step + t.
//
// The sums of the kSlots output pixels of one source pixel (the window) stay in registers. The
// window of the next source pixel begins kStep pixels further right: the kStep leftmost pixels are
// stored, the others are kept, and kStep new ones are loaded. This is correct because no later
// source pixel of the walk contributes to a pixel left of its window. kStep < kSlots: windows
// overlap, and step == kStep. kStep == kSlots: they do not, and step >= kSlots.
template <int kRegs, int kSlots, int kStep>
static void scatter_row(const uint32_t* start, int64_t source_step, int64_t count,
                        const Scalar* value, const uint32_t* offset, const char* weights,
                        Scalar* out, int64_t step) {
  constexpr int kPixel = kRegs * Vector::kWidth;  // scalars of an output pixel
  constexpr int kKeep = kSlots - kStep;           // pixels that two consecutive windows share
  if constexpr (kKeep > 0) step = kStep;
  Reg sum[kSlots][kRegs];
  // Calls f(t, v) for all vectors v of pixels t in [0, slots).
  const auto each = [&](auto slots, auto&& f) INLINE_LAMBDA {
    unroll<decltype(slots)::kValue>(
        [&](auto t) INLINE_LAMBDA { unroll<kRegs>([&](auto v) INLINE_LAMBDA { f(t, v); }); });
  };
  const Constant<kSlots> all{};
  const Constant<kKeep> kept{};
  const Constant<kStep> moved{};
  each(kept, [&](auto t, auto v) INLINE_LAMBDA {
    sum[t][v] = Vector::load(out + t * kPixel + v * Vector::kWidth);
  });
  for (int64_t j = 0; j < count; ++j, start += source_step, out += step * kPixel) {
    each(moved, [&](auto t, auto v) INLINE_LAMBDA {
      sum[kKeep + t][v] = Vector::load(out + (kKeep + t) * kPixel + v * Vector::kWidth);
    });
    const uint32_t end = start[1];
    for (uint32_t i = start[0]; i < end; ++i) {
      const Scalar* w = reinterpret_cast<const Scalar*>(weights + offset[i]);
      const Reg x = Vector::broadcast(value + i);
      each(all, [&](auto t, auto v) INLINE_LAMBDA {
        sum[t][v] = Vector::fma(x, Vector::load(w + (t * kRegs + v) * Vector::kWidth), sum[t][v]);
      });
    }
    each(moved, [&](auto t, auto v) INLINE_LAMBDA {
      Vector::store(out + t * kPixel + v * Vector::kWidth, sum[t][v]);
    });
    each(kept, [&](auto t, auto v) INLINE_LAMBDA { sum[t][v] = sum[t + kStep][v]; });
  }
  each(kept, [&](auto t, auto v) INLINE_LAMBDA {
    Vector::store(out + t * kPixel + v * Vector::kWidth, sum[t][v]);
  });
}

using ScatterRow = void (*)(const uint32_t*, int64_t, int64_t, const Scalar*, const uint32_t*,
                            const char*, Scalar*, int64_t);

// The walk for a number of slots (1, 2, 3, 5 or 7) and an output step. The plan never asks for a
// step with 2 < step < slots.
template <int kRegs>
static ScatterRow scatter_row_of(int slots, int64_t step) {
  constexpr int kRoom = Vector::kRegisters - 2;  // for sums; one holds the nonzero, one is spare
  if (slots == 1) return scatter_row<kRegs, 1, 1>;
  if (slots == 2) return step == 1 ? scatter_row<kRegs, 2, 1> : scatter_row<kRegs, 2, 2>;
  if (slots == 3) {
    if (step == 1) return scatter_row<kRegs, 3, 1>;
    return step == 2 ? scatter_row<kRegs, 3, 2> : scatter_row<kRegs, 3, 3>;
  }
  if constexpr (5 * kRegs <= kRoom) {
    if (slots == 5) {
      if (step == 1) return scatter_row<kRegs, 5, 1>;
      return step == 2 ? scatter_row<kRegs, 5, 2> : scatter_row<kRegs, 5, 5>;
    }
  }
  if constexpr (7 * kRegs <= kRoom) {
    if (step == 1) return scatter_row<kRegs, 7, 1>;
    return step == 2 ? scatter_row<kRegs, 7, 2> : scatter_row<kRegs, 7, 7>;
  }
  return nullptr;
}

static ScatterRow scatter_row_of(int registers, int slots, int64_t step) {
  if (registers == 1) return scatter_row_of<1>(slots, step);
  return registers == 2 ? scatter_row_of<2>(slots, step) : scatter_row_of<4>(slots, step);
}

// Initializes the rows of a band with the bias of the block's `channels` channels, or with 0.
template <class T>
static void start_band(const ScatterPlan& plan, const T* bias, int64_t channels, int64_t rows,
                       Scalar* band) {
  for (int64_t v = 0; v < plan.registers; ++v) {
    const int lanes = lanes_left(std::max<int64_t>(0, channels - v * Vector::kWidth));
    const Reg value = bias ? Vector::load_first(bias + v * Vector::kWidth, lanes) : Vector::zero();
    Scalar* pixel = band + v * Vector::kWidth;
    for (int64_t i = 0; i < rows * plan.band_width(); ++i, pixel += plan.block) {
      Vector::store(pixel, value);
    }
  }
}

// Adds the products of channel tile t to output rows [first, last), which `band` holds.
template <class T>
static void scatter_tile(const ScatterPlan& plan, const PixelLists<Scalar>& lists, int64_t group,
                         int64_t t, const Scalar* tile_weights, int64_t first, int64_t last,
                         Scalar* band) {
  const int64_t rows = plan.source_rows(), pieces = plan.pieces();
  const int64_t row_weights = plan.tile_scalars() / plan.shape.R;
  for (int64_t r = 0; r < plan.shape.R; ++r) {
    for (int64_t index = 0; index < pieces; ++index) {
      const Piece piece = plan.piece(index);
      const ScatterRow walk = scatter_row_of(plan.registers, piece.slots, piece.out_step);
      const Scalar* weights = tile_weights + r * row_weights + piece.slot0 * plan.block;
      int64_t image = first / plan.out_height, i = first % plan.out_height;
      for (int64_t row = first; row < last; ++row) {
        const int64_t source = plan.source_row(i, r), image_rows = image * plan.source_height;
        if (++i == plan.out_height) ++image, i = 0;
        if (source < 0) continue;
        const int64_t list = (group * plan.tiles + t) * rows + image_rows + source;
        const uint32_t* start = lists.start + list * (plan.source_width + 1) + piece.first;
        Scalar* out =
            band + ((row - first) * plan.band_width() + plan.margin + piece.out) * plan.block;
        walk(start, piece.step, piece.count, lists.value + lists.base[list],
             lists.offset + lists.base[list], reinterpret_cast<const char*>(weights), out,
             piece.out_step);
      }
    }
  }
}

// Copies a finished band to output rows [first, last) without margins and padding channels.
template <class T>
static void finish_band(const ScatterPlan& plan, const Scalar* band, int64_t channel,
                        int64_t channels, int64_t first, int64_t last, TensorView<T> out) {
  const int64_t bytes = plan.out_rows() * plan.out_width * plan.groups * plan.out_channels *
                        static_cast<int64_t>(sizeof(T));
  for (int64_t row = first; row < last;) {
    const int64_t image = row / plan.out_height, i = row % plan.out_height;
    const int64_t rows = std::min(last - row, plan.out_height - i);
    const Scalar* from = band + ((row - first) * plan.band_width() + plan.margin) * plan.block;
    const TensorView<T> to{out.at(image, channel, i, 0),
                           {0, out.stride[1], out.stride[2], out.stride[3]}};
    if (out.channels_last()) {
      copy_pixels_out(from, plan.block, plan.band_width(), rows, plan.out_width, channels, to,
                      bytes);
    } else {
      transpose_pixels_out(from, plan.block, plan.band_width(), rows, plan.out_width, channels, to,
                           bytes);
    }
    row += rows;
  }
}

// Kernels::scatter (api.h). A task is a block of output channels and a band of output rows. Tasks
// are ordered by block first, so that a range packs the weights of few blocks. They are packed
// right before use, into scratch that stays in the cache.
template <class T>
static void scatter(const ScatterPlan& plan, PixelLists<Scalar> lists, TensorView<const T> weight,
                    const T* bias, int64_t first, int64_t last, TensorView<T> out, void* scratch) {
  Scalar* band = static_cast<Scalar*>(scratch);
  Scalar* packed = band + plan.band_scalars();
  int64_t packed_block = -1;
  for (int64_t task = first; task < last; ++task) {
    const int64_t block = task / plan.bands(), group = block / plan.blocks;
    const int64_t in_group = block % plan.blocks * plan.block;
    const int64_t channel = group * plan.out_channels + in_group;
    const int64_t channels = std::min(plan.block, plan.out_channels - in_group);
    const int64_t row0 = task % plan.bands() * plan.band_rows;
    const int64_t row1 = std::min(row0 + plan.band_rows, plan.out_rows());
    if (block != packed_block) pack_block(plan, weight, group, in_group, packed);
    packed_block = block;
    start_band(plan, bias ? bias + channel : nullptr, channels, row1 - row0, band);
    for (int64_t t = 0; t < plan.tiles; ++t) {
      scatter_tile<T>(plan, lists, group, t, packed + t * plan.tile_scalars(), row0, row1, band);
    }
    finish_band(plan, band, channel, channels, row0, row1, out);
  }
  Vector::stream_end();
}
