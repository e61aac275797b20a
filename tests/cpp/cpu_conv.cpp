// Tests the CPU convolutions of all instruction sets and storage types against a naive convolution
// in double, on a list of odd shapes and on random ones. Prints one line for each failure.
//   test_cpu_conv [RANDOM_SHAPES [SEED]]
#include <cmath>
#include <cstdio>
#include <random>
#include <type_traits>
#include <utility>

#include "cpu_conv_run.h"

namespace sparsetrain::testing {
namespace {

int failures = 0;

// GCC 12's ThreadSanitizer corrupts AVX-512 registers, even in a single thread: lists contain
// garbage at varying places. AVX-512 is skipped then; the other instruction sets share its thread
// structure.
#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

// A random valid shape, often with sizes that no vector or tile divides.
ConvShape random_shape(std::mt19937& random) {
  const auto in = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const auto pick = [&](std::initializer_list<int64_t> from) {
    return from.begin()[in(0, static_cast<int64_t>(from.size()) - 1)];
  };
  ConvShape s{};
  do {
    s.groups = pick({1, 1, 1, 1, 2, 3});
    s.N = in(1, 5);
    s.C = s.groups * pick({1, 3, 7, 16, 20, 33, 70});
    s.K = s.groups * pick({1, 2, 9, 16, 31, 85, 100});
    s.H = in(1, 18);
    s.W = pick({1, 3, 4, 7, 11, 16, 21, 34});
    s.R = pick({1, 3, 3, 3, 5, 2, 7, 11});
    s.S = pick({1, 3, 3, 3, 5, 2, 4, 6, 7, 8, 11});
    s.stride_h = pick({1, 1, 1, 2, 3, 4});
    s.stride_w = pick({1, 1, 1, 2, 3, 4});
    s.pad_h = in(0, 3);
    s.pad_w = in(0, 5);
    s.dilation_h = pick({1, 1, 1, 2});
    s.dilation_w = pick({1, 1, 1, 2, 3});
  } while (s.H + 2 * s.pad_h < s.dilation_h * (s.R - 1) + 1 ||
           s.W + 2 * s.pad_w < s.dilation_w * (s.S - 1) + 1);
  return s;
}

template <class T>
T to_storage(double v) {
  return Storage<T>::store(static_cast<typename Storage<T>::Compute>(v));
}
template <class T>
double to_double(T v) {
  return static_cast<double>(Storage<T>::load(v));
}

template <class T>
void fill(Tensor<T>& t, double density, std::mt19937& random) {
  std::normal_distribution<double> value;
  std::uniform_real_distribution<double> uniform;
  for (T& v : t.data) v = to_storage<T>(uniform(random) < density ? value(random) : 0.0);
}

// Calls f(n, k, p, q, c, c within its group, r, s, h, w) for every product of the convolution.
template <class F>
void each_product(const ConvShape& s, F&& f) {
  const int64_t c_group = s.C / s.groups, k_group = s.K / s.groups;
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t k = 0; k < s.K; ++k)
      for (int64_t p = 0; p < s.P(); ++p)
        for (int64_t r = 0; r < s.R; ++r) {
          const int64_t h = p * s.stride_h - s.pad_h + r * s.dilation_h;
          if (h < 0 || h >= s.H) continue;
          for (int64_t q = 0; q < s.Q(); ++q)
            for (int64_t t = 0; t < s.S; ++t) {
              const int64_t w = q * s.stride_w - s.pad_w + t * s.dilation_w;
              if (w < 0 || w >= s.W) continue;
              for (int64_t c = 0; c < c_group; ++c)
                f(n, k, p, q, k / k_group * c_group + c, c, r, t, h, w);
            }
        }
}

// Counts a failure if got differs from expected by more than rounding can explain. magnitude: the
// sums of |products|.
template <class T>
void compare(const char* isa, const char* pass, const ConvShape& s, const Tensor<T>& got,
             const Tensor<double>& expected, const Tensor<double>& magnitude) {
  // The rounding error grows with the sum of |products|; storing the result rounds once more.
  const double unit = std::is_same_v<T, double> ? 1e-14 : 1e-5;
  const double storage = sizeof(T) > 2 ? 0 : std::is_same_v<T, BFloat16> ? 1.0 / 256 : 1.0 / 2048;
  double worst = 0;
  for (int64_t a = 0; a < got.sizes[0]; ++a)
    for (int64_t b = 0; b < got.sizes[1]; ++b)
      for (int64_t i = 0; i < got.sizes[2]; ++i)
        for (int64_t j = 0; j < got.sizes[3]; ++j) {
          const double exact = expected.at(a, b, i, j);
          const double bound =
              unit * magnitude.at(a, b, i, j) + storage * std::abs(exact) + 1e-30 + storage * 1e-4;
          const double error = std::abs(to_double(got.at(a, b, i, j)) - exact) / bound;
          worst = std::isnan(error) ? INFINITY : std::max(worst, error);
        }
  if (worst <= 1) return;
  ++failures;
  std::printf(
      "%s %s: error is %.3g times what rounding allows; N%ld C%ld H%ld W%ld K%ld R%ld S%ld stride "
      "%ld,%ld pad %ld,%ld dilation %ld,%ld groups %ld, channels_last %d, %zu bytes\n",
      isa, pass, worst, s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.stride_h, s.stride_w, s.pad_h, s.pad_w,
      s.dilation_h, s.dilation_w, s.groups, got.channels_last, sizeof(T));
}

// Checks all passes for one shape. A suffix 0 marks exact results, a suffix 1 the sums of
// |products|.
template <class T>
void check(const ConvShape& s, double density, bool last, bool weight_last, std::mt19937& random) {
  const int64_t c_group = s.C / s.groups, P = s.P(), Q = s.Q();
  Tensor<T> x(s.N, s.C, s.H, s.W, last), dy(s.N, s.K, P, Q, last), y = dy, dx = x;
  Tensor<T> w(s.K, c_group, s.R, s.S, weight_last), dw = w, bias(1, s.K, 1, 1, false);
  fill(x, density, random);
  fill(dy, density, random);
  fill(w, 1, random);
  fill(bias, 1, random);
  Tensor<double> y0(s.N, s.K, P, Q, last), dx0(s.N, s.C, s.H, s.W, last);
  Tensor<T> db = bias;
  Tensor<double> db0(1, s.K, 1, 1, false), db1 = db0;
  Tensor<double> dw0(s.K, c_group, s.R, s.S, weight_last), y1 = y0, dx1 = dx0, dw1 = dw0;
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t k = 0; k < s.K; ++k)
      for (int64_t p = 0; p < P; ++p)
        for (int64_t q = 0; q < Q; ++q) {
          y0.at(n, k, p, q) = to_double(bias.at(0, k, 0, 0));
          y1.at(n, k, p, q) = std::abs(y0.at(n, k, p, q));
          db0.at(0, k, 0, 0) += to_double(dy.at(n, k, p, q));
          db1.at(0, k, 0, 0) += std::abs(to_double(dy.at(n, k, p, q)));
        }
  each_product(s, [&](int64_t n, int64_t k, int64_t p, int64_t q, int64_t c, int64_t cg, int64_t r,
                      int64_t t, int64_t h, int64_t iw) {
    const double xv = to_double(x.at(n, c, h, iw)), wv = to_double(w.at(k, cg, r, t));
    const double gv = to_double(dy.at(n, k, p, q));
    y0.at(n, k, p, q) += xv * wv, y1.at(n, k, p, q) += std::abs(xv * wv);
    dx0.at(n, c, h, iw) += gv * wv, dx1.at(n, c, h, iw) += std::abs(gv * wv);
    dw0.at(k, cg, r, t) += gv * xv, dw1.at(k, cg, r, t) += std::abs(gv * xv);
  });
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (!supported(isa) || (isa == Isa::kAvx512 && kThreadSanitizer)) continue;
    const Kernels<T>& k = kernels<T>(isa);
    run_scatter(k, s, Pass::kForward, x, w, bias.data.data(), y);
    compare(k.name, "forward", s, y, y0, y1);
    run_scatter(k, s, Pass::kGradInput, dy, w, static_cast<const T*>(nullptr), dx);
    compare(k.name, "grad_input", s, dx, dx0, dx1);
    Tensor<T> split = dw;
    run_grad_weight(k, s, 1, false, dy, x, dw);
    run_grad_weight(k, s, 5, false, dy, x, split);
    compare(k.name, "grad_weight", s, dw, dw0, dw1);
    if (has_swapped_operands(s)) {
      Tensor<T> swapped = dw;
      run_grad_weight(k, s, 3, true, x, dy, swapped);
      compare(k.name, "grad_weight with swapped operands", s, swapped, dw0, dw1);
    }
    k.channel_sums(std::as_const(dy).view(), s.N, s.K, P * Q, 0, s.K, db.data.data());
    compare(k.name, "grad_bias", s, db, db0, db1);
    for (size_t i = 0; i < dw.data.size(); ++i) {
      if (to_double(dw.data[i]) == to_double(split.data[i])) continue;
      ++failures;
      std::printf("%s: grad_weight depends on the number of threads\n", k.name);
      break;
    }
  }
}

// Sizes of 1; padding, dilation and strides larger than the image; kernels as large as the image;
// one channel more than a tile or a vector holds.
const ConvShape kOddShapes[] = {
    {.N = 1, .C = 1, .H = 1, .W = 1, .K = 1, .R = 1, .S = 1},
    {.N = 1, .C = 1, .H = 1, .W = 1, .K = 1, .R = 7, .S = 7, .pad_h = 3, .pad_w = 3},
    {.N = 1, .C = 2, .H = 2, .W = 3, .K = 2, .R = 3, .S = 5, .pad_h = 20, .pad_w = 30},
    {.N = 2, .C = 3, .H = 4, .W = 5, .K = 4, .R = 2, .S = 2, .stride_h = 50, .stride_w = 70},
    {.N = 1, .C = 5, .H = 30, .W = 30, .K = 3, .R = 3, .S = 3, .dilation_h = 14, .dilation_w = 14},
    {.N = 1, .C = 2, .H = 13, .W = 40, .K = 2, .R = 13, .S = 40},
    {.N = 1, .C = 129, .H = 3, .W = 3, .K = 129, .R = 1, .S = 1, .pad_h = 1, .pad_w = 1},
    {.N = 3, .C = 65, .H = 2, .W = 2, .K = 65, .R = 3, .S = 3, .pad_h = 1, .pad_w = 1},
    {.N = 2, .C = 17, .H = 5, .W = 300, .K = 17, .R = 3, .S = 9, .pad_w = 4, .groups = 17},
    {.N = 1, .C = 1, .H = 300, .W = 1, .K = 33, .R = 5, .S = 1, .pad_h = 2}};

void check_all(int shapes, uint32_t seed) {
  std::mt19937 random(seed);
  for (const ConvShape& s : kOddShapes) {
    for (const bool last : {false, true}) {
      check<float>(s, 0.5, last, !last, random);
      check<double>(s, 0.5, last, last, random);
      check<BFloat16>(s, 0.5, last, last, random);
      check<Half>(s, 0.5, last, !last, random);
    }
  }
  for (int i = 0; i < shapes; ++i) {
    const ConvShape s = random_shape(random);
    const double density = (i % 4) / 3.0;
    check<float>(s, density, i % 2, i / 2 % 2, random);
    if (i % 4 == 1) check<double>(s, density, i / 4 % 2, i / 8 % 2, random);
    if (i % 4 == 2) check<BFloat16>(s, density, i / 4 % 2, i / 8 % 2, random);
    if (i % 4 == 3) check<Half>(s, density, i / 4 % 2, i / 8 % 2, random);
  }
}

}  // namespace
}  // namespace sparsetrain::testing

int main(int argc, char** argv) {
  sparsetrain::testing::check_all(argc > 1 ? std::atoi(argv[1]) : 24,
                                  argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 1);
  std::printf("%d failures\n", sparsetrain::testing::failures);
  return sparsetrain::testing::failures != 0;
}
