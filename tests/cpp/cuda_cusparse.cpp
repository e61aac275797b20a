// Tests the gradients of backend "cusparse", run by the emulator, against a naive convolution in
// double. The emulator's cusparse.h multiplies serially in place of cuSPARSE.
#include <memory>
#include <random>

#include "check.h"
#include "choice/choose.h"
#include "cuda_cases.h"
#include "kernels/cuda/spmm.h"

namespace {

using namespace sparsetrain;

Choice chosen(const ConvShape& s, Pass pass) {
  return choose_on_cuda({s, pass, DType::kFloat32}, Backend::kCusparse, {1, 1}, {});
}

// The CSR matrix of one pass, in memory of exactly its size.
template <class T>
struct Matrix {
  Memory<int> start, column;
  Memory<T> value;
  cuda::Csr<T> csr;

  Matrix(const ConvShape& s, Pass pass, int64_t entries)
      : start(cuda::csr_rows(s, pass) + 1),
        column(entries),
        value(entries),
        csr{cuda::csr_rows(s, pass),
            cuda::csr_columns(s, pass),
            entries,
            start.data(),
            column.data(),
            value.data()} {}
};

// One shape, with random operands.
template <class T>
class Case {
  using Compute = typename Storage<T>::Compute;

 public:
  Case(const ConvShape& s, double density, bool aligned, std::mt19937& random)
      : shape_(s),
        x_(s.N * s.H * s.W * s.C),
        dy_(s.N * s.P() * s.Q() * s.K, aligned),
        w_(s.K * s.R * s.S * s.C) {
    x_.fill(1, random);
    dy_.fill(density, random);
    w_.fill(1, random);
  }

  void run() {
    grad_input();
    grad_weight();
  }

 private:
  // Builds the matrix of a pass twice and checks that both are equal: consecutive launches of the
  // emulator run threads in opposite orders.
  std::unique_ptr<Matrix<T>> matrix(Pass pass, int64_t expected_entries) {
    CHECK(chosen(shape_, pass).backend == Backend::kCusparse);
    Memory<uint32_t> bits(cuda::nonzero_words(shape_));
    Memory<char> counts(cuda::counts_bytes(shape_, pass));
    int64_t entries = -1;
    CHECK(cuda::mark_nonzeros(shape_, dy_.data(), bits.data(), nullptr) == cudaSuccess);
    CHECK(cuda::count_entries(shape_, pass, bits.data(), counts.data(), &entries, nullptr) ==
          cudaSuccess);
    CHECK(entries == expected_entries);
    auto first = std::make_unique<Matrix<T>>(shape_, pass, entries);
    Matrix<T> second(shape_, pass, entries);
    for (const cuda::Csr<T>& csr : {first->csr, second.csr}) {
      CHECK(cuda::write_csr<T>(shape_, pass, dy_.data(), bits.data(), counts.data(), csr,
                               nullptr) == cudaSuccess);
    }
    CHECK(first->start.equals(second.start) && first->column.equals(second.column));
    CHECK(first->value.equals(second.value));
    return first;
  }

  template <class Out>
  void multiply(Pass pass, const cuda::Csr<T>& csr, Memory<T>& dense, Memory<Out>& out) {
    if (csr.entries == 0) return out.clear();  // as csrc/torch does
    cusparseContext context;
    size_t bytes = 0;
    CHECK(cuda::spmm_scratch_bytes(&context, shape_, pass, csr, dense.data(), out.data(), &bytes) ==
          CUSPARSE_STATUS_SUCCESS);
    Memory<char> scratch(static_cast<int64_t>(bytes));
    CHECK(cuda::spmm(&context, shape_, pass, csr, dense.data(), out.data(), scratch.data()) ==
          CUSPARSE_STATUS_SUCCESS);
  }

  void grad_input() {
    Memory<T> w(w_.size()), dx(x_.size());
    for (int64_t i = 0; i < w.size(); ++i) {  // [K,R,S,C] to [R,S,K,C]
      const int64_t c = i % shape_.C, tap = i / shape_.C % (shape_.R * shape_.S),
                    k = i / shape_.C / (shape_.R * shape_.S);
      w.set((tap * shape_.K + k) * shape_.C + c, w_.at(i));
    }
    Sums sums(dx.size());
    int64_t entries = 0;
    each_product(shape_, [&](int64_t x, int64_t w, int64_t y) {
      sums.add(x, dy_.at(y) * w_.at(w));
      entries += x % shape_.C == 0 && dy_.at(y) != 0;
    });
    const auto built = matrix(Pass::kGradInput, entries);
    multiply(Pass::kGradInput, built->csr, w, dx);
    check_close(dx, sums, shape_.K * shape_.R * shape_.S);
  }

  void grad_weight() {
    const int64_t pitch = cuda::channel_pitch<T>(shape_.C);
    const int64_t height = cuda::padded_height(shape_), width = cuda::padded_width(shape_);
    Memory<T> x(shape_.N * height * width * pitch);
    x.clear();
    for (int64_t i = 0; i < x_.size(); ++i) {
      const int64_t c = i % shape_.C, v = i / shape_.C % shape_.W,
                    h = i / shape_.C / shape_.W % shape_.H;
      const int64_t n = i / shape_.C / shape_.W / shape_.H, row = n * height + h + shape_.pad_h;
      x.set((row * width + v + shape_.pad_w) * pitch + c, x_.at(i));
    }
    int64_t entries = 0;
    for (int64_t i = 0; i < dy_.size(); ++i) entries += dy_.at(i) != 0;
    Memory<Compute> out(shape_.R * shape_.S * shape_.K * pitch), dw(w_.size());
    const auto built = matrix(Pass::kGradWeight, entries);
    multiply(Pass::kGradWeight, built->csr, x, out);
    for (int64_t i = 0; i < dw.size(); ++i) {  // [R,S,K,pitch] to [K,R,S,C]
      const int64_t c = i % shape_.C, tap = i / shape_.C % (shape_.R * shape_.S),
                    k = i / shape_.C / (shape_.R * shape_.S);
      dw.set(i, out.at((tap * shape_.K + k) * pitch + c));
    }
    Sums sums(dw.size());
    each_product(shape_,
                 [&](int64_t i, int64_t w, int64_t y) { sums.add(w, x_.at(i) * dy_.at(y)); });
    check_close(dw, sums, shape_.N * shape_.P() * shape_.Q());
  }

  ConvShape shape_;
  Memory<T> x_, dy_, w_;
};

template <class T>
void test_odd_shapes() {
  std::vector<ConvShape> shapes = odd_shapes();
  // A stride with which most pixels of x contribute to no output, and a stride of nearly 2^31; and
  // exactly one segment of output pixels.
  shapes.push_back({.N = 2,
                    .C = 8,
                    .H = 7,
                    .W = 5,
                    .K = 33,
                    .R = 2,
                    .S = 2,
                    .stride_h = 3,
                    .stride_w = (int64_t{1} << 31) - 1});
  shapes.push_back({.N = 1, .C = 4, .H = 16, .W = 16, .K = 5, .R = 1, .S = 1});
  std::mt19937 random(7);
  for (const ConvShape& s : shapes) {
    for (const double density : {0.0, 0.15, 1.0}) Case<T>(s, density, density < 1, random).run();
  }
}

// Several segments of output pixels, and many lists.
void test_many_lists() {
  std::mt19937 random(8);
  Case<float>({.N = 3, .C = 1, .H = 31, .W = 33, .K = 40, .R = 1, .S = 1, .stride_h = 2}, 0.1, true,
              random)
      .run();
  Case<float>({.N = 1, .C = 1, .H = 1, .W = 1, .K = 600'000, .R = 1, .S = 1}, 0.5, true, random)
      .run();
}

void test_entries_beyond_31_bits_are_refused() {
  const ConvShape s{
      .N = 64, .C = 256, .H = 56, .W = 56, .K = 256, .R = 3, .S = 3, .pad_h = 1, .pad_w = 1};
  CHECK(chosen(s, Pass::kForward).backend == Backend::kDense);
  const auto runs = [](const ConvShape& s, Pass pass) {
    return chosen(s, pass).backend == Backend::kCusparse;
  };
  CHECK(runs(s, Pass::kGradInput) && runs(s, Pass::kGradWeight));
  // The limit of 2^31 - 128 = 256 * 8388607 entries: of dy, then of its patches.
  const ConvShape most{.N = 8388607, .C = 1, .H = 1, .W = 1, .K = 256, .R = 1, .S = 1};
  ConvShape more = most, taps = most;
  more.K = 257;
  taps.R = 2, taps.pad_h = 1, taps.dilation_h = 2;
  CHECK(runs(most, Pass::kGradInput) && runs(most, Pass::kGradWeight));
  CHECK(!runs(more, Pass::kGradInput) && !runs(more, Pass::kGradWeight));
  CHECK(!runs(taps, Pass::kGradInput) && runs(taps, Pass::kGradWeight));
  // Elements of x with its padding.
  ConvShape padded = s;
  padded.pad_h = padded.pad_w = 200, padded.dilation_h = padded.dilation_w = 150;
  CHECK(!runs(padded, Pass::kGradInput) && !runs(padded, Pass::kGradWeight));
  ConvShape none = s, grouped = s;
  none.N = 0, grouped.groups = 2;
  CHECK(!runs(none, Pass::kGradWeight) && !runs(grouped, Pass::kGradWeight));
}

}  // namespace

int main() {
  test_odd_shapes<float>();
  test_odd_shapes<double>();
  test_odd_shapes<BFloat16>();
  test_odd_shapes<Half>();
  test_many_lists();
  test_entries_beyond_31_bits_are_refused();
}
