// grad_weight on the CPU, skipping zeros of dy (or of x, with swapped operands);
// Kernels::grad_weight of api.h. For each band of dy, the x that it needs is copied with its
// padding, so that the tap offsets are equal for all pixels. Then each list, the nonzeros of one
// channel of dy, is walked once for each box of taps while the sums of the box stay in registers.
// This is the OSRC row operation of the paper: output-stationary. Included by all.inl.

// Walks along one list. For each nonzero v with offset o, each kernel row r < kRows and each tap
// t < kTaps, adds v * (kRegs vectors of x at byte o + r * row_bytes, t pixels further right) to
// sums[r][t][0..kRegs).
//   count      entries of the list
//   x          the padded copy, at the first tap of the box
//   row_bytes  bytes of x from one kernel row to the next
//   sum_row    scalars of sums from one kernel row to the next
template <int kRegs, int kRows, int kTaps>
static void grad_weight_list(int64_t count, const Scalar* value, const uint32_t* offset,
                             const char* x, int64_t row_bytes, Scalar* sums, int64_t sum_row) {
  constexpr int kPixel = kRegs * Vector::kWidth;
  Reg sum[kRows][kTaps][kRegs];
  // Calls f(r, t, v) for all sums.
  const auto each = [&](auto&& f) INLINE_LAMBDA {
    unroll<kRows>([&](auto r) INLINE_LAMBDA {
      unroll<kTaps>(
          [&](auto t) INLINE_LAMBDA { unroll<kRegs>([&](auto v) INLINE_LAMBDA { f(r, t, v); }); });
    });
  };
  each([&](auto r, auto t, auto v) INLINE_LAMBDA {
    sum[r][t][v] = Vector::load(sums + r * sum_row + t * kPixel + v * Vector::kWidth);
  });
  for (int64_t i = 0; i < count; ++i) {
    const char* pixel = x + offset[i];
    const Reg factor = Vector::broadcast(value + i);
    each([&](auto r, auto t, auto v) INLINE_LAMBDA {
      const Scalar* operand =
          reinterpret_cast<const Scalar*>(pixel + r * row_bytes) + t * kPixel + v * Vector::kWidth;
      sum[r][t][v] = Vector::fma(factor, Vector::load(operand), sum[r][t][v]);
    });
  }
  each([&](auto r, auto t, auto v) INLINE_LAMBDA {
    Vector::store(sums + r * sum_row + t * kPixel + v * Vector::kWidth, sum[r][t][v]);
  });
}

using GradWeightList = void (*)(int64_t, const Scalar*, const uint32_t*, const char*, int64_t,
                                Scalar*, int64_t);

// The walk for a box of taps: 3 x 3, or 1, 3, 5 or 7 taps of one kernel row. kRoom: registers for
// sums.
template <int kRegs>
static GradWeightList grad_weight_list_of(const TapBox& box) {
  constexpr int kRoom = Vector::kRegisters - 2;
  if constexpr (9 * kRegs <= kRoom) {
    if (box.rows == 3) return grad_weight_list<kRegs, 3, 3>;
  }
  if (box.taps == 1) return grad_weight_list<kRegs, 1, 1>;
  if (box.taps == 3) return grad_weight_list<kRegs, 1, 3>;
  if constexpr (5 * kRegs <= kRoom) {
    if (box.taps == 5) return grad_weight_list<kRegs, 1, 5>;
  }
  if constexpr (7 * kRegs <= kRoom) return grad_weight_list<kRegs, 1, 7>;
  return nullptr;
}

static GradWeightList grad_weight_list_of(int registers, const TapBox& box) {
  if (registers == 1) return grad_weight_list_of<1>(box);
  return registers == 2 ? grad_weight_list_of<2>(box) : grad_weight_list_of<4>(box);
}

// Copies rows x columns pixels of one image of x, from pixel (h, w) on, with zeros outside the
// image. x begins at the first of `channels` channels. Blocks of plan.block channels are `plane`
// scalars apart in `to`; the last block is filled with zeros.
template <class T>
static void copy_image_in(const GradWeightPlan& plan, TensorView<const T> x, int64_t h, int64_t w,
                          int64_t rows, int64_t columns, int64_t channels, int64_t plane,
                          Scalar* to) {
  const int64_t w0 = std::max<int64_t>(0, -w), w1 = std::min(columns, plan.shape.W - w);
  const int64_t padded = (channels + plan.block - 1) / plan.block * plan.block;
  const int64_t per_block = plan.registers;  // vectors
  for (int64_t i = 0; i < rows; ++i) {
    const bool inside = h + i >= 0 && h + i < plan.shape.H;
    Scalar* row = to + i * plan.copy_columns() * plan.block;
    for (int64_t c = 0; c < padded; c += Vector::kWidth) {
      const int lanes = lanes_left(std::max<int64_t>(0, channels - c));
      const int64_t vector = c / Vector::kWidth;
      Scalar* out = row + vector / per_block * plane + vector % per_block * Vector::kWidth;
      // Sets pixels [from, until) of the row to 0.
      const auto clear = [&](int64_t from, int64_t until) {
        for (int64_t j = from; j < until; ++j) Vector::store(out + j * plan.block, Vector::zero());
      };
      if (!inside || lanes == 0 || w0 >= w1) {
        clear(0, columns);
        continue;
      }
      clear(0, w0);
      copy_run(x.at(0, c, h + i, w + w0), x.stride[1], x.stride[3], x.channels_last(), lanes,
               w1 - w0, plan.block, out + w0 * plan.block);
      clear(w1, columns);
    }
  }
}

// Copies the x of a band, with its padding, for `channels` channels from `channel` on.
template <class T>
static void copy_band_in(const GradWeightPlan& plan, const Band& band, TensorView<const T> x,
                         int64_t channel, int64_t channels, Scalar* copy) {
  const ConvShape& s = plan.shape;
  const int64_t plane = plan.copy_pixels() * plan.block;
  const int64_t rows = plan.copy_rows(band.rows), columns = plan.copy_columns();
  for (int64_t n = 0; n < band.images; ++n) {
    const TensorView<const T> image{x.at(band.image + n, channel, 0, 0),
                                    {0, x.stride[1], x.stride[2], x.stride[3]}};
    copy_image_in(plan, image, band.row * s.stride_h - s.pad_h, band.column * s.stride_w - s.pad_w,
                  rows, columns, channels, plane,
                  copy + n * plan.copy_rows(plan.band_rows) * columns * plan.block);
  }
}

// Adds the products of one band's lists of output channels [k0, k1) with one block of x. copy: the
// band's padded copy of that block; sums: [k1 - k0][R][S][block].
static void grad_weight_band(const GradWeightPlan& plan, const ChannelLists<Scalar>& lists,
                             int64_t band, int64_t k0, int64_t k1, const Scalar* copy,
                             Scalar* sums) {
  const ConvShape& s = plan.shape;
  const uint32_t* start = lists.start + band * (s.K + 1);
  const Scalar* value = lists.value + lists.base[band];
  const uint32_t* offset = lists.offset + lists.base[band];
  const int64_t sum_row = s.S * plan.block;
  const int64_t row_bytes =
      plan.copy_columns() * s.dilation_h * plan.block * plan.vector.scalar_bytes;
  for (int64_t index = 0; index < plan.boxes(); ++index) {
    const TapBox box = plan.box(index);
    const GradWeightList walk = grad_weight_list_of(plan.registers, box);
    const int64_t shift =
        box.row * row_bytes + box.tap * s.dilation_w * plan.block * plan.vector.scalar_bytes;
    const char* x = reinterpret_cast<const char*>(copy) + shift;
    Scalar* sum = sums + box.row * sum_row + box.tap * plan.block;
    for (int64_t k = k0; k < k1; ++k, sum += s.R * sum_row) {
      walk(start[k + 1] - start[k], value + start[k], offset + start[k], x, row_bytes, sum,
           sum_row);
    }
  }
}

// Stores the finished sums of one block, [k1 - k0][taps][block], in grad_weight. A contiguous
// result is first assembled in `staging` (R * S * block scalars), so that whole vectors are stored.
template <class T>
static void finish_weights(const GradWeightPlan& plan, const Scalar* sums, int64_t k0, int64_t k1,
                           int64_t channel, int64_t channels, TensorView<T> grad_weight,
                           Scalar* staging) {
  const ConvShape& s = plan.shape;
  const int64_t taps = s.R * s.S;
  const int64_t bytes = s.K * s.C / s.groups * taps * static_cast<int64_t>(sizeof(T));
  const TensorView<Scalar> staged{staging, {0, taps, s.S, 1}};
  for (int64_t k = k0; k < k1; ++k, sums += taps * plan.block) {
    const TensorView<T> to{
        grad_weight.at(k, channel, 0, 0),
        {0, grad_weight.stride[1], grad_weight.stride[2], grad_weight.stride[3]}};
    if (to.channels_last()) {
      copy_pixels_out(sums, plan.block, s.S, s.R, s.S, channels, to, bytes);
    } else {
      transpose_pixels_out(sums, plan.block, s.S, s.R, s.S, channels, staged, 0);
      const bool stream = may_stream(to.data, 0, bytes);
      for (int64_t i = 0; i < channels * taps; i += Vector::kWidth) {
        put(to.data + i, Vector::load(staging + i), lanes_left(channels * taps - i), stream);
      }
    }
  }
}

// Stores the finished sums of one block for swapped operands: in grad_weight[channel][k], with the
// taps reversed. In a channels_last result, vectors run along k, so kWidth lists are stored at
// once.
template <class T>
static void finish_swapped(const GradWeightPlan& plan, const Scalar* sums, int64_t k0, int64_t k1,
                           int64_t channel, int64_t channels, TensorView<T> grad_weight) {
  const ConvShape& s = plan.shape;
  const int64_t taps = s.R * s.S, filter = taps * plan.block;
  const int64_t across = grad_weight.stride[0], along = grad_weight.stride[1];
  if (grad_weight.channels_last()) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t row = (taps - 1 - tap) / s.S, column = (taps - 1 - tap) % s.S;
      const TensorView<T> to{grad_weight.at(channel, k0, row, column), {0, across, 0, along}};
      transpose_pixels_out(sums + tap * plan.block, filter, 0, 1, k1 - k0, channels, to, 0);
    }
    return;
  }
  for (int64_t k = k0; k < k1; ++k, sums += filter) {
    const TensorView<T> to{grad_weight.at(channel, k, 0, 0), {0, across, s.S, 1}};
    transpose_pixels_out(sums + filter - plan.block, -plan.block, s.S, s.R, s.S, channels, to, 0);
  }
}

// Kernels::grad_weight (api.h). A task is a set of blocks of input channels and a range of output
// channels, over all bands.
template <class T>
static void grad_weight(const GradWeightPlan& plan, ChannelLists<Scalar> lists,
                        TensorView<const T> x, int64_t first, int64_t last,
                        TensorView<T> grad_weight, void* scratch) {
  Scalar* copy = static_cast<Scalar*>(scratch);
  const int64_t plane = plan.copy_pixels() * plan.block;
  Scalar* sums = copy + plan.set * plane;
  for (int64_t task = first; task < last; ++task) {
    const int64_t group = task / (plan.sets * plan.splits);
    const int64_t set = task / plan.splits % plan.sets, split = task % plan.splits;
    const int64_t k_first = split * plan.split_channels();
    const int64_t k_last = std::min(k_first + plan.split_channels(), plan.channels_out);
    const int64_t k0 = group * plan.channels_out + k_first;
    const int64_t k1 = group * plan.channels_out + k_last;
    const int64_t c0 = set * plan.set * plan.block;
    const int64_t channels = std::min(plan.set * plan.block, plan.channels_in - c0);
    const int64_t blocks = (channels + plan.block - 1) / plan.block;
    const int64_t block_sums = plan.split_channels() * plan.shape.R * plan.shape.S * plan.block;
    if (k0 >= k1) continue;
    std::fill(sums, sums + blocks * block_sums, Scalar(0));
    for (int64_t band = 0; band < plan.bands(); ++band) {
      copy_band_in(plan, plan.band(band), x, group * plan.channels_in + c0, channels, copy);
      for (int64_t b = 0; b < blocks; ++b) {
        grad_weight_band(plan, lists, band, k0, k1, copy + b * plane, sums + b * block_sums);
      }
    }
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t channel = c0 + b * plan.block;
      const int64_t valid = std::min(plan.block, channels - b * plan.block);
      if (plan.swapped) {
        finish_swapped(plan, sums + b * block_sums, k0, k1, channel, valid, grad_weight);
      } else {
        finish_weights(plan, sums + b * block_sums, k0, k1, channel, valid, grad_weight, copy);
      }
    }
  }
  Vector::stream_end();
}
