// The arithmetic of stride, padding and dilation: the kernel rows that reach an output row, the
// taps that reach an output column, and the segments of rows that are too long for a PE's
// registers. Shared by compiler, simulator and closed form.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"
#include "workload.h"

namespace sparsetrain::accel {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// An operand row that contributes to an output row through kernel row r.
struct RowUse {
  int64_t r, row;
};

// Replaces `uses` by the operand rows of an output row, in the order of r. Forward and kGradWeight:
// the rows of x that row p of y meets. kGradInput: the rows of dy that row h of dx meets.
void valid_rows(const ConvShape& shape, Pass pass, int64_t output_row, std::vector<RowUse>* uses);

// The part of an output row that one task computes, and the operand columns that it streams.
struct Segment {
  int64_t out_begin, out_end;  // at most register_values wide
  int64_t in_begin, in_end;    // the whole row if the row is not cut
  int64_t headers;             // stored segments of the operand that overlap [in_begin, in_end)
  int64_t used;                // operand columns that reach an output of the segment
  int64_t taps;                // pairs (operand column, tap) that reach an output of the segment

  int64_t width() const { return out_end - out_begin; }
};

// The segments of an output row, from left to right. Forward and kGradWeight: outputs are columns
// of y and operands are columns of x. kGradInput: outputs are columns of dx, operands columns of
// dy.
std::vector<Segment> segments(const ConvShape& shape, Pass pass, const Config& chip);

// The number of taps with which operand column `in` reaches outputs in [out_begin, out_end).
int64_t taps(const ConvShape& shape, Pass pass, int64_t in, int64_t out_begin, int64_t out_end);

// Segments in which a compressed row of `width` values is stored: an offset of offset_bits reaches
// 2^offset_bits columns. 0 on the dense twin, which stores plain rows.
int64_t stored_segments(int64_t width, const Config& chip);

// Bytes of a compressed row of `headers` segments and `nonzeros` values, stored or streamed. On the
// dense twin: bytes of a plain row of `columns` values.
inline double row_bytes(double nonzeros, int64_t columns, int64_t headers, const Config& chip) {
  const double bits = chip.skips_zeros
                          ? static_cast<double>(headers * chip.row_header_bits) +
                                nonzeros * static_cast<double>(chip.value_bits + chip.offset_bits)
                          : static_cast<double>(columns * chip.value_bits);
  return bits / 8;
}

}  // namespace sparsetrain::accel
