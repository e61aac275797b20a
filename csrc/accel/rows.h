// The arithmetic of stride, padding and dilation: which kernel rows reach an output row, which taps
// reach an output column, and how rows too long for a PE's register are cut.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"
#include "workload.h"

namespace sparsetrain::accel {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One operand row that contributes to an output row, through kernel row r.
struct RowUse {
  int64_t r, row;
};

// Forward: the rows of x under output row p (Pass::kForward, also the pairs of kGradWeight).
// kGradInput: the rows of dy over row h of dx. In order of r.
void valid_rows(const ConvShape& shape, Pass pass, int64_t output_row, std::vector<RowUse>* uses);

// A stretch of an output row that one task computes, and the operand columns it streams.
struct Segment {
  int64_t out_begin, out_end;  // at most register_values wide
  int64_t in_begin, in_end;    // the whole row where it is not cut
  int64_t headers;             // stored segments of the operand that [in_begin, in_end) touches
  int64_t used;                // operand columns that reach the segment at all
  int64_t taps;                // sum of tap counts over the operand columns

  int64_t width() const { return out_end - out_begin; }
};

// Forward and kGradWeight: outputs are columns of y, operands columns of x. kGradInput: outputs are
// columns of dx, operands columns of dy.
std::vector<Segment> segments(const ConvShape& shape, Pass pass, const Config& chip);

// Taps of operand column `in` that land in [out_begin, out_end).
int64_t taps(const ConvShape& shape, Pass pass, int64_t in, int64_t out_begin, int64_t out_end);

// Stored segments of a row of `width` values: offsets of offset_bits reach 2^offset_bits columns.
int64_t stored_segments(int64_t width, const Config& chip);

// Bytes of a row as stored, or of `headers` pieces of it as streamed, with `nonzeros` values. The
// dense twin stores plain rows: `columns` values.
inline double row_bytes(double nonzeros, int64_t columns, int64_t headers, const Config& chip) {
  const double bits = chip.skips_zeros
                          ? static_cast<double>(headers * chip.row_header_bits) +
                                nonzeros * static_cast<double>(chip.value_bits + chip.offset_bits)
                          : static_cast<double>(columns * chip.value_bits);
  return bits / 8;
}

}  // namespace sparsetrain::accel
