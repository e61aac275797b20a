// See cuda_cusparse.h. Memory, also cuSPARSE's workspace, is PyTorch's; handle and stream are the
// caller's.
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

// t in one piece that begins at a multiple of 16 bytes.
at::Tensor whole(const at::Tensor& t) {
  const at::Tensor dense = t.contiguous();
  return reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % 16 == 0 ? dense : dense.clone();
}

// x as grad_weight's matrices share it: [N,Hp,Wp,pitch], padding and channels behind C being 0.
at::Tensor with_padding(const ConvShape& s, const at::Tensor& x, int64_t pitch) {
  const at::Tensor pixels = x.permute({0, 2, 3, 1});
  if (s.pad_h == 0 && s.pad_w == 0 && pitch == s.C) return whole(pixels);
  const at::Tensor padded =
      at::zeros({s.N, cuda::padded_height(s), cuda::padded_width(s), pitch}, x.options());
  padded.narrow(1, s.pad_h, s.H).narrow(2, s.pad_w, s.W).narrow(3, 0, s.C).copy_(pixels);
  return padded;
}

// The matrices of one backward. All that are wanted are counted before the host waits.
template <class T>
class Gradients {
 public:
  Gradients(const ConvShape& s, const at::Tensor& dy)
      : s_(s),
        dy_(dy.permute({0, 2, 3, 1}).contiguous()),
        bits_(empty(cuda::nonzero_words(s), at::kInt)),
        entries_(empty(2, at::kLong)) {
    C10_CUDA_CHECK(cuda::mark_nonzeros(s_, in<T>(dy_), out<uint32_t>(bits_), stream()));
  }

  void count(Pass pass) {
    counts(pass) = empty(cuda::counts_bytes(s_, pass), at::kByte);
    C10_CUDA_CHECK(cuda::count_entries(s_, pass, in<uint32_t>(bits_), out<void>(counts(pass)),
                                       out<int64_t>(entries_) + index(pass), stream()));
  }
  void wait() { entries_ = entries_.cpu(); }

  // The product with `dense` into `result`, as spmm() has them.
  void multiply(Pass pass, const at::Tensor& dense, const at::Tensor& result) const {
    const int64_t entries = in<int64_t>(entries_)[index(pass)];
    if (entries == 0) {
      result.zero_();
      return;
    }
    const int64_t rows = cuda::csr_rows(s_, pass);
    const at::Tensor start = empty(rows + 1, at::kInt), column = empty(entries, at::kInt);
    const at::Tensor value = empty(entries, dy_.scalar_type());
    const cuda::Csr<T> csr{
        rows,         cuda::csr_columns(s_, pass), entries, out<int>(start), out<int>(column),
        out<T>(value)};
    C10_CUDA_CHECK(cuda::write_csr(s_, pass, in<T>(dy_), in<uint32_t>(bits_),
                                   in<void>(counts_[index(pass)]), csr, stream()));
    const cusparseHandle_t handle = at::cuda::getCurrentCUDASparseHandle();
    size_t bytes = 0;
    TORCH_CUDASPARSE_CHECK(
        cuda::spmm_scratch_bytes(handle, s_, pass, csr, in<T>(dense), out<void>(result), &bytes));
    const at::Tensor scratch = empty(static_cast<int64_t>(bytes), at::kByte);
    TORCH_CUDASPARSE_CHECK(
        cuda::spmm(handle, s_, pass, csr, in<T>(dense), out<void>(result), out<void>(scratch)));
  }

 private:
  static int index(Pass pass) { return pass == Pass::kGradWeight; }
  static cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream(); }
  at::Tensor& counts(Pass pass) { return counts_[index(pass)]; }
  at::Tensor empty(int64_t n, at::ScalarType type) const {
    return at::empty({n}, dy_.options().dtype(type));
  }

  ConvShape s_;
  at::Tensor dy_, bits_, entries_, counts_[2];  // entries_ on the host after wait()
};

}  // namespace

std::pair<at::Tensor, at::Tensor> cusparse_backward(const ConvShape& s, const at::Tensor& dy,
                                                    const at::Tensor& x, const at::Tensor& w,
                                                    bool wants_input, bool wants_weight) {
  at::Tensor dx, dw;
  for_storage(dy, [&](auto storage) {
    using T = decltype(storage);
    Gradients<T> gradients(s, dy);
    if (wants_input) gradients.count(Pass::kGradInput);
    if (wants_weight) gradients.count(Pass::kGradWeight);
    gradients.wait();
    if (wants_input) {
      dx = at::empty({s.N, s.H, s.W, s.C}, x.options());
      gradients.multiply(Pass::kGradInput, whole(w.permute({2, 3, 0, 1})), dx);
      dx = dx.permute({0, 3, 1, 2});
    }
    if (wants_weight) {
      const int64_t pitch = cuda::channel_pitch<T>(s.C);
      const auto sums = sizeof(typename Storage<T>::Compute) == 8 ? at::kDouble : at::kFloat;
      dw = at::empty({s.R, s.S, s.K, pitch}, x.options().dtype(sums));
      gradients.multiply(Pass::kGradWeight, with_padding(s, x, pitch), dw);
      dw = dw.narrow(3, 0, s.C).permute({2, 3, 0, 1}).to(x.scalar_type());
    }
  });
  return {dx, dw};
}

}  // namespace sparsetrain
