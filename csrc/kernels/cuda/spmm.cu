// All calls of cuSPARSE (see spmm.h). The algorithm is always CSR_ALG3: it is the only one that
// promises equal bits for equal operands, and cuSPARSE uses it for 16-bit operands in any case. Its
// speed has not been compared with that of CSR_ALG2 on a GPU.
#include "../common/storage.h"
#include "spmm.h"

namespace sparsetrain::cuda {
namespace {

// The name that cuSPARSE has for a storage type.
template <class T>
constexpr cudaDataType kType = CUDA_R_32F;
template <>
constexpr cudaDataType kType<double> = CUDA_R_64F;
template <>
constexpr cudaDataType kType<BFloat16> = CUDA_R_16BF;
template <>
constexpr cudaDataType kType<Half> = CUDA_R_16F;

// out [csr.rows, C] = csr * dense [csr.columns, C]: grad_input, or one tap of grad_weight. Owns the
// descriptors of the three matrices; an error while they are created is returned by the first call.
template <class T>
class Product {
  using Compute = typename Storage<T>::Compute;

 public:
  Product(cusparseHandle_t handle, const ConvShape& s, Pass pass, const Csr<T>& csr, const T* dense,
          void* out, int64_t tap)
      : handle_(handle) {
    const bool per_tap = pass == Pass::kGradWeight;
    const int64_t pitch = per_tap ? channel_pitch<T>(s.C) : s.C;
    const int64_t shift = per_tap ? tap_shift(s, tap / s.S, tap % s.S) : 0;
    void* to = per_tap ? static_cast<Compute*>(out) + tap * s.K * pitch : out;
    status_ = cusparseCreateConstCsr(&csr_, csr.rows, csr.columns, csr.entries, csr.start,
                                     csr.column, csr.value, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I,
                                     CUSPARSE_INDEX_BASE_ZERO, kType<T>);
    if (status_) return;
    status_ = cusparseCreateConstDnMat(&dense_, csr.columns, s.C, pitch, dense + shift * pitch,
                                       kType<T>, CUSPARSE_ORDER_ROW);
    if (status_) return;
    status_ = cusparseCreateDnMat(&out_, csr.rows, s.C, pitch, to,
                                  per_tap ? kType<Compute> : kType<T>, CUSPARSE_ORDER_ROW);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  ~Product() {
    if (out_) cusparseDestroyDnMat(out_);
    if (dense_) cusparseDestroyDnMat(dense_);
    if (csr_) cusparseDestroySpMat(csr_);
  }

  cusparseStatus_t scratch_bytes(size_t* bytes) const {
    if (status_) return status_;
    return cusparseSpMM_bufferSize(handle_, kNotTransposed, kNotTransposed, &kOne, csr_, dense_,
                                   &kZero, out_, kType<Compute>, CUSPARSE_SPMM_CSR_ALG3, bytes);
  }
  cusparseStatus_t run(void* scratch) const {
    if (status_) return status_;
    return cusparseSpMM(handle_, kNotTransposed, kNotTransposed, &kOne, csr_, dense_, &kZero, out_,
                        kType<Compute>, CUSPARSE_SPMM_CSR_ALG3, scratch);
  }

 private:
  static constexpr auto kNotTransposed = CUSPARSE_OPERATION_NON_TRANSPOSE;
  static constexpr Compute kOne = 1, kZero = 0;

  cusparseHandle_t handle_;
  cusparseStatus_t status_;
  cusparseConstSpMatDescr_t csr_ = nullptr;
  cusparseConstDnMatDescr_t dense_ = nullptr;
  cusparseDnMatDescr_t out_ = nullptr;
};

}  // namespace

template <class T>
cusparseStatus_t spmm_scratch_bytes(cusparseHandle_t handle, const ConvShape& s, Pass pass,
                                    const Csr<T>& csr, const T* dense, void* out, size_t* bytes) {
  return Product<T>(handle, s, pass, csr, dense, out, 0).scratch_bytes(bytes);
}

template <class T>
cusparseStatus_t spmm(cusparseHandle_t handle, const ConvShape& s, Pass pass, const Csr<T>& csr,
                      const T* dense, void* out, void* scratch) {
  const int64_t taps = pass == Pass::kGradWeight ? s.R * s.S : 1;
  cusparseStatus_t status = CUSPARSE_STATUS_SUCCESS;
  for (int64_t tap = 0; tap < taps && !status; ++tap) {
    status = Product<T>(handle, s, pass, csr, dense, out, tap).run(scratch);
  }
  return status;
}

#define SPARSETRAIN_INSTANTIATE(T)                                                           \
  template cusparseStatus_t spmm_scratch_bytes<T>(cusparseHandle_t, const ConvShape&, Pass,  \
                                                  const Csr<T>&, const T*, void*, size_t*);  \
  template cusparseStatus_t spmm<T>(cusparseHandle_t, const ConvShape&, Pass, const Csr<T>&, \
                                    const T*, void*, void*);
SPARSETRAIN_INSTANTIATE(float)
SPARSETRAIN_INSTANTIATE(double)
SPARSETRAIN_INSTANTIATE(BFloat16)
SPARSETRAIN_INSTANTIATE(Half)
#undef SPARSETRAIN_INSTANTIATE

}  // namespace sparsetrain::cuda
