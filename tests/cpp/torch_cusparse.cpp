// Tests csrc/torch/cuda/cusparse_conv.cpp on CPU tensors: the emulator supplies kernels, cuSPARSE,
// handle and stream. Expected values are those of ATen's convolution in double.
#include <ATen/ATen.h>
#undef CHECK  // c10 defines one that prints less

#include "../../csrc/torch/cuda/cusparse_conv.h"
#include "check.h"
#include "cuda_cases.h"

namespace {

using namespace sparsetrain;

// Layouts of an operand. kShifted is channels_last and begins at the second element of its memory.
// kOdd has strides of no memory format.
enum Layout { kPlain, kShifted, kOdd };

at::Tensor operand(at::IntArrayRef sizes, double density, at::ScalarType type, Layout layout) {
  const int64_t n = sizes[0], c = sizes[1], h = sizes[2], w = sizes[3];
  const at::Tensor values = at::randn(sizes, at::kDouble) * (at::rand(sizes) < density);
  if (layout == kPlain) return values.to(type);
  const at::Tensor memory = at::full({n * c * (h + 1) * w + 1}, NAN, type);
  const at::Tensor t =
      layout == kShifted
          ? memory.narrow(0, 1, n * h * w * c).view({n, h, w, c}).permute({0, 3, 1, 2})
          : memory.narrow(0, 1, n * c * (h + 1) * w)
                .view({w, c, n, h + 1})
                .permute({2, 1, 3, 0})
                .narrow(2, 1, h);
  t.copy_(values);
  return t;
}

// (dx, dw) in double.
std::pair<at::Tensor, at::Tensor> exact(const ConvShape& s, const at::Tensor& dy,
                                        const at::Tensor& x, const at::Tensor& w) {
  const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble).contiguous(); };
  const auto [dx, dw, db] = at::convolution_backward(
      wide(dy), wide(x), wide(w), at::IntArrayRef({s.K}), {s.stride_h, s.stride_w},
      {s.pad_h, s.pad_w}, {s.dilation_h, s.dilation_w}, false, {0, 0}, 1, {true, true, false});
  return {dx, dw};
}

// Like check_close() in cuda_cases.h.
void check_close(const at::Tensor& got, const at::Tensor& wanted, const at::Tensor& magnitude,
                 int64_t products, at::ScalarType type) {
  CHECK(got.scalar_type() == type && got.sizes() == wanted.sizes());
  const double sums = type == at::kDouble ? 0x1p-53 : 0x1p-24;
  const double storage = type == at::kHalf ? 0x1p-11 : type == at::kBFloat16 ? 0x1p-8 : 0;
  const at::Tensor off = (got.to(at::kDouble) - wanted).abs();
  const at::Tensor bound = static_cast<double>(products + 2) * sums * magnitude +
                           storage * wanted.abs() + 0x1p-24 * (storage > 0);
  CHECK((off <= bound).all().item<bool>());
}

void check(const ConvShape& s, double density, at::ScalarType type, Layout layout) {
  const at::Tensor dy = operand({s.N, s.K, s.P(), s.Q()}, density, type, layout);
  const at::Tensor x = operand({s.N, s.C, s.H, s.W}, 0.5, type, layout);
  const at::Tensor w = operand({s.K, s.C, s.R, s.S}, 1, type, layout);
  const auto [dx, dw] = cusparse_backward(s, dy, x, w, true, true);
  const auto [exact_dx, exact_dw] = exact(s, dy, x, w);
  const auto [sum_dx, sum_dw] = exact(s, dy.abs(), x.abs(), w.abs());
  check_close(dx, exact_dx, sum_dx, s.K * s.R * s.S, type);
  check_close(dw, exact_dw, sum_dw, s.N * s.P() * s.Q(), type);
  const auto [only_dx, no_dw] = cusparse_backward(s, dy, x, w, true, false);
  const auto [no_dx, only_dw] = cusparse_backward(s, dy, x, w, false, true);
  CHECK(!no_dx.defined() && !no_dw.defined());
  CHECK(at::equal(only_dx, dx) && at::equal(only_dw, dw));
}

}  // namespace

int main() {
  at::manual_seed(9);
  std::vector<ConvShape> shapes = odd_shapes();
  shapes.push_back({.N = 2, .C = 8, .H = 5, .W = 6, .K = 3, .R = 1, .S = 1});  // x needs no padding
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    for (const ConvShape& s : shapes) {
      check(s, 0, type, kOdd);
      check(s, 0.15, type, kOdd);
      check(s, 0.15, type, kShifted);
      check(s, 1, type, kPlain);
    }
  }
}
