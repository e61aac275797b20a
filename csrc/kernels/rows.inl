// The row operations of rows.h. In each, one nonzero meets only the taps that land inside the
// output.
#pragma once

namespace sparsetrain {
namespace rows_detail {

// One SRC row operation: a compressed input row times a kernel row, added to an output row.
template <class T>
void src(const ConvShape& s, const T* value, const int32_t* column, int32_t count, const T* w,
         T* y) {
  const int64_t Q = s.Q();
  for (int32_t i = 0; i < count; ++i) {
    for (int64_t tap = 0; tap < s.S; ++tap) {
      const int64_t scaled = column[i] + s.pad_w - tap * s.dilation_w;
      if (scaled < 0) break;  // scaled only falls as tap grows
      const int64_t q = scaled / s.stride_w;
      if (q < Q && q * s.stride_w == scaled) y[q] += value[i] * w[tap];
    }
  }
}

// One MSRC row operation: a compressed dy row times the rotated kernel row, added to a dx row.
template <class T>
void msrc(const ConvShape& s, const T* value, const int32_t* column, int32_t count, const T* w,
          T* dx) {
  for (int32_t i = 0; i < count; ++i) {
    for (int64_t tap = 0; tap < s.S; ++tap) {
      const int64_t w_in = column[i] * s.stride_w - s.pad_w + tap * s.dilation_w;
      if (w_in >= s.W) break;  // w_in only grows with tap
      if (w_in >= 0) dx[w_in] += value[i] * w[tap];
    }
  }
}

// One OSRC row operation for one tap: the dot product of a compressed dy row and a shifted x row.
template <class T>
double osrc(const ConvShape& s, const T* value, const int32_t* column, int32_t count, int64_t tap,
            const T* x, int64_t x_stride) {
  double sum = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int64_t w_in = column[i] * s.stride_w - s.pad_w + tap * s.dilation_w;
    if (w_in >= 0 && w_in < s.W) sum += static_cast<double>(value[i] * x[w_in * x_stride]);
  }
  return sum;
}

}  // namespace rows_detail

template <class T>
void forward_rows(const ConvShape& s, Rows<T> x, const T* w, const T* bias, int64_t first,
                  int64_t last, T* y) {
  const int64_t P = s.P(), Q = s.Q(), c_group = s.C / s.groups, k_group = s.K / s.groups;
  for (int64_t plane = first; plane < last; ++plane) {
    const int64_t n = plane / s.K, k = plane % s.K, c0 = k / k_group * c_group;
    for (int64_t p = 0; p < P; ++p) {
      T* row_y = y + (plane * P + p) * Q;
      for (int64_t q = 0; q < Q; ++q) row_y[q] = bias ? bias[k] : T(0);
      for (int64_t c = 0; c < c_group; ++c) {
        for (int64_t r = 0; r < s.R; ++r) {
          const int64_t h = p * s.stride_h - s.pad_h + r * s.dilation_h;
          if (h < 0 || h >= s.H) continue;
          const int64_t row = (n * s.C + c0 + c) * s.H + h;
          rows_detail::src(s, x.value + row * x.width, x.column + row * x.width, x.count[row],
                           w + ((k * c_group + c) * s.R + r) * s.S, row_y);
        }
      }
    }
  }
}

template <class T>
void grad_input_rows(const ConvShape& s, Rows<T> dy, const T* w, int64_t first, int64_t last,
                     T* dx) {
  const int64_t P = s.P(), c_group = s.C / s.groups, k_group = s.K / s.groups;
  for (int64_t plane = first; plane < last; ++plane) {
    const int64_t n = plane / s.C, c = plane % s.C, k0 = c / c_group * k_group;
    for (int64_t h = 0; h < s.H; ++h) {
      T* row_dx = dx + (plane * s.H + h) * s.W;
      for (int64_t i = 0; i < s.W; ++i) row_dx[i] = T(0);
      for (int64_t k = k0; k < k0 + k_group; ++k) {
        for (int64_t r = 0; r < s.R; ++r) {
          const int64_t scaled = h + s.pad_h - r * s.dilation_h;
          if (scaled < 0 || scaled % s.stride_h != 0 || scaled / s.stride_h >= P) continue;
          const int64_t row = (n * s.K + k) * P + scaled / s.stride_h;
          rows_detail::msrc(s, dy.value + row * dy.width, dy.column + row * dy.width, dy.count[row],
                            w + ((k * c_group + c % c_group) * s.R + r) * s.S, row_dx);
        }
      }
    }
  }
}

template <class T>
void grad_weight_rows(const ConvShape& s, Rows<T> dy, Dense<T> x, int64_t first, int64_t last,
                      T* dw) {
  const int64_t P = s.P(), c_group = s.C / s.groups, k_group = s.K / s.groups;
  for (int64_t plane = first; plane < last; ++plane) {
    const int64_t k = plane / c_group, c = k / k_group * c_group + plane % c_group;
    for (int64_t r = 0; r < s.R; ++r) {
      for (int64_t tap = 0; tap < s.S; ++tap) {
        double sum = 0;
        for (int64_t n = 0; n < s.N; ++n) {
          for (int64_t p = 0; p < P; ++p) {
            const int64_t h = p * s.stride_h - s.pad_h + r * s.dilation_h;
            if (h < 0 || h >= s.H) continue;
            const int64_t row = (n * s.K + k) * P + p;
            const T* row_x = x.data + n * x.stride[0] + c * x.stride[1] + h * x.stride[2];
            sum += rows_detail::osrc(s, dy.value + row * dy.width, dy.column + row * dy.width,
                                     dy.count[row], tap, row_x, x.stride[3]);
          }
        }
        dw[(plane * s.R + r) * s.S + tap] = static_cast<T>(sum);
      }
    }
  }
}

}  // namespace sparsetrain
