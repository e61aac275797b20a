// Bit rows: counting without any instruction-set flag, and window counts as bit planes.
#pragma once

#include <cstdint>
#include <vector>

#include "workload.h"

namespace sparsetrain::accel {

// SWAR population count (Hacker's Delight, 5-1): sums in ever wider fields, the last by a multiply.
inline int64_t count_bits(uint64_t v) {
  v -= (v >> 1) & 0x5555555555555555u;
  v = (v & 0x3333333333333333u) + ((v >> 2) & 0x3333333333333333u);
  v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int64_t>((v * 0x0101010101010101u) >> 56);
}

// Bits of the low half plus twice those of the high half: the multiply that adds up the bytes takes
// the high ones twice. The sum is at most 96, so no byte carries into the next.
inline int64_t count_packed(uint64_t v) {
  v -= (v >> 1) & 0x5555555555555555u;
  v = (v & 0x3333333333333333u) + ((v >> 2) & 0x3333333333333333u);
  v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int64_t>((v * 0x0101010102020202u) >> 56);
}

// Bits [begin, end) of word i of a row.
inline uint64_t range_word(int64_t i, int64_t begin, int64_t end) {
  const int64_t low = begin - 64 * i, high = end - 64 * i;
  if (high <= 0 || low >= 64) return 0;
  const uint64_t from = low <= 0 ? ~uint64_t{0} : ~uint64_t{0} << low;
  const uint64_t to = high >= 64 ? ~uint64_t{0} : ~(~uint64_t{0} << high);
  return from & to;
}

inline int64_t count_range(const uint64_t* row, int64_t begin, int64_t end) {
  int64_t count = 0;
  for (int64_t i = begin / 64; i * 64 < end; ++i)
    count += count_bits(row[i] & range_word(i, begin, end));
  return count;
}

// Numbers in [0, limit], one a column, as bit planes: plane b of column q is bit b of the number.
// sum over columns of (row bit) * number = sum over b of 2^b popcount(row & plane b).
class Planes {
 public:
  Planes(int64_t columns, int64_t limit) : words_((columns + 63) / 64) {
    while ((int64_t{1} << depth_) <= limit) ++depth_;
    packed_ = depth_ == 2 && columns <= 32;
  }
  int64_t words() const { return words_; }
  int64_t depth() const { return depth_; }
  int64_t size() const { return words_ * depth_; }  // words of one row's planes

  void clear(uint64_t* planes) const {
    for (int64_t i = 0; i < size(); ++i) planes[i] = 0;
  }
  void set(uint64_t* planes, int64_t column, int64_t number) const {
    if (packed_) {
      const auto n = static_cast<uint64_t>(number);
      planes[0] |= ((n & 1) | (n >> 1) << 32) << column;
      return;
    }
    for (int64_t b = 0; b < depth_; ++b)
      planes[b * words_ + column / 64] |= static_cast<uint64_t>((number >> b) & 1) << (column % 64);
  }
  int64_t dot(const uint64_t* row, const uint64_t* planes) const {
    if (packed_) return count_packed((row[0] | row[0] << 32) & planes[0]);
    if (words_ == 1 && depth_ == 2)
      return count_bits(row[0] & planes[0]) + 2 * count_bits(row[0] & planes[1]);
    int64_t sum = 0;
    for (int64_t b = 0; b < depth_; ++b)
      for (int64_t i = 0; i < words_; ++i) sum += count_bits(row[i] & planes[b * words_ + i]) << b;
    return sum;
  }

 private:
  int64_t words_, depth_ = 0;
  bool packed_;  // both planes of up to 32 columns share a word
};

// Window counts of a bit row of width s.W: for output column q in [0, Q), the set bits among
// columns q * stride + t * dilation - pad that lie in [begin, end). Planes must have been made for
// (Q, S).
void window_planes(const ConvShape& s, const uint64_t* row, int64_t begin, int64_t end,
                   const Planes& shape, uint64_t* planes);

// Bits drawn independently with the layer's densities, a pure function of the seed; a mask of its
// own only when its density is not x's.
Trace draw(const Layer& layer, uint64_t seed);

// Bits of every element set: what a machine without skipping computes on.
Bitmap all_ones(int64_t images, int64_t channels, int64_t height, int64_t width);

// Mean over (image, row, column) of the variance over channels of x's window counts.
double window_variance(const Bitmap& x, const ConvShape& shape);

// Counts over channels of a trace, for the closed form.
Maps maps_of(const Trace& trace, const ConvShape& shape);

}  // namespace sparsetrain::accel
