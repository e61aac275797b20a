// Compression of the operand whose zeros are skipped into lists of nonzeros (api.h): by pixel for
// scatter.inl, by channel for grad_weight.inl. Included by all.inl.

// Appends the nonzeros of one pixel's `channels` channels to value and offset, which hold `count`
// entries. Channel a has the offset a * unit. Returns the new number of entries. Up to a vector
// more is written.
template <class T>
static INLINE uint32_t append_pixel(const T* pixel, int64_t channels, uint32_t unit, Scalar* value,
                                    uint32_t* offset, uint32_t count) {
  for (int64_t a = 0; a < channels; a += Vector::kWidth) {
    const Reg v = Vector::load_first(pixel + a, lanes_left(channels - a));
    const auto offsets = Vector::ramp(static_cast<uint32_t>(a) * unit, unit);
    count += Vector::append(v, offsets, value + count, offset + count);
  }
  return count;
}

// Transposes an NCHW region: channels [0, channels) of `pixels` consecutive pixels to
// to[pixel * padded + channel]. padded: `channels`, rounded up to whole vectors.
template <class T>
static void transpose_pixels_in(const T* source, int64_t channel_stride, int64_t pixels,
                                int64_t channels, int64_t padded, Scalar* to) {
  for (int64_t a = 0; a < channels; a += Vector::kWidth) {
    const int rows = lanes_left(channels - a);  // a row of the transposed matrix is a channel
    for (int64_t p = 0; p < pixels; p += Vector::kWidth) {
      const int columns = lanes_left(pixels - p);
      const T* block = source + a * channel_stride + p;
      for (int i = 0; i < rows; ++i) prefetch(block + i * channel_stride + 2 * Vector::kWidth);
      Reg m[Vector::kWidth];
      load_transposed(block, channel_stride, rows, columns, m);
      unroll<Vector::kWidth>([&](auto n) INLINE_LAMBDA {
        if (n < columns) Vector::store(to + (p + n) * padded + a, m[n]);
      });
    }
  }
}

// Builds the lists of `rows` rows of pixels for one channel tile. The first row has the index
// `list` in lists.base, and its entries begin at `base`. Returns the end of the last row's entries.
template <class T>
static int64_t append_rows(const ScatterPlan& plan, const T* pixels, int64_t row_stride,
                           int64_t pixel_stride, int64_t channels, int64_t rows, int64_t list,
                           int64_t base, const PixelLists<Scalar>& lists) {
  // Bytes of one channel's packed weights (pack_weights.inl).
  const uint32_t unit = static_cast<uint32_t>(plan.shape.S * plan.block * plan.vector.scalar_bytes);
  for (int64_t i = 0; i < rows; ++i, ++list) {
    uint32_t* start = lists.start + list * (plan.source_width + 1);
    Scalar* value = lists.value + base;
    uint32_t* offset = lists.offset + base;
    uint32_t count = 0;
    for (int64_t j = 0; j < plan.source_width; ++j) {
      start[j] = count;
      count = append_pixel(pixels + i * row_stride + j * pixel_stride, channels, unit, value,
                           offset, count);
    }
    start[plan.source_width] = count;
    lists.base[list] = base;
    base += count;
  }
  return base;
}

// Kernels::build_pixel_lists (api.h). The entries of all tiles of a region follow each other.
template <class T>
static void build_pixel_lists(const ScatterPlan& plan, TensorView<const T> source, int64_t first,
                              int64_t last, PixelLists<Scalar> lists, void* scratch) {
  Scalar* pixels = static_cast<Scalar*>(scratch);
  const int64_t padded = (plan.tile + Vector::kWidth - 1) / Vector::kWidth * Vector::kWidth;
  for (int64_t region = first; region < last; ++region) {
    const int64_t image = region / plan.regions_per_image();
    const int64_t row = region % plan.regions_per_image() * plan.region_rows;
    const int64_t rows = std::min(plan.region_rows, plan.source_height - row);
    int64_t base = region * plan.region_entries();
    for (int64_t t = 0; t < plan.groups * plan.tiles; ++t) {
      const int64_t group = t / plan.tiles, in_group = t % plan.tiles * plan.tile;
      const int64_t channel = group * plan.source_channels + in_group;
      const int64_t channels = std::min(plan.tile, plan.source_channels - in_group);
      const T* from = source.at(image, channel, row, 0);
      const int64_t list = t * plan.source_rows() + image * plan.source_height + row;
      if (source.channels_last()) {
        base = append_rows(plan, from, source.stride[2], source.stride[3], channels, rows, list,
                           base, lists);
      } else {
        transpose_pixels_in(from, source.stride[1], rows * plan.source_width, channels, padded,
                            pixels);
        base = append_rows(plan, pixels, plan.source_width * padded, padded, channels, rows, list,
                           base, lists);
      }
    }
  }
}

// Writes, for each pixel of a band, the byte offset in the padded copy of x of the pixel that tap
// (0, 0) reads.
static void band_offsets(const GradWeightPlan& plan, const Band& band, uint32_t* offset) {
  const int64_t pixel = plan.block * plan.vector.scalar_bytes;
  for (int64_t n = 0; n < band.images; ++n) {
    for (int64_t i = 0; i < band.rows; ++i) {
      const int64_t row = n * plan.copy_rows(plan.band_rows) + i * plan.shape.stride_h;
      for (int64_t j = 0; j < band.columns; ++j) {
        const int64_t column = j * plan.shape.stride_w;
        *offset++ = static_cast<uint32_t>((row * plan.copy_columns() + column) * pixel);
      }
    }
  }
}

// Builds the lists of one band of an NCHW tensor, where the pixels of a channel are in order
// already.
template <class T>
static void append_planes(const GradWeightPlan& plan, const Band& band, TensorView<const T> source,
                          const uint32_t* pixel_offset, uint32_t* start, Scalar* value,
                          uint32_t* offset) {
  const bool whole_rows = band.columns == plan.shape.Q();
  const int64_t runs = whole_rows ? 1 : band.rows;  // contiguous pieces of a channel in one image
  const int64_t length = band.pixels() / band.images / runs, ahead = 2 * source.stride[1];
  uint32_t count = 0;
  for (int64_t k = 0; k < plan.shape.K; ++k) {
    start[k] = count;
    const uint32_t* pixel = pixel_offset;
    for (int64_t n = 0; n < band.images; ++n) {
      for (int64_t i = 0; i < runs; ++i, pixel += length) {
        const T* run = source.at(band.image + n, k, band.row + i, band.column);
        for (int64_t j = 0; j < length; j += Vector::kWidth) {
          prefetch(run + j + ahead);
          count += Vector::append(Vector::load_first(run + j, lanes_left(length - j)),
                                  Vector::load_offsets(pixel + j), value + count, offset + count);
        }
      }
    }
  }
  start[plan.shape.K] = count;
}

// Channels of a channels_last band whose lists grow side by side: four vectors, so that whole cache
// lines of a pixel are read at once.
static constexpr int kStreams = GradWeightPlan::streams(Vector::kWidth);
// One list for each of these channels, in scratch memory.
struct Streams {
  int64_t capacity;  // entries from one stream to the next
  Scalar* value;     // [kStreams][capacity]
  uint32_t* offset;  // [kStreams][capacity]
  uint32_t count[kStreams];
};

// Appends `channels` channels of a channels_last band, from `channel` on, to the streams. Blocks of
// kWidth pixels are transposed in registers; then a zero costs part of a vector instruction, and no
// branch depends on it.
template <class T>
static void append_transposed(const Band& band, TensorView<const T> source, int64_t channel,
                              int64_t channels, const uint32_t* pixel_offset, Streams& streams) {
  const int64_t pixels = band.pixels(), ahead = Vector::kWidth * source.stride[3];
  int64_t n = 0, i = 0, j = 0;
  for (int64_t p = 0; p < pixels; p += Vector::kWidth) {
    const T* pixel[Vector::kWidth];
    const int valid = lanes_left(pixels - p);
    for (int l = 0; l < valid; ++l) {
      pixel[l] = source.at(band.image + n, channel, band.row + i, band.column + j);
      if (++j == band.columns) {
        j = 0;
        if (++i == band.rows) ++n, i = 0;
      }
    }
    const auto offsets = Vector::load_offsets(pixel_offset + p);
    for (int64_t c = 0; c < channels; c += Vector::kWidth) {
      const int lanes = lanes_left(channels - c);
      Reg m[Vector::kWidth];
      unroll<Vector::kWidth>([&](auto l) INLINE_LAMBDA {
        m[l] = l < valid ? Vector::load_first(pixel[l] + c, lanes) : Vector::zero();
        if (l < valid) prefetch(pixel[l] + c + ahead);
      });
      Vector::transpose(m);
      unroll<Vector::kWidth>([&](auto l) INLINE_LAMBDA {
        uint32_t& count = streams.count[c + l];
        const int64_t at = (c + l) * streams.capacity + count;
        count += Vector::append(m[l], offsets, streams.value + at, streams.offset + at);
      });
    }
  }
}

// Builds the lists of one band of a channels_last tensor, kStreams channels at a time.
template <class T>
static void append_pixels(const GradWeightPlan& plan, const Band& band, TensorView<const T> source,
                          const uint32_t* pixel_offset, Streams& streams, uint32_t* start,
                          Scalar* value, uint32_t* offset) {
  uint32_t count = 0;
  for (int64_t k = 0; k < plan.shape.K; k += kStreams) {
    const int64_t channels = std::min<int64_t>(kStreams, plan.shape.K - k);
    std::fill_n(streams.count, kStreams, 0u);
    append_transposed(band, source, k, channels, pixel_offset, streams);
    for (int64_t l = 0; l < channels; ++l) {
      start[k + l] = count;
      std::copy_n(streams.value + l * streams.capacity, streams.count[l], value + count);
      std::copy_n(streams.offset + l * streams.capacity, streams.count[l], offset + count);
      count += streams.count[l];
    }
  }
  start[plan.shape.K] = count;
}

// Kernels::build_channel_lists (api.h).
template <class T>
static void build_channel_lists(const GradWeightPlan& plan, TensorView<const T> source,
                                int64_t first, int64_t last, ChannelLists<Scalar> lists,
                                void* scratch) {
  const int64_t pixels = plan.band_images * plan.band_rows * plan.band_columns + Vector::kWidth;
  Streams streams{plan.stream_entries(), static_cast<Scalar*>(scratch), nullptr, {}};
  streams.offset = reinterpret_cast<uint32_t*>(streams.value + kStreams * streams.capacity);
  uint32_t* pixel_offset = streams.offset + kStreams * streams.capacity;
  std::fill_n(pixel_offset, pixels, 0u);
  for (int64_t index = first; index < last; ++index) {
    const Band band = plan.band(index);
    const int64_t base = index * plan.band_entries();
    uint32_t* start = lists.start + index * (plan.shape.K + 1);
    lists.base[index] = base;
    band_offsets(plan, band, pixel_offset);
    if (source.channels_last()) {
      append_pixels(plan, band, source, pixel_offset, streams, start, lists.value + base,
                    lists.offset + base);
    } else {
      append_planes(plan, band, source, pixel_offset, start, lists.value + base,
                    lists.offset + base);
    }
  }
}
