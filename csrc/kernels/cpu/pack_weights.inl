// Packs the weights of one block of output channels in the order in which scatter.inl reads them:
// [tile][kernel row][source channel of the tile][slot][output channel of the block], as Scalar.
// Included by all.inl.

// Source channels that are prefetched ahead: in grad_input they lie a whole filter apart.
static constexpr int64_t kAhead = 6;

// The offset, in scalars, of each tap (r * S + s) inside a tile. A table for kernels of usual sizes
// avoids recomputing them.
struct TapOffsets {
  static constexpr int64_t kTable = 256;
  const ScatterPlan& plan;
  int64_t table[kTable];

  explicit TapOffsets(const ScatterPlan& p) : plan(p) {
    for (int64_t i = 0; i < std::min(kTable, p.shape.R * p.shape.S); ++i) table[i] = compute(i);
  }
  int64_t compute(int64_t tap) const {
    const int64_t row = tap / plan.shape.S * plan.tile * plan.shape.S;
    return (row + plan.slot_of_tap(tap % plan.shape.S)) * plan.block;
  }
  int64_t operator[](int64_t tap) const { return tap < kTable ? table[tap] : compute(tap); }
};

// Packs one vector of output channels for `channels` source channels of one tile. from: the weight
// of the first of them, in a tensor with these strides. If output channels are contiguous in w,
// vectors are loaded directly; else the contiguous dimension (source channels or taps) is loaded in
// rows of kWidth and transposed.
template <class T>
static void pack_vector(const ScatterPlan& plan, const TapOffsets& offsets, const T* from,
                        const int64_t* stride, int64_t channels, int lanes, Scalar* to) {
  const int64_t taps = plan.shape.R * plan.shape.S, pixel = plan.shape.S * plan.block;
  const int64_t out_stride = stride[plan.forward ? 0 : 1];
  const int64_t channel_stride = stride[plan.forward ? 1 : 0];
  const int64_t tap_stride = stride[3];  // also from row to row: w is dense
  Reg m[Vector::kWidth];
  if (out_stride == 1) {
    for (int64_t a = 0; a < channels; ++a) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        const T* vector = from + tap * tap_stride + a * channel_stride;
        prefetch(vector + kAhead * channel_stride);
        Vector::store(to + a * pixel + offsets[tap], Vector::load_first(vector, lanes));
      }
    }
  } else if (channel_stride == 1) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t a = 0; a < channels; a += Vector::kWidth) {
        const int columns = lanes_left(channels - a);
        load_transposed(from + tap * tap_stride + a, out_stride, lanes, columns, m);
        Scalar* out = to + a * pixel + offsets[tap];
        for (int n = 0; n < columns; ++n) Vector::store(out + n * pixel, m[n]);
      }
    }
  } else {
    for (int64_t a = 0; a < channels; ++a) {
      if (!plan.forward) prefetch_span(from + (a + kAhead) * channel_stride, lanes * taps);
      for (int64_t tap = 0; tap < taps; tap += Vector::kWidth) {
        const int columns = lanes_left(taps - tap);
        load_transposed(from + a * channel_stride + tap, out_stride, lanes, columns, m);
        for (int n = 0; n < columns; ++n) Vector::store(to + a * pixel + offsets[tap + n], m[n]);
      }
    }
  }
}

// Packs the weights of the block of output channels that begins at out0 in its group. Lanes beyond
// the last output channel become 0.
template <class T>
static void pack_block(const ScatterPlan& plan, TensorView<const T> w, int64_t group, int64_t out0,
                       Scalar* packed) {
  const TapOffsets offsets(plan);
  for (int64_t t = 0; t < plan.tiles; ++t) {
    const int64_t a = t * plan.tile, channels = std::min(plan.tile, plan.source_channels - a);
    for (int64_t v = 0; v < plan.block; v += Vector::kWidth) {
      const int64_t out = out0 + v;
      const int lanes = lanes_left(std::max<int64_t>(0, plan.out_channels - out));
      const T* from = plan.forward ? w.at(group * plan.out_channels + out, a, 0, 0)
                                   : w.at(group * plan.source_channels + a, out, 0, 0);
      pack_vector(plan, offsets, from, w.stride, channels, lanes,
                  packed + t * plan.tile_scalars() + v);
    }
  }
}
