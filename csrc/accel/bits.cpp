// Window counts, random traces, and the maps of a trace.
#include "bits.h"

#include <algorithm>

namespace sparsetrain::accel {
namespace {

// The finalizer of SplitMix64 (Steele, Lea and Flood 2014), applied to a counter: a random number
// that depends only on seed and position.
uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

Bitmap draw_bits(int64_t images, int64_t channels, int64_t height, int64_t width, double density,
                 uint64_t seed) {
  Bitmap b{images, channels, height, width, {}};
  const int64_t words = b.row_words(), rows = images * channels * height;
  b.words.assign(static_cast<size_t>(rows * words), 0);
  const auto limit = static_cast<uint64_t>(density * 9007199254740992.0);  // 2^53
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t w = 0; w < width; ++w)
      if ((mix(seed ^ mix(static_cast<uint64_t>(row * width + w))) >> 11) < limit)
        b.words[static_cast<size_t>(row * words + w / 64)] |= uint64_t{1} << (w % 64);
  return b;
}

// The members of Maps that one operand fills.
struct OperandCounts {
  std::vector<int32_t> map;
  std::vector<int64_t> channels;
  double row_var = 0;
};

// Variance over channels of a quantity, from its sum and its sum of squares over channels.
double variance(double sum, double squares, int64_t channels) {
  const double mean = sum / static_cast<double>(channels);
  return std::max(0.0, squares / static_cast<double>(channels) - mean * mean);
}

OperandCounts count_operand(const Bitmap& b) {
  OperandCounts counts;
  counts.map.assign(static_cast<size_t>(b.images * b.height * b.width), 0);
  counts.channels.assign(static_cast<size_t>(b.channels), 0);
  for (int64_t n = 0; n < b.images; ++n) {
    for (int64_t h = 0; h < b.height; ++h) {
      double sum = 0, squares = 0;
      int32_t* map = counts.map.data() + (n * b.height + h) * b.width;
      for (int64_t c = 0; c < b.channels; ++c) {
        const uint64_t* row = b.row(n, c, h);
        for (int64_t w = 0; w < b.width; ++w)
          map[w] += static_cast<int32_t>((row[w / 64] >> (w % 64)) & 1);
        const int64_t count = count_range(row, 0, b.width);
        counts.channels[static_cast<size_t>(c)] += count;
        sum += static_cast<double>(count);
        squares += static_cast<double>(count * count);
      }
      counts.row_var += variance(sum, squares, b.channels);
    }
  }
  counts.row_var /= static_cast<double>(b.images * b.height);
  return counts;
}

}  // namespace

void window_planes(const ConvShape& s, const uint64_t* row, int64_t begin, int64_t end,
                   const Planes& layout, uint64_t* planes) {
  layout.clear(planes);
  const int64_t q_count = s.Q();
  for (int64_t q = 0; q < q_count; ++q) {
    int64_t set = 0;
    for (int64_t t = 0; t < s.S; ++t) {
      const int64_t w = q * s.stride_w + t * s.dilation_w - s.pad_w;
      if (w >= begin && w < end) set += static_cast<int64_t>((row[w / 64] >> (w % 64)) & 1);
    }
    if (set) layout.set(planes, q, set);
  }
}

Trace draw(const Layer& layer, uint64_t seed) {
  const ConvShape& s = layer.shape;
  Trace t;
  t.x = draw_bits(s.N, s.C, s.H, s.W, layer.x_density, mix(seed));
  t.dy = draw_bits(s.N, s.K, s.P(), s.Q(), layer.dy_density, mix(seed + 1));
  if (layer.mask_density != layer.x_density)
    t.mask = draw_bits(s.N, s.C, s.H, s.W, layer.mask_density, mix(seed + 2));
  return t;
}

Bitmap all_ones(int64_t images, int64_t channels, int64_t height, int64_t width) {
  Bitmap b{images, channels, height, width, {}};
  for (int64_t row = 0; row < images * channels * height; ++row)
    for (int64_t i = 0; i < b.row_words(); ++i) b.words.push_back(range_word(i, 0, width));
  return b;
}

double window_variance(const Bitmap& x, const ConvShape& s) {
  const int64_t q_count = s.Q();
  double total = 0;
  std::vector<double> sum(static_cast<size_t>(q_count)), squares(static_cast<size_t>(q_count));
  for (int64_t n = 0; n < x.images; ++n) {
    for (int64_t h = 0; h < x.height; ++h) {
      std::fill(sum.begin(), sum.end(), 0.0);
      std::fill(squares.begin(), squares.end(), 0.0);
      for (int64_t c = 0; c < x.channels; ++c) {
        const uint64_t* row = x.row(n, c, h);
        for (int64_t q = 0; q < q_count; ++q) {
          int64_t set = 0;
          for (int64_t t = 0; t < s.S; ++t) {
            const int64_t w = q * s.stride_w + t * s.dilation_w - s.pad_w;
            if (w >= 0 && w < x.width) set += static_cast<int64_t>((row[w / 64] >> (w % 64)) & 1);
          }
          sum[static_cast<size_t>(q)] += static_cast<double>(set);
          squares[static_cast<size_t>(q)] += static_cast<double>(set * set);
        }
      }
      for (int64_t q = 0; q < q_count; ++q)
        total += variance(sum[static_cast<size_t>(q)], squares[static_cast<size_t>(q)], x.channels);
    }
  }
  return total / static_cast<double>(x.images * x.height * q_count);
}

Maps maps_of(const Trace& trace, const ConvShape& shape) {
  OperandCounts x = count_operand(trace.x), dy = count_operand(trace.dy);
  return {
      trace.x.images,         std::move(x.map), std::move(dy.map), std::move(x.channels),
      std::move(dy.channels), x.row_var,        dy.row_var,        window_variance(trace.x, shape)};
}

}  // namespace sparsetrain::accel
