// Counts of nonzeros and bits of a tensor in one pass over memory, in the order in which it is
// stored: recording costs one read of the tensor.
#include "nonzero_maps.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace sparsetrain::accel {
namespace {

// Calls f with a 0 of the unsigned type that has `item_bytes` bytes.
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

// Counts of one image, before they enter a NonzeroMaps.
struct ImageCounts {
  int32_t* map;                        // [height, width]
  int64_t* channels;                   // [channels], summed over images
  std::vector<int64_t> sums, squares;  // [height]: over channels, of a row's number of nonzeros
};

// For channels-last tensors: the channels of a pixel are contiguous.
template <class T>
void count_pixels(const char* image, const View& v, std::vector<int32_t>* row, ImageCounts* out) {
  const int shift = v.is_float ? 1 : 0;
  const auto [images, channels, height, width] = v.shape;
  for (int64_t h = 0; h < height; ++h) {
    std::fill(row->begin(), row->end(), 0);
    int32_t* __restrict counts = row->data();
    for (int64_t w = 0; w < width; ++w) {
      const T* __restrict in =
          reinterpret_cast<const T*>(image + h * v.strides[2] + w * v.strides[3]);
      int32_t sum = 0;
      for (int64_t c = 0; c < channels; ++c) {
        const int32_t set = nonzero(in[c], shift);
        counts[c] += set;
        sum += set;
      }
      out->map[h * width + w] = sum;
    }
    for (int64_t c = 0; c < channels; ++c) {
      out->channels[c] += counts[c];
      out->sums[static_cast<size_t>(h)] += counts[c];
      out->squares[static_cast<size_t>(h)] += int64_t{counts[c]} * counts[c];
    }
  }
}

// For any other layout: row by row within each channel. kDense: the columns of a row are
// contiguous.
template <class T, bool kDense>
void count_rows(const char* image, const View& v, ImageCounts* out) {
  const int shift = v.is_float ? 1 : 0;
  const auto [images, channels, height, width] = v.shape;
  const int64_t step = kDense ? static_cast<int64_t>(sizeof(T)) : v.strides[3];
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t h = 0; h < height; ++h) {
      const char* __restrict in = image + c * v.strides[1] + h * v.strides[2];
      int32_t* __restrict map = out->map + h * width;
      int32_t sum = 0;
      for (int64_t w = 0; w < width; ++w) {
        const int32_t set = nonzero(*reinterpret_cast<const T*>(in + w * step), shift);
        map[w] += set;
        sum += set;
      }
      out->channels[c] += sum;
      out->sums[static_cast<size_t>(h)] += sum;
      out->squares[static_cast<size_t>(h)] += int64_t{sum} * sum;
    }
  }
}

template <class T>
NonzeroMaps maps_of_words(const View& v) {
  const auto [images, channels, height, width] = v.shape;
  NonzeroMaps o;
  o.map.assign(static_cast<size_t>(images * height * width), 0);
  o.channels.assign(static_cast<size_t>(channels), 0);
  const auto item = static_cast<int64_t>(sizeof(T));
  std::vector<int32_t> row(static_cast<size_t>(channels));
  for (int64_t n = 0; n < images; ++n) {
    const char* image = v.data + n * v.strides[0];
    const std::vector<int64_t> zeros(static_cast<size_t>(height), 0);
    ImageCounts counts{o.map.data() + n * height * width, o.channels.data(), zeros, zeros};
    if (v.strides[1] == item && channels > 1)
      count_pixels<T>(image, v, &row, &counts);
    else if (v.strides[3] == item)
      count_rows<T, true>(image, v, &counts);
    else
      count_rows<T, false>(image, v, &counts);
    for (size_t h = 0; h < zeros.size(); ++h) {
      const double count = static_cast<double>(channels);
      const double mean = static_cast<double>(counts.sums[h]) / count;
      o.row_nnz_var += std::max(0.0, static_cast<double>(counts.squares[h]) / count - mean * mean);
    }
  }
  if (images * height > 0) o.row_nnz_var /= static_cast<double>(images * height);
  return o;
}

// Up to 64 columns as bits. One multiplication turns eight bytes of 0 or 1 into eight bits: it
// moves byte i to bit 56 + i, and no two bits of the product coincide, so there are no carries.
template <class T>
uint64_t pack_word(const char* in, int64_t step, int64_t columns, int shift) {
  std::array<uint8_t, 64> set{};
  for (int64_t w = 0; w < columns; ++w)
    set[static_cast<size_t>(w)] =
        static_cast<uint8_t>(nonzero(*reinterpret_cast<const T*>(in + w * step), shift));
  uint64_t bits = 0;
  for (size_t i = 0; i * 8 < static_cast<size_t>(columns); ++i) {
    uint64_t bytes = 0;  // little-endian, like every machine that PyTorch runs on
    std::memcpy(&bytes, set.data() + 8 * i, sizeof bytes);
    bits |= bytes * 0x0102040810204080u >> 56 << (8 * i);
  }
  return bits;
}

}  // namespace

NonzeroMaps nonzero_maps(const View& v) {
  return with_word(v.item_bytes, [&](auto word) { return maps_of_words<decltype(word)>(v); });
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
      for (int64_t w = 0; w < bits.width; w += 64)
        bits.words[static_cast<size_t>(row * words + w / 64)] = pack_word<decltype(word)>(
            in + w * v.strides[3], v.strides[3], std::min<int64_t>(64, bits.width - w), shift);
    }
  });
  return bits;
}

}  // namespace sparsetrain::accel
