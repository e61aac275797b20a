// The gradient of the bias: the sum of each channel over all images and pixels. The order of a sum
// is fixed, whichever thread computes it. Included by all.inl.

// Adds the lanes of a vector pairwise.
static INLINE Scalar sum_lanes(Reg v) {
  Scalar lane[Vector::kWidth];
  Vector::store(lane, v);
  for (int width = Vector::kWidth / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

// Adds `vectors` vectors that begin `step` elements apart. All have `lanes` valid lanes, except the
// last one, which has `last`. Four partial sums keep additions from waiting for each other.
template <class T>
static INLINE Reg sum_vectors(const T* from, int64_t vectors, int64_t step, int lanes, int last) {
  Reg sum[4] = {Vector::zero(), Vector::zero(), Vector::zero(), Vector::zero()};
  const bool whole = lanes == Vector::kWidth;
  int64_t i = 0;
  for (; i + 4 < vectors; i += 4) {
    unroll<4>([&](auto s) INLINE_LAMBDA {
      const T* p = from + (i + s) * step;
      sum[s] = Vector::add(sum[s], whole ? load_whole(p) : Vector::load_first(p, lanes));
    });
  }
  for (; i < vectors; ++i) {
    const int valid = i + 1 == vectors ? last : lanes;
    sum[0] = Vector::add(sum[0], Vector::load_first(from + i * step, valid));
  }
  return Vector::add(Vector::add(sum[0], sum[1]), Vector::add(sum[2], sum[3]));
}

// Kernels::channel_sums (api.h). An image is summed up before the next one, which keeps partial
// sums short and rounding errors small.
template <class T>
static void channel_sums(TensorView<const T> source, int64_t images, int64_t channels,
                         int64_t pixels, int64_t first, int64_t last, T* sums) {
  for (int64_t c = first * Vector::kWidth; c < std::min(channels, last * Vector::kWidth);
       c += Vector::kWidth) {
    const int lanes = lanes_left(channels - c);
    Reg total = Vector::zero();
    if (source.channels_last()) {
      for (int64_t n = 0; n < images; ++n) {
        const T* image = source.at(n, c, 0, 0);
        total = Vector::add(total, sum_vectors(image, pixels, source.stride[3], lanes, lanes));
      }
    } else {
      Scalar lane[Vector::kWidth] = {};
      const int64_t vectors = (pixels + Vector::kWidth - 1) / Vector::kWidth;
      const int tail = static_cast<int>(pixels - (vectors - 1) * Vector::kWidth);
      for (int i = 0; i < lanes; ++i) {
        for (int64_t n = 0; n < images; ++n) {
          const T* plane = source.at(n, c + i, 0, 0);
          lane[i] += sum_lanes(sum_vectors(plane, vectors, Vector::kWidth, Vector::kWidth, tail));
        }
      }
      total = Vector::load(lane);
    }
    Vector::store_first(sums + c, total, lanes);
  }
}
