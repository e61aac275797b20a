// Copies between tensors and the kernels' scratch, where the channels of a pixel are neighbors.
// NCHW is transposed and 16-bit storage is converted here. Included by all.inl.

// Prefetches the cache line at p. p may lie outside the tensor.
static INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
// Prefetches the `count` elements at p.
template <class T>
static INLINE void prefetch_span(const T* p, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < count; i += kLine) prefetch(p + i);
}

// Loads a whole vector. On AVX2 this is faster than a masked load of all lanes.
template <class T>
static INLINE Reg load_whole(const T* p) {
  if constexpr (std::is_same_v<T, Scalar>) return Vector::load(p);
  return Vector::load_first(p, Vector::kWidth);
}

// Loads a transposed matrix: lane i of m[j] becomes source[i * stride + j] for i < rows and j <
// columns, and 0 elsewhere. rows and columns are at most kWidth.
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

// The valid lanes of the next vector if `left` elements are left.
static INLINE int lanes_left(int64_t left) {
  return left < Vector::kWidth ? static_cast<int>(left) : Vector::kWidth;
}

// Whether the vectors of a result may be stored past the caches, which saves reading each cache
// line before it is overwritten. That is possible if elements need no conversion and vectors are
// aligned (at p and at multiples of `stride` elements from it). It pays if the result, of `bytes`
// bytes, is so large that its reader would not find it in a cache.
template <class T>
static INLINE bool may_stream(const T* p, int64_t stride, int64_t bytes) {
  constexpr int64_t kLargeBytes = int64_t{6} << 20;  // more than L2 and one core's share of L3
  constexpr size_t kVector = Vector::kWidth * sizeof(Scalar);
  return std::is_same_v<T, Scalar> && bytes >= kLargeBytes &&
         reinterpret_cast<uintptr_t>(p) % kVector == 0 && stride % Vector::kWidth == 0;
}

// Stores the first `lanes` lanes of a vector in a result, past the caches if `stream`
// (may_stream()).
template <class T>
static INLINE void put(T* p, Reg v, int lanes, bool stream) {
  if constexpr (std::is_same_v<T, Scalar>) {
    if (stream && lanes == Vector::kWidth) return Vector::stream(p, v);
  }
  Vector::store_first(p, v, lanes);
}

// Copies rows x width pixels of `channels` channels to a channels_last tensor. In `from`, pixels
// are `block` scalars apart and rows are `pitch` pixels apart. bytes: size of the whole tensor.
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

// Copies the same pixels to an NCHW tensor, whose rows of one channel follow each other. A block of
// kWidth pixels may span several rows, so that small images fill their vectors too.
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
      pixel[n] = from + (i * pitch + j) * block;  // repeats the last pixel beyond the end
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

// Copies `pixels` pixels of a tensor row to vectors that are `block` scalars apart: `lanes`
// channels (at most kWidth) of each; the other lanes become 0.
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
    if (pixels >= Vector::kWidth) {  // prefetches the next row, which is in another cache line then
      for (int c = 0; c < lanes; ++c) prefetch(from + j + pixels + c * channel_stride);
    }
    Reg m[Vector::kWidth];
    load_transposed(from + j, channel_stride, lanes, columns, m);
    unroll<Vector::kWidth>([&](auto n) INLINE_LAMBDA {
      if (n < columns) Vector::store(to + (j + n) * block, m[n]);
    });
  }
}
