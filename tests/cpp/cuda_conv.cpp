// Tests the CUDA convolutions of backend "sparse", run by the emulator, against a naive convolution
// in double: odd shapes, tensors of exactly the needed size, results that initially hold NaN or
// huge numbers.
#include <random>

#include "check.h"
#include "choice/choose.h"
#include "cuda_cases.h"
#include "kernels/cuda/api.h"

namespace {

using namespace sparsetrain;

// Whether choose_on_cuda() accepts the shape for backend "sparse".
bool is_supported(const ConvShape& s) {
  const Call call{s, Pass::kForward, DType::kFloat32};
  return choose_on_cuda(call, Backend::kSparse, {1, 1}, {}).backend == Backend::kSparse;
}

// One shape, with random operands.
template <class T>
class Case {
 public:
  Case(const ConvShape& s, double density, bool aligned, std::mt19937& random)
      : shape_(s),
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
    CHECK(is_supported(shape_));
    gather(Pass::kForward);
    gather(Pass::kGradInput);
    grad_weight();
  }

 private:
  void gather(Pass pass) {
    const bool forward = pass == Pass::kForward;
    const int64_t from = forward ? shape_.C : shape_.K, to = forward ? shape_.K : shape_.C;
    const int64_t pitch = cuda::matrix_pitch(to);
    Memory<T> matrix(shape_.R * shape_.S * from * pitch), out(forward ? dy_.size() : x_.size());
    matrix.fill(0, random_);
    for (int64_t k = 0; k < shape_.K; ++k)
      for (int64_t tap = 0; tap < shape_.R * shape_.S; ++tap)
        for (int64_t c = 0; c < shape_.C; ++c) {
          const int64_t row = tap * from + (forward ? c : k);
          matrix.set(row * pitch + (forward ? k : c),
                     w_.at((k * shape_.R * shape_.S + tap) * shape_.C + c));
        }
    Memory<char> scratch(cuda::gather_scratch_bytes<T>(shape_, pass));
    CHECK(cuda::gather(shape_, pass, (forward ? x_ : dy_).data(), matrix.data(),
                       forward ? bias_.data() : nullptr, out.data(), scratch.data(),
                       nullptr) == cudaSuccess);
    Sums sums(out.size());
    for (int64_t i = 0; forward && i < out.size(); ++i) sums.add(i, bias_.at(i % shape_.K));
    each_product(shape_, [&](int64_t x, int64_t w, int64_t y) {
      if (forward) {
        sums.add(y, x_.at(x) * w_.at(w));
      } else {
        sums.add(x, dy_.at(y) * w_.at(w));
      }
    });
    check_close(out, sums, from * shape_.R * shape_.S);
  }

  void grad_weight() {
    ConvShape padded = shape_;
    padded.C = channels_;
    Memory<T> x(shape_.N * shape_.H * shape_.W * channels_),
        out(shape_.K * shape_.R * shape_.S * channels_), dw(w_.size());
    x.fill(0, random_);
    for (int64_t i = 0; i < x_.size(); ++i)
      x.set(i / shape_.C * channels_ + i % shape_.C, x_.at(i));
    Memory<char> scratch(cuda::grad_weight_scratch_bytes<T>(padded));
    CHECK(cuda::grad_weight(padded, dy_.data(), x.data(), out.data(), scratch.data(), nullptr) ==
          cudaSuccess);
    for (int64_t i = 0; i < dw.size(); ++i)
      dw.set(i, out.at(i / shape_.C * channels_ + i % shape_.C));
    Sums sums(dw.size());
    each_product(shape_,
                 [&](int64_t i, int64_t w, int64_t y) { sums.add(w, x_.at(i) * dy_.at(y)); });
    check_close(dw, sums, shape_.N * shape_.P() * shape_.Q());
  }

  ConvShape shape_;
  int64_t channels_;
  Memory<T> x_, dy_, w_, bias_;
  std::mt19937 random_;
};

template <class T>
void test_odd_shapes() {
  std::mt19937 random(7);
  for (const ConvShape& s : odd_shapes()) {
    for (const double density : {0.0, 0.15, 1.0}) Case<T>(s, density, density < 1, random).run();
  }
}

// Products so deep that a block adds several tiles: grad_weight over pixels, the other passes over
// taps.
void test_deep_products() {
  std::mt19937 random(8);
  Case<float>({.N = 5, .C = 4, .H = 64, .W = 64, .K = 8, .R = 1, .S = 1}, 0.2, true, random).run();
  Case<float>({.N = 1, .C = 700, .H = 5, .W = 5, .K = 2, .R = 5, .S = 5}, 0.2, true, random).run();
}

void test_shapes_beyond_31_bits_are_refused() {
  const ConvShape s{.N = 64, .C = 256, .H = 56, .W = 56, .K = 256, .R = 3, .S = 3};
  CHECK(is_supported(s));
  for (int64_t ConvShape::* extent : {&ConvShape::N, &ConvShape::H, &ConvShape::C}) {
    ConvShape large = s;
    large.*extent = int64_t{1} << 27;
    CHECK(!is_supported(large));
  }
  ConvShape none = s, grouped = s;
  none.N = 0, grouped.groups = 2;
  CHECK(!is_supported(none) && !is_supported(grouped));
}

}  // namespace

int main() {
  test_odd_shapes<float>();
  test_odd_shapes<double>();
  test_odd_shapes<BFloat16>();
  test_odd_shapes<Half>();
  test_deep_products();
  test_shapes_beyond_31_bits_are_refused();
}
