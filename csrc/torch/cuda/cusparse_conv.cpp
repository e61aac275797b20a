// The gradients of cusparse_conv.h. All memory comes from PyTorch, that for cuSPARSE included.
// Handle and stream are PyTorch's current ones.
#include "cusparse_conv.h"

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/cuda/Exceptions.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>

#include "../../kernels/cuda/spmm.h"
#include "../memory.h"

namespace sparsetrain {
namespace {

template <class T>
const T* in(const at::Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* out(const at::Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// The sparse matrices of one backward pass. All of them are counted before the host waits.
template <class T>
class Gradients {
 public:
  Gradients(const ConvShape& s, const at::Tensor& dy)
      : shape_(s),
        dy_(pixels_of(dy)),
        bits_(empty(cuda::nonzero_words(s), at::kInt)),
        entries_(empty(2, at::kLong)) {
    C10_CUDA_CHECK(cuda::mark_nonzeros(shape_, in<T>(dy_), out<uint32_t>(bits_), stream()));
  }

  void count(Pass pass) {
    counts(pass) = empty(cuda::counts_bytes(shape_, pass), at::kByte);
    C10_CUDA_CHECK(cuda::count_entries(shape_, pass, in<uint32_t>(bits_), out<void>(counts(pass)),
                                       out<int64_t>(entries_) + index(pass), stream()));
  }
  void wait() { entries_ = entries_.cpu(); }

  // Multiplies with `dense` into `result`, see spmm().
  void multiply(Pass pass, const at::Tensor& dense, const at::Tensor& result) const {
    const int64_t entries = in<int64_t>(entries_)[index(pass)];
    if (entries == 0) {
      result.zero_();
      return;
    }
    const int64_t rows = cuda::csr_rows(shape_, pass);
    const at::Tensor start = empty(rows + 1, at::kInt), column = empty(entries, at::kInt);
    const at::Tensor value = empty(entries, dy_.scalar_type());
    const cuda::Csr<T> csr{
        rows,         cuda::csr_columns(shape_, pass), entries, out<int>(start), out<int>(column),
        out<T>(value)};
    C10_CUDA_CHECK(cuda::write_csr(shape_, pass, in<T>(dy_), in<uint32_t>(bits_),
                                   in<void>(counts_[index(pass)]), csr, stream()));
    const cusparseHandle_t handle = at::cuda::getCurrentCUDASparseHandle();
    size_t bytes = 0;
    TORCH_CUDASPARSE_CHECK(cuda::spmm_scratch_bytes(handle, shape_, pass, csr, in<T>(dense),
                                                    out<void>(result), &bytes));
    const at::Tensor scratch = empty(static_cast<int64_t>(bytes), at::kByte);
    TORCH_CUDASPARSE_CHECK(
        cuda::spmm(handle, shape_, pass, csr, in<T>(dense), out<void>(result), out<void>(scratch)));
  }

 private:
  static int index(Pass pass) { return pass == Pass::kGradWeight; }
  static cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream(); }
  at::Tensor& counts(Pass pass) { return counts_[index(pass)]; }
  at::Tensor empty(int64_t n, at::ScalarType type) const {
    return at::empty({n}, dy_.options().dtype(type));
  }

  ConvShape shape_;
  at::Tensor dy_, bits_, entries_, counts_[2];  // wait() moves entries_ to the host
};

}  // namespace

std::pair<at::Tensor, at::Tensor> cusparse_backward(const ConvShape& s, const at::Tensor& dy,
                                                    const at::Tensor& x, const at::Tensor& w,
                                                    bool input, bool weight) {
  at::Tensor dx, dw;
  for_storage(dy, [&](auto storage) {
    using T = decltype(storage);
    Gradients<T> gradients(s, dy);
    if (input) gradients.count(Pass::kGradInput);
    if (weight) gradients.count(Pass::kGradWeight);
    gradients.wait();
    if (input) {
      dx = at::empty({s.N, s.H, s.W, s.C}, x.options());
      gradients.multiply(Pass::kGradInput, aligned(w.permute({2, 3, 0, 1})), dx);
      dx = from_pixels(dx);
    }
    if (weight) {
      const int64_t pitch = cuda::channel_pitch<T>(s.C);
      const auto sums = sizeof(typename Storage<T>::Compute) == 8 ? at::kDouble : at::kFloat;
      dw = at::empty({s.R, s.S, s.K, pitch}, x.options().dtype(sums));
      gradients.multiply(Pass::kGradWeight, padded_pixels(x, pitch, s.pad_h, s.pad_w), dw);
      dw = dw.narrow(3, 0, s.C).permute({2, 3, 0, 1}).to(x.scalar_type());
    }
  });
  return {dx, dw};
}

}  // namespace sparsetrain
