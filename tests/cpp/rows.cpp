// The row kernels do exactly the multiplications that have a nonzero and a tap that lands.
#include "kernels/rows.h"

#include <vector>

#include "check.h"

namespace {

using sparsetrain::ConvShape;

int64_t multiplications = 0;

// A float that counts its multiplications.
struct Counted {
  float value = 0;
  Counted() = default;
  explicit Counted(double v) : value(static_cast<float>(v)) {}
  explicit operator double() const { return value; }
  Counted operator*(Counted other) const {
    ++multiplications;
    return Counted(double(value) * double(other.value));
  }
  Counted& operator+=(Counted other) {
    value += other.value;
    return *this;
  }
  bool operator!=(Counted other) const { return value != other.value; }
};

using Tensor = std::vector<Counted>;

// Every `step`-th element is nonzero; step 0: none.
Tensor sparse(int64_t n, int64_t step) {
  Tensor t(n);
  for (int64_t i = 0; step > 0 && i < n; i += step) t[i] = Counted(double(i % 7 + 1));
  return t;
}

struct RowStorage {
  Tensor value;
  std::vector<int32_t> column, count;
  sparsetrain::Rows<Counted> rows;
  RowStorage(const Tensor& x, int64_t A, int64_t B, int64_t height, int64_t width)
      : value(x.size()),
        column(x.size()),
        count(A * B * height),
        rows{value.data(), column.data(), count.data(), width} {
    sparsetrain::compress_rows<Counted>({x.data(), {B * height * width, height * width, width, 1}},
                                        B, height, 0, A * B * height, rows);
  }
};

// Counts by brute force over every output and tap, in each pass the products whose sparse operand
// is not 0: of x in the forward, of dy in both gradients.
struct Expected {
  int64_t forward = 0, gradient = 0;
};

Expected brute_force(const ConvShape& s, const Tensor& x, const Tensor& dy) {
  Expected e;
  const int64_t c_group = s.C / s.groups, k_group = s.K / s.groups;
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t k = 0; k < s.K; ++k)
      for (int64_t p = 0; p < s.P(); ++p)
        for (int64_t q = 0; q < s.Q(); ++q)
          for (int64_t c = k / k_group * c_group; c < (k / k_group + 1) * c_group; ++c)
            for (int64_t r = 0; r < s.R; ++r)
              for (int64_t t = 0; t < s.S; ++t) {
                const int64_t h = p * s.stride_h - s.pad_h + r * s.dilation_h;
                const int64_t w = q * s.stride_w - s.pad_w + t * s.dilation_w;
                if (h < 0 || h >= s.H || w < 0 || w >= s.W) continue;
                e.forward += x[((n * s.C + c) * s.H + h) * s.W + w].value != 0;
                e.gradient += dy[((n * s.K + k) * s.P() + p) * s.Q() + q].value != 0;
              }
  return e;
}

void check_counts(const ConvShape& s, int64_t x_step, int64_t dy_step) {
  const Tensor x = sparse(s.N * s.C * s.H * s.W, x_step);
  const Tensor dy = sparse(s.N * s.K * s.P() * s.Q(), dy_step);
  const Tensor w = sparse(s.K * (s.C / s.groups) * s.R * s.S, 1);
  const Expected expected = brute_force(s, x, dy);
  Tensor y(dy.size()), dx(x.size()), dw(w.size());
  const RowStorage x_rows(x, s.N, s.C, s.H, s.W), dy_rows(dy, s.N, s.K, s.P(), s.Q());

  multiplications = 0;
  sparsetrain::forward_rows<Counted>(s, x_rows.rows, w.data(), nullptr, 0, s.N * s.K, y.data());
  CHECK(multiplications == expected.forward);
  multiplications = 0;
  sparsetrain::grad_input_rows<Counted>(s, dy_rows.rows, w.data(), 0, s.N * s.C, dx.data());
  CHECK(multiplications == expected.gradient);
  multiplications = 0;
  sparsetrain::grad_weight_rows<Counted>(s, dy_rows.rows,
                                         {x.data(), {s.C * s.H * s.W, s.H * s.W, s.W, 1}}, 0,
                                         s.K * (s.C / s.groups), dw.data());
  CHECK(multiplications == expected.gradient);
}

}  // namespace

int main() {
  const ConvShape shapes[] = {
      {.N = 2, .C = 3, .H = 7, .W = 5, .K = 4, .R = 3, .S = 3, .pad_h = 1, .pad_w = 1},
      {.N = 1,
       .C = 4,
       .H = 9,
       .W = 8,
       .K = 6,
       .R = 3,
       .S = 2,
       .stride_h = 2,
       .stride_w = 3,
       .pad_h = 2,
       .pad_w = 1,
       .dilation_h = 2,
       .dilation_w = 1,
       .groups = 2},
      {.N = 3, .C = 2, .H = 4, .W = 6, .K = 2, .R = 1, .S = 1, .stride_h = 1, .stride_w = 2}};
  for (const ConvShape& s : shapes)
    for (const int64_t x_step : {0, 1, 3, 10})
      for (const int64_t dy_step : {0, 1, 4}) check_counts(s, x_step, dy_step);
  std::puts("rows: multiplications equal brute force");
}
