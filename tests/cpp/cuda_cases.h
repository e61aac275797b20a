// Shared by the tests of CUDA convolutions (cuda_conv.cpp, cuda_cusparse.cpp, torch_cusparse.cpp):
// memory of exactly the size of a tensor, shapes, and a naive convolution in double.
#pragma once

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "kernels/common/storage.h"
#include "shape.h"

namespace sparsetrain {

// Memory of exactly n elements that begins at a multiple of 16 bytes, or one element after it if
// not `aligned`. Initially it holds NaN or huge numbers, depending on T.
template <class T>
class Memory {
 public:
  explicit Memory(int64_t n, bool aligned = true) : n_(n), shift_(aligned ? 0 : 1) {
    const size_t bytes = (static_cast<size_t>(n + shift_) * sizeof(T) + 15) / 16 * 16;
    data_ = static_cast<T*>(std::aligned_alloc(16, bytes));
    std::memset(data_, 0x7f, bytes);
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
  void clear() { std::memset(data_, 0, static_cast<size_t>(n_ + shift_) * sizeof(T)); }
  bool equals(const Memory& other) const {
    return n_ == other.n_ && std::memcmp(data_ + shift_, other.data_ + other.shift_,
                                         static_cast<size_t>(n_) * sizeof(T)) == 0;
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

// The exact elements of a result, and for each the sum of |products|.
struct Sums {
  std::vector<double> value, magnitude;
  explicit Sums(int64_t n) : value(static_cast<size_t>(n)), magnitude(static_cast<size_t>(n)) {}
  void add(int64_t i, double product) {
    value[static_cast<size_t>(i)] += product;
    magnitude[static_cast<size_t>(i)] += std::abs(product);
  }
};

// Checks a result whose elements are sums of `products` products. n rounded products, added in any
// order, are off by at most (n + 1) * u * sum |products|, where u is the unit roundoff of the sums.
// Storing the result adds half a unit in its last place.
template <class T>
void check_close(const Memory<T>& got, const Sums& expected, int64_t products) {
  const double unit = sizeof(typename Storage<T>::Compute) == 4 ? 0x1p-24 : 0x1p-53;
  const double storage = sizeof(T) > 2 ? 0 : std::is_same_v<T, Half> ? 0x1p-11 : 0x1p-8;
  for (int64_t i = 0; i < got.size(); ++i) {
    const auto at = static_cast<size_t>(i);
    const double bound = static_cast<double>(products + 2) * unit * expected.magnitude[at];
    const double error = std::abs(got.at(i) - expected.value[at]);
    CHECK(error <= bound + storage * std::abs(expected.value[at]) + 0x1p-24 * (storage > 0));
  }
}

// Calls f(i, j, k) for every product x[i] * w[j] that is added to y[k]; all tensors are
// channels_last.
template <class F>
void each_product(const ConvShape& s, F&& f) {
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t p = 0; p < s.P(); ++p)
      for (int64_t q = 0; q < s.Q(); ++q)
        for (int64_t r = 0; r < s.R; ++r)
          for (int64_t t = 0; t < s.S; ++t) {
            const int64_t h = p * s.stride_h - s.pad_h + r * s.dilation_h;
            const int64_t v = q * s.stride_w - s.pad_w + t * s.dilation_w;
            if (h < 0 || h >= s.H || v < 0 || v >= s.W) continue;
            for (int64_t k = 0; k < s.K; ++k)
              for (int64_t c = 0; c < s.C; ++c)
                f(((n * s.H + h) * s.W + v) * s.C + c, ((k * s.R + r) * s.S + t) * s.C + c,
                  ((n * s.P() + p) * s.Q() + q) * s.K + k);
          }
}

// Shapes with strides, padding and dilation that no tile or vector divides.
inline std::vector<ConvShape> odd_shapes() {
  return {
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
}

}  // namespace sparsetrain
