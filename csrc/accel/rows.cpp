// Stride, padding and dilation as arithmetic on row and column indices.
#include "rows.h"

#include <algorithm>

namespace sparsetrain::accel {
namespace {

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

int64_t count_headers(int64_t begin, int64_t end, int64_t reach) {
  return begin < end ? (end - 1) / reach - begin / reach + 1 : 0;
}

}  // namespace

void valid_rows(const ConvShape& s, Pass pass, int64_t output_row, std::vector<RowUse>* uses) {
  uses->clear();
  for (int64_t r = 0; r < s.R; ++r) {
    if (pass != Pass::kGradInput) {
      const int64_t h = output_row * s.stride_h + r * s.dilation_h - s.pad_h;
      if (h >= 0 && h < s.H) uses->push_back({r, h});
    } else {
      const int64_t scaled = output_row + s.pad_h - r * s.dilation_h;
      if (scaled < 0 || scaled % s.stride_h != 0) continue;
      if (scaled / s.stride_h < s.P()) uses->push_back({r, scaled / s.stride_h});
    }
  }
}

int64_t taps(const ConvShape& s, Pass pass, int64_t in, int64_t out_begin, int64_t out_end) {
  int64_t count = 0;
  for (int64_t t = 0; t < s.S; ++t) {
    int64_t out = 0;
    if (pass != Pass::kGradInput) {
      const int64_t scaled = in + s.pad_w - t * s.dilation_w;
      if (scaled < 0 || scaled % s.stride_w != 0) continue;
      out = scaled / s.stride_w;
    } else {
      out = in * s.stride_w + t * s.dilation_w - s.pad_w;
    }
    count += out >= out_begin && out < out_end;
  }
  return count;
}

int64_t stored_segments(int64_t width, const Config& chip) {
  return chip.skips_zeros ? ceil_div(width, int64_t{1} << chip.offset_bits) : 0;
}

std::vector<Segment> segments(const ConvShape& s, Pass pass, const Config& chip) {
  const bool grad_input = pass == Pass::kGradInput;
  const int64_t out_width = grad_input ? s.W : s.Q(), in_width = grad_input ? s.Q() : s.W;
  const int64_t span = (s.S - 1) * s.dilation_w;
  const int64_t reach = int64_t{1} << chip.offset_bits;
  std::vector<Segment> result;
  for (int64_t begin = 0; begin < out_width; begin += chip.register_values) {
    Segment segment{};
    segment.out_begin = begin;
    segment.out_end = std::min(out_width, begin + chip.register_values);
    // The first and the last segment also stream the operand columns that reach no output. A
    // compressed row is one stream, so values that are not needed are read and dropped.
    const int64_t low = grad_input ? -floor_div(-(begin + s.pad_w - span), s.stride_w)
                                   : begin * s.stride_w - s.pad_w;
    const int64_t high = grad_input ? floor_div(segment.out_end - 1 + s.pad_w, s.stride_w)
                                    : (segment.out_end - 1) * s.stride_w + span - s.pad_w;
    segment.in_begin = begin == 0 ? 0 : std::clamp<int64_t>(low, 0, in_width);
    segment.in_end =
        segment.out_end == out_width ? in_width : std::clamp<int64_t>(high + 1, 0, in_width);
    segment.in_end = std::max(segment.in_end, segment.in_begin);
    segment.headers = chip.skips_zeros ? count_headers(segment.in_begin, segment.in_end, reach) : 0;
    for (int64_t in = segment.in_begin; in < segment.in_end; ++in) {
      const int64_t t = taps(s, pass, in, segment.out_begin, segment.out_end);
      segment.used += t > 0;
      segment.taps += t;
    }
    result.push_back(segment);
  }
  return result;
}

}  // namespace sparsetrain::accel
