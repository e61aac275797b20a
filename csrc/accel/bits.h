// Rows of bits: population counts in portable C++, and small numbers stored as bit planes. Used by
// the simulator, the compiler and the functions that turn tensors into traces and maps.
#pragma once

#include <cstdint>
#include <vector>

#include "workload.h"

namespace sparsetrain::accel {

// Set bits of a word. Population count by sums in ever wider fields, the last sum by a
// multiplication (Hacker's Delight, section 5-1). It needs no instruction-set flag.
inline int64_t count_bits(uint64_t v) {
  v -= (v >> 1) & 0x5555555555555555u;
  v = (v & 0x3333333333333333u) + ((v >> 2) & 0x3333333333333333u);
  v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int64_t>((v * 0x0101010101010101u) >> 56);
}

// Set bits of the low half plus twice the set bits of the high half. The final multiplication adds
// up the bytes and gives the four high bytes the weight 2. The sum is at most 32 + 2 * 32 = 96, so
// no byte carries into the next one.
inline int64_t count_packed(uint64_t v) {
  v -= (v >> 1) & 0x5555555555555555u;
  v = (v & 0x3333333333333333u) + ((v >> 2) & 0x3333333333333333u);
  v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int64_t>((v * 0x0101010102020202u) >> 56);
}

// The bits of word i of a row that belong to columns [begin, end).
inline uint64_t range_word(int64_t i, int64_t begin, int64_t end) {
  const int64_t low = begin - 64 * i, high = end - 64 * i;
  if (high <= 0 || low >= 64) return 0;
  const uint64_t from = low <= 0 ? ~uint64_t{0} : ~uint64_t{0} << low;
  const uint64_t to = high >= 64 ? ~uint64_t{0} : ~(~uint64_t{0} << high);
  return from & to;
}

// Set bits of a row in columns [begin, end).
inline int64_t count_range(const uint64_t* row, int64_t begin, int64_t end) {
  int64_t count = 0;
  for (int64_t i = begin / 64; i * 64 < end; ++i)
    count += count_bits(row[i] & range_word(i, begin, end));
  return count;
}

// Layout of numbers in [0, limit], one for each column, as bit planes: bit q of plane b is bit b of
// the number at column q. The sum over columns of (bit of a row) * (number) is then the sum over b
// of 2^b * popcount(row & plane b), which takes a few operations for 64 columns.
class Planes {
 public:
  Planes(int64_t columns, int64_t limit) : words_((columns + 63) / 64) {
    while ((int64_t{1} << depth_) <= limit) ++depth_;
    packed_ = depth_ == 2 && columns <= 32;
  }
  int64_t words() const { return words_; }
  int64_t depth() const { return depth_; }
  int64_t size() const { return words_ * depth_; }  // words that the planes of one row take

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
  // Sum over columns of (bit of `row`) * (number of `planes`).
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
  bool packed_;  // two planes of at most 32 columns share one word: plane 0 low, plane 1 high
};

// Writes the window counts of a row of s.W bits to `planes`. The window count of output column q is
// the number of set bits among columns q * stride + t * dilation - pad (t in [0, S)) that lie in
// [begin, end). `layout` must be Planes(Q, S).
void window_planes(const ConvShape& s, const uint64_t* row, int64_t begin, int64_t end,
                   const Planes& layout, uint64_t* planes);

// A trace of independent random bits with the layer's densities. It depends only on the layer and
// the seed. It has a separate mask only if the mask's density differs from that of x.
Trace draw(const Layer& layer, uint64_t seed);

// A bitmap with every bit set: the operand of a machine that skips nothing.
Bitmap all_ones(int64_t images, int64_t channels, int64_t height, int64_t width);

// Mean over (image, row, output column) of the variance over channels of the window counts of x.
double window_variance(const Bitmap& x, const ConvShape& shape);

// The maps of a trace's images: what the closed form needs of them.
Maps maps_of(const Trace& trace, const ConvShape& shape);

}  // namespace sparsetrain::accel
