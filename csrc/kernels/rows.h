// The plain sparse convolution: all three passes as the paper's 1-D row operations over compressed
// rows. Any kernel size, stride, padding, dilation and groups. Every output element is computed by
// one range in one order, so results do not depend on how ranges are dealt to threads.
#pragma once

#include <cstdint>

#include "../shape.h"

namespace sparsetrain {

// A dense 4-D tensor to be read: element (a,b,i,j) is data[a*stride[0] + ... + j*stride[3]].
template <class T>
struct Dense {
  const T* data;
  int64_t stride[4];
};

// Compressed rows: row i holds count[i] nonzeros, their columns ascending, at [i * width, ...).
template <class T>
struct Rows {
  T* value;
  int32_t* column;
  int32_t* count;
  int64_t width;
};

// Compresses rows [first, last) of x [A,B,height,width], row (a,b,i) -> (a * B + b) * height + i.
// Zeros of either sign are dropped; NaN is a nonzero.
template <class T>
void compress_rows(Dense<T> x, int64_t B, int64_t height, int64_t first, int64_t last,
                   Rows<T> rows) {
  for (int64_t row = first; row < last; ++row) {
    const int64_t a = row / (B * height), b = row / height % B, i = row % height;
    const T* source = x.data + a * x.stride[0] + b * x.stride[1] + i * x.stride[2];
    T* value = rows.value + row * rows.width;
    int32_t* column = rows.column + row * rows.width;
    int32_t count = 0;
    for (int64_t j = 0; j < rows.width; ++j) {
      const T v = source[j * x.stride[3]];
      value[count] = v;  // overwritten by the next one unless it counts: no branch to mispredict
      column[count] = static_cast<int32_t>(j);
      count += v != T(0);
    }
    rows.count[row] = count;
  }
}

// Forward: planes [first, last) of y [N,K,P,Q] (plane n * K + k), contiguous, from the rows of x;
// bias [K] or nullptr. w contiguous.
template <class T>
void forward_rows(const ConvShape& s, Rows<T> x, const T* w, const T* bias, int64_t first,
                  int64_t last, T* y);

// grad_input: planes [first, last) of dx [N,C,H,W] (plane n * C + c), contiguous, from the rows of
// dy.
template <class T>
void grad_input_rows(const ConvShape& s, Rows<T> dy, const T* w, int64_t first, int64_t last,
                     T* dx);

// grad_weight: planes [first, last) of dw [K,C/groups,R,S] (plane k * C/groups + c), contiguous,
// from the rows of dy and dense x. Sums in double.
template <class T>
void grad_weight_rows(const ConvShape& s, Rows<T> dy, Dense<T> x, int64_t first, int64_t last,
                      T* dw);

}  // namespace sparsetrain

#include "rows.inl"
