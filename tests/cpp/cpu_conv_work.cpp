// Tests that the CPU convolutions multiply nonzeros only, and each with exactly the taps that
// contribute to the result: a vector type that counts multiply-adds against a count over all
// nonzeros.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>

#include "check.h"
#include "cpu_conv_run.h"
#include "kernels/cpu/inline.h"

namespace sparsetrain::counting {

std::atomic<int64_t> multiply_adds = 0;  // each of a whole vector

using Number = float;
namespace plain {
#include "kernels/cpu/vector_scalar.inl"
}
struct Vector : plain::Vector {
  static Reg fma(Reg a, Reg b, Reg acc) {
    ++multiply_adds;
    return plain::Vector::fma(a, b, acc);
  }
};
// clang-format off: in this order
#include "kernels/cpu/unroll.inl"
#include "kernels/cpu/all.inl"
// clang-format on

const Kernels<float> kTable = make_table<float>("counting");

}  // namespace sparsetrain::counting

namespace {

using sparsetrain::ConvShape;
using sparsetrain::Pass;
using sparsetrain::testing::Tensor;

// Sets every `step`-th element to 1; none for step 0.
void fill(Tensor<float>& t, size_t step) {
  for (size_t i = 0; step > 0 && i < t.data.size(); i += step) t.data[i] = 1;
}

// The multiply-adds of one nonzero of source pixel (i, j): the slots of all pieces that cover the
// pixel, for every kernel row that contributes to an output row.
int64_t multiply_adds_of(const sparsetrain::ScatterPlan& plan, int64_t i, int64_t j) {
  int64_t rows = 0, slots = 0;
  for (int64_t out = 0; out < plan.out_height; ++out) {
    for (int64_t r = 0; r < plan.shape.R; ++r) rows += plan.source_row(out, r) == i;
  }
  for (int64_t index = 0; index < plan.pieces(); ++index) {
    const sparsetrain::Piece piece = plan.piece(index);
    for (int64_t n = 0; n < piece.count; ++n) {
      if (piece.first + n * piece.step == j) slots += piece.slots;
    }
  }
  return rows * slots * plan.blocks * plan.registers;
}

void check_scatter(const ConvShape& s, Pass pass, size_t step, bool last) {
  const auto& table = sparsetrain::counting::kTable;
  const auto plan = sparsetrain::plan_scatter(s, pass, table.vector);
  Tensor<float> source(s.N, plan.source_channels * s.groups, plan.source_height, plan.source_width,
                       last);
  Tensor<float> out(s.N, plan.out_channels * s.groups, plan.out_height, plan.out_width, last);
  Tensor<float> w(s.K, s.C / s.groups, s.R, s.S, last);
  fill(source, step);
  int64_t expected = 0;
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t a = 0; a < source.sizes[1]; ++a)
      for (int64_t i = 0; i < plan.source_height; ++i)
        for (int64_t j = 0; j < plan.source_width; ++j)
          if (source.at(n, a, i, j) != 0) expected += multiply_adds_of(plan, i, j);
  sparsetrain::counting::multiply_adds = 0;
  sparsetrain::testing::run_scatter<float>(table, s, pass, source, w, nullptr, out);
  CHECK(sparsetrain::counting::multiply_adds == expected);
}

void check_grad_weight(const ConvShape& s, size_t step, bool last) {
  const auto& table = sparsetrain::counting::kTable;
  const auto plan = sparsetrain::plan_grad_weight(s, table.vector, 1);
  Tensor<float> x(s.N, s.C, s.H, s.W, last), dy(s.N, s.K, s.P(), s.Q(), last);
  Tensor<float> dw(s.K, s.C / s.groups, s.R, s.S, last);
  fill(dy, step);
  const auto nonzeros = std::count(dy.data.begin(), dy.data.end(), 1.0f);
  sparsetrain::counting::multiply_adds = 0;
  sparsetrain::testing::run_grad_weight(table, s, 1, false, dy, x, dw);
  CHECK(sparsetrain::counting::multiply_adds ==
        nonzeros * s.R * s.S * plan.blocks * plan.registers);
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
       .groups = 2},
      {.N = 3, .C = 2, .H = 4, .W = 6, .K = 2, .R = 1, .S = 1, .stride_w = 2},
      {.N = 1, .C = 20, .H = 6, .W = 9, .K = 90, .R = 5, .S = 11, .pad_h = 2, .pad_w = 5}};
  for (const ConvShape& s : shapes) {
    for (const size_t step : {0, 1, 3, 10}) {
      for (const bool last : {false, true}) {
        check_scatter(s, Pass::kForward, step, last);
        check_scatter(s, Pass::kGradInput, step, last);
        check_grad_weight(s, step, last);
      }
    }
  }
  std::puts("multiply-adds equal the count over nonzeros");
}
