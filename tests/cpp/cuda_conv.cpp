// The CUDA convolutions, run by the emulator, against a naive convolution in double: odd shapes,
// tensors of exactly the needed size, results that were never 0 before.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "kernels/choose.h"
#include "kernels/cuda/api.h"

namespace {

using namespace sparsetrain;

// n elements, aligned to 16 bytes and no byte longer, or one element further.
template <class T>
class Memory {
 public:
  explicit Memory(int64_t n, bool aligned = true) : n_(n), shift_(aligned ? 0 : 1) {
    const size_t bytes = (static_cast<size_t>(n + shift_) * sizeof(T) + 15) / 16 * 16;
    data_ = static_cast<T*>(std::aligned_alloc(16, bytes));
    std::memset(data_, 0x7f, bytes);  // no finite number of any type but float64's
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { std::free(data_); }

  T* data() { return data_ + shift_; }
  int64_t size() const { return n_; }
  double at(int64_t i) const { return static_cast<double>(Storage<T>::load(data_[shift_ + i])); }
  void set(int64_t i, double v) {
    data_[shift_ + i] = Storage<T>::store(static_cast<typename Storage<T>::Compute>(v));
  }
  void fill(double density, std::mt19937& random) {
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    for (int64_t i = 0; i < n_; ++i) set(i, uniform(random) < density ? normal(random) : 0.0);
  }

 private:
  int64_t n_, shift_;
  T* data_;
};

// What a result must be, and the sum of the magnitudes of its products.
struct Sums {
  std::vector<double> value, magnitude;
  explicit Sums(int64_t n) : value(static_cast<size_t>(n)), magnitude(static_cast<size_t>(n)) {}
  void add(int64_t i, double product) {
    value[static_cast<size_t>(i)] += product;
    magnitude[static_cast<size_t>(i)] += std::abs(product);
  }
};

// n products rounded and added in any order are off by at most (n + 1) u sum |products|, u that of
// the sums; storing the result adds half its last place.
template <class T>
void check_close(const Memory<T>& got, const Sums& wanted, int64_t products) {
  const double sums = sizeof(typename Storage<T>::Compute) == 4 ? 0x1p-24 : 0x1p-53;
  const double storage = sizeof(T) > 2 ? 0 : std::is_same_v<T, Half> ? 0x1p-11 : 0x1p-8;
  for (int64_t i = 0; i < got.size(); ++i) {
    const auto at = static_cast<size_t>(i);
    const double bound = static_cast<double>(products + 2) * sums * wanted.magnitude[at];
    const double off = std::abs(got.at(i) - wanted.value[at]);
    CHECK(off <= bound + storage * std::abs(wanted.value[at]) + 0x1p-24 * (storage > 0));
  }
}

bool takes(const ConvShape& s) {
  const Call call{s, Pass::kForward, DType::kFloat32, true, 1, 1};
  return choose_on_cuda(call, Backend::kSparse).backend == Backend::kSparse;
}

template <class T>
class Case {
 public:
  Case(const ConvShape& s, double density, bool aligned, std::mt19937& random)
      : s_(s),
        channels_(cuda::matrix_pitch(s.C)),
        x_(s.N * s.H * s.W * s.C, aligned),
        dy_(s.N * s.P() * s.Q() * s.K, aligned),
        w_(s.K * s.R * s.S * s.C),
        bias_(s.K) {
    x_.fill(density, random);
    dy_.fill(density, random);
    w_.fill(1, random);
    bias_.fill(1, random);
  }

  void run() {
    CHECK(takes(s_));
    gather(Pass::kForward);
    gather(Pass::kGradInput);
    grad_weight();
  }

 private:
  // f(x, w, y): the elements of every product, all of them channels_last.
  template <class F>
  void each_product(F&& f) const {
    for (int64_t n = 0; n < s_.N; ++n)
      for (int64_t p = 0; p < s_.P(); ++p)
        for (int64_t q = 0; q < s_.Q(); ++q)
          for (int64_t r = 0; r < s_.R; ++r)
            for (int64_t t = 0; t < s_.S; ++t) {
              const int64_t h = p * s_.stride_h - s_.pad_h + r * s_.dilation_h;
              const int64_t v = q * s_.stride_w - s_.pad_w + t * s_.dilation_w;
              if (h < 0 || h >= s_.H || v < 0 || v >= s_.W) continue;
              for (int64_t k = 0; k < s_.K; ++k)
                for (int64_t c = 0; c < s_.C; ++c)
                  f(((n * s_.H + h) * s_.W + v) * s_.C + c, ((k * s_.R + r) * s_.S + t) * s_.C + c,
                    ((n * s_.P() + p) * s_.Q() + q) * s_.K + k);
            }
  }

  void gather(Pass pass) {
    const bool forward = pass == Pass::kForward;
    const int64_t from = forward ? s_.C : s_.K, to = forward ? s_.K : s_.C;
    const int64_t pitch = cuda::matrix_pitch(to);
    Memory<T> matrix(s_.R * s_.S * from * pitch), out(forward ? dy_.size() : x_.size());
    matrix.fill(0, random_);
    for (int64_t k = 0; k < s_.K; ++k)
      for (int64_t tap = 0; tap < s_.R * s_.S; ++tap)
        for (int64_t c = 0; c < s_.C; ++c) {
          const int64_t row = tap * from + (forward ? c : k);
          matrix.set(row * pitch + (forward ? k : c), w_.at((k * s_.R * s_.S + tap) * s_.C + c));
        }
    Memory<char> scratch(cuda::gather_scratch_bytes<T>(s_, pass));
    CHECK(cuda::gather(s_, pass, (forward ? x_ : dy_).data(), matrix.data(),
                       forward ? bias_.data() : nullptr, out.data(), scratch.data(),
                       nullptr) == cudaSuccess);
    Sums sums(out.size());
    for (int64_t i = 0; forward && i < out.size(); ++i) sums.add(i, bias_.at(i % s_.K));
    each_product([&](int64_t x, int64_t w, int64_t y) {
      if (forward) {
        sums.add(y, x_.at(x) * w_.at(w));
      } else {
        sums.add(x, dy_.at(y) * w_.at(w));
      }
    });
    check_close(out, sums, from * s_.R * s_.S);
  }

  void grad_weight() {
    ConvShape padded = s_;
    padded.C = channels_;
    Memory<T> x(s_.N * s_.H * s_.W * channels_), out(s_.K * s_.R * s_.S * channels_), dw(w_.size());
    x.fill(0, random_);
    for (int64_t i = 0; i < x_.size(); ++i) x.set(i / s_.C * channels_ + i % s_.C, x_.at(i));
    Memory<char> scratch(cuda::grad_weight_scratch_bytes<T>(padded));
    CHECK(cuda::grad_weight(padded, dy_.data(), x.data(), out.data(), scratch.data(), nullptr) ==
          cudaSuccess);
    for (int64_t i = 0; i < dw.size(); ++i) dw.set(i, out.at(i / s_.C * channels_ + i % s_.C));
    Sums sums(dw.size());
    each_product([&](int64_t i, int64_t w, int64_t y) { sums.add(w, x_.at(i) * dy_.at(y)); });
    check_close(dw, sums, s_.N * s_.P() * s_.Q());
  }

  ConvShape s_;
  int64_t channels_;
  Memory<T> x_, dy_, w_, bias_;
  std::mt19937 random_;
};

template <class T>
void all_of() {
  const ConvShape shapes[] = {
      {.N = 2, .C = 8, .H = 9, .W = 7, .K = 16, .R = 3, .S = 3, .pad_h = 1, .pad_w = 1},
      {.N = 1,
       .C = 5,
       .H = 11,
       .W = 6,
       .K = 9,
       .R = 3,
       .S = 2,
       .stride_h = 2,
       .stride_w = 3,
       .pad_h = 2,
       .pad_w = 1,
       .dilation_h = 2},
      {.N = 3, .C = 70, .H = 4, .W = 5, .K = 67, .R = 1, .S = 1, .stride_h = 2},
      {.N = 1, .C = 1, .H = 3, .W = 3, .K = 1, .R = 5, .S = 5, .pad_h = 4, .pad_w = 2},
      {.N = 1,
       .C = 12,
       .H = 10,
       .W = 12,
       .K = 70,
       .R = 2,
       .S = 5,
       .pad_h = 0,
       .pad_w = 3,
       .dilation_w = 2},
      {.N = 1, .C = 260, .H = 2, .W = 9, .K = 3, .R = 1, .S = 2},
  };
  std::mt19937 random(7);
  for (const ConvShape& s : shapes) {
    for (const double density : {0.0, 0.15, 1.0}) Case<T>(s, density, density < 1, random).run();
  }
}

// So deep that a block adds several tiles: grad_weight by its pixels, the others by their taps.
void deep_products() {
  std::mt19937 random(8);
  Case<float>({.N = 5, .C = 4, .H = 64, .W = 64, .K = 8, .R = 1, .S = 1}, 0.2, true, random).run();
  Case<float>({.N = 1, .C = 700, .H = 5, .W = 5, .K = 2, .R = 5, .S = 5}, 0.2, true, random).run();
}

void only_what_is_counted_in_31_bits_fits() {
  const ConvShape s{.N = 64, .C = 256, .H = 56, .W = 56, .K = 256, .R = 3, .S = 3};
  CHECK(takes(s));
  for (int64_t ConvShape::* extent : {&ConvShape::N, &ConvShape::H, &ConvShape::C}) {
    ConvShape large = s;
    large.*extent = int64_t{1} << 27;
    CHECK(!takes(large));
  }
  ConvShape none = s, grouped = s;
  none.N = 0, grouped.groups = 2;
  CHECK(!takes(none) && !takes(grouped));
}

}  // namespace

int main() {
  all_of<float>();
  all_of<double>();
  all_of<BFloat16>();
  all_of<Half>();
  deep_products();
  only_what_is_counted_in_31_bits_fits();
}
