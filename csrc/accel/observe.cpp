// One pass over memory in the order it lies: the cost of recording is reading the tensor once.
#include "observe.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace sparsetrain::accel {
namespace {

// Calls f(zero value of the word type) with the type that has `item_bytes` bytes.
template <class F>
auto with_word(int64_t item_bytes, F f) {
  switch (item_bytes) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    case 8:
      return f(uint64_t{});
    default:
      throw std::invalid_argument(
          "sparsetrain.accel: expected elements to have 1, 2, 4 or 8 bytes, got " +
          std::to_string(item_bytes));
  }
}

template <class T>
int32_t nonzero(T word, int shift) {
  return static_cast<T>(word << shift) != 0;
}

// Adds up one (n, h): map[w] over channels, rows[c] over columns.
template <class T>
void count_row(const char* row, const View& v, int32_t* __restrict map, int32_t* __restrict rows) {
  const int shift = v.is_float ? 1 : 0;
  const int64_t channels = v.shape[1], width = v.shape[3];
  const auto item = static_cast<int64_t>(sizeof(T));
  if (v.strides[1] == item && channels > 1) {  // channels_last
    for (int64_t w = 0; w < width; ++w) {
      const T* __restrict in = reinterpret_cast<const T*>(row + w * v.strides[3]);
      int32_t sum = 0;
      for (int64_t c = 0; c < channels; ++c) {
        const int32_t set = nonzero(in[c], shift);
        rows[c] += set;
        sum += set;
      }
      map[w] += sum;
    }
  } else if (v.strides[3] == item) {
    for (int64_t c = 0; c < channels; ++c) {
      const T* __restrict in = reinterpret_cast<const T*>(row + c * v.strides[1]);
      int32_t sum = 0;
      for (int64_t w = 0; w < width; ++w) {
        const int32_t set = nonzero(in[w], shift);
        map[w] += set;
        sum += set;
      }
      rows[c] += sum;
    }
  } else {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t w = 0; w < width; ++w) {
        const char* in = row + c * v.strides[1] + w * v.strides[3];
        const int32_t set = nonzero(*reinterpret_cast<const T*>(in), shift);
        map[w] += set;
        rows[c] += set;
      }
    }
  }
}

}  // namespace

Observation observe(const View& v) {
  const auto [images, channels, height, width] = v.shape;
  Observation o;
  o.map.assign(static_cast<size_t>(images * height * width), 0);
  o.channels.assign(static_cast<size_t>(channels), 0);
  std::vector<int32_t> rows(static_cast<size_t>(channels));
  with_word(v.item_bytes, [&, n_images = images, n_rows = height, row_width = width](auto word) {
    for (int64_t i = 0; i < n_images * n_rows; ++i) {
      const int64_t n = i / n_rows, h = i % n_rows;
      std::fill(rows.begin(), rows.end(), 0);
      count_row<decltype(word)>(v.data + n * v.strides[0] + h * v.strides[2], v,
                                o.map.data() + i * row_width, rows.data());
      double sum = 0, squares = 0;
      for (size_t c = 0; c < rows.size(); ++c) {
        o.channels[c] += rows[c];
        sum += rows[c];
        squares += static_cast<double>(rows[c]) * rows[c];
      }
      const double count = static_cast<double>(rows.size()), mean = sum / count;
      o.row_nnz_var += std::max(0.0, squares / count - mean * mean);
    }
  });
  if (images * height > 0) o.row_nnz_var /= static_cast<double>(images * height);
  return o;
}

Bitmap pack(const View& v, int64_t images) {
  Bitmap bits{std::min(images, v.shape[0]), v.shape[1], v.shape[2], v.shape[3], {}};
  const int64_t words = bits.row_words(), rows = bits.images * bits.channels * bits.height;
  bits.words.assign(static_cast<size_t>(rows * words), 0);
  const int shift = v.is_float ? 1 : 0;
  with_word(v.item_bytes, [&](auto word) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t n = row / (bits.channels * bits.height);
      const int64_t c = row / bits.height % bits.channels, h = row % bits.height;
      const char* in = v.data + n * v.strides[0] + c * v.strides[1] + h * v.strides[2];
      uint64_t* out = bits.words.data() + row * words;
      for (int64_t w = 0; w < bits.width; ++w) {
        const auto value = *reinterpret_cast<const decltype(word)*>(in + w * v.strides[3]);
        out[w / 64] |= static_cast<uint64_t>(nonzero(value, shift)) << (w % 64);
      }
    }
  });
  return bits;
}

}  // namespace sparsetrain::accel
