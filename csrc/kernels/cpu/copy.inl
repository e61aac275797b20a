// Copies between tensors and the kernels' own order (a vector of channels a pixel): the place where
// NCHW is transposed and 16-bit storage is converted.

// Asks for the cache line at p, which may lie outside the tensor.
static INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
// The same for the `count` elements at p.
template <class T>
static INLINE void prefetch_span(const T* p, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < count; i += kLine) prefetch(p + i);
}

// All kWidth lanes; AVX2 takes longer for a masked load even where nothing is masked.
template <class T>
static INLINE Reg load_whole(const T* p) {
  if constexpr (std::is_same_v<T, Scalar>) return Vector::load(p);
  return Vector::load_first(p, Vector::kWidth);
}

// Transposed reading: lane i of m[j] becomes source[i * stride + j], i < rows, j < columns; rows
// and columns up to kWidth, the rest 0.
template <class T>
static INLINE void load_transposed(const T* source, int64_t stride, int rows, int columns,
                                   Reg (&m)[Vector::kWidth]) {
  if (rows == Vector::kWidth) {
    unroll<Vector::kWidth>(
        [&](auto i) INLINE_LAMBDA { m[i] = Vector::load_first(source + i * stride, columns); });
  } else {
    unroll<Vector::kWidth>([&](auto i) INLINE_LAMBDA {
      m[i] = i < rows ? Vector::load_first(source + i * stride, columns) : Vector::zero();
    });
  }
  Vector::transpose(m);
}

// kWidth, or what is left of it.
static INLINE int lanes_left(int64_t left) {
  return left < Vector::kWidth ? static_cast<int>(left) : Vector::kWidth;
}

// Whether whole vectors of a result of `bytes` bytes, at p and multiples of a vector from it, may
// go past the caches: it is of the kernels' own scalars, so large that its reader will not find it
// there anyway, and aligned. That saves reading each line before it is overwritten.
template <class T>
static INLINE bool may_stream(const T* p, int64_t stride, int64_t bytes) {
  constexpr int64_t kLargeBytes = int64_t{6} << 20;  // beyond the L2s and a core's share of L3
  constexpr size_t kVector = Vector::kWidth * sizeof(Scalar);
  return std::is_same_v<T, Scalar> && bytes >= kLargeBytes &&
         reinterpret_cast<uintptr_t>(p) % kVector == 0 && stride % Vector::kWidth == 0;
}

// One vector to a result: past the caches, or its first lanes.
template <class T>
static INLINE void put(T* p, Reg v, int lanes, bool stream) {
  if constexpr (std::is_same_v<T, Scalar>) {
    if (stream && lanes == Vector::kWidth) return Vector::stream(p, v);
  }
  Vector::store_first(p, v, lanes);
}

// rows x width pixels of `channels` channels, `pitch` pixels a row and `block` scalars a pixel
// apart, to a channels_last tensor.
template <class T>
static void copy_pixels_out(const Scalar* from, int64_t block, int64_t pitch, int64_t rows,
                            int64_t width, int64_t channels, TensorView<T> to, int64_t bytes) {
  const bool stream = may_stream(to.data, to.stride[3], bytes);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < width; ++j) {
      const Scalar* pixel = from + (i * pitch + j) * block;
      T* out = to.at(0, 0, i, j);
      for (int64_t c = 0; c < channels; c += Vector::kWidth) {
        put(out + c, Vector::load(pixel + c), lanes_left(channels - c), stream);
      }
    }
  }
}

// The same to a contiguous tensor, whose rows of one channel follow each other: blocks of kWidth
// consecutive pixels, over row ends, so that small images fill their vectors.
template <class T>
static void transpose_pixels_out(const Scalar* from, int64_t block, int64_t pitch, int64_t rows,
                                 int64_t width, int64_t channels, TensorView<T> to, int64_t bytes) {
  const bool stream = may_stream(to.data, to.stride[1], bytes);
  const int64_t pixels = rows * width;
  for (int64_t p = 0; p < pixels; p += Vector::kWidth) {
    const int columns = lanes_left(pixels - p);
    const Scalar* pixel[Vector::kWidth];
    int64_t i = p / width, j = p % width;
    for (int n = 0; n < Vector::kWidth; ++n) {
      pixel[n] = from + (i * pitch + j) * block;  // the last one is repeated beyond the end
      if (n + 1 < columns && ++j == width) ++i, j = 0;
    }
    for (int64_t c = 0; c < channels; c += Vector::kWidth) {
      Reg m[Vector::kWidth];
      unroll<Vector::kWidth>([&](auto n) INLINE_LAMBDA { m[n] = Vector::load(pixel[n] + c); });
      Vector::transpose(m);
      T* out = to.data + c * to.stride[1] + p;
      const int count = lanes_left(channels - c);
      unroll<Vector::kWidth>([&](auto n) INLINE_LAMBDA {
        if (n < count) put(out + n * to.stride[1], m[n], columns, stream);
      });
    }
  }
}

// `pixels` pixels of up to kWidth channels (`lanes` of them valid) to vectors `block` scalars
// apart.
template <class T>
static INLINE void copy_run(const T* from, int64_t channel_stride, int64_t pixel_stride,
                            bool channels_last, int lanes, int64_t pixels, int64_t block,
                            Scalar* to) {
  if (channels_last) {
    for (int64_t j = 0; j < pixels; ++j) {
      Vector::store(to + j * block, Vector::load_first(from + j * pixel_stride, lanes));
    }
    return;
  }
  for (int64_t j = 0; j < pixels; j += Vector::kWidth) {
    const int columns = lanes_left(pixels - j);
    if (pixels >= Vector::kWidth) {  // the next row, where that is another line
      for (int c = 0; c < lanes; ++c) prefetch(from + j + pixels + c * channel_stride);
    }
    Reg m[Vector::kWidth];
    load_transposed(from + j, channel_stride, lanes, columns, m);
    unroll<Vector::kWidth>([&](auto n) INLINE_LAMBDA {
      if (n < columns) Vector::store(to + (j + n) * block, m[n]);
    });
  }
}
