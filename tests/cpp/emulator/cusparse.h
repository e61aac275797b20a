// cuSPARSE as far as csrc/kernels/cuda/spmm.cu uses it, on a CPU: a product row by row, summed in
// the compute type. What the library asks of operands, and what it may ask, is checked; an answer
// other than success follows a line on stderr.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "cuda_runtime_api.h"
#include "kernels/common/storage.h"

enum cudaDataType { CUDA_R_32F, CUDA_R_64F, CUDA_R_16F, CUDA_R_16BF };
enum cusparseStatus_t { CUSPARSE_STATUS_SUCCESS = 0, CUSPARSE_STATUS_INVALID_VALUE = 3 };
enum cusparseIndexType_t { CUSPARSE_INDEX_32I = 2, CUSPARSE_INDEX_64I };
enum cusparseIndexBase_t { CUSPARSE_INDEX_BASE_ZERO };
enum cusparseOrder_t { CUSPARSE_ORDER_COL = 1, CUSPARSE_ORDER_ROW };
enum cusparseOperation_t { CUSPARSE_OPERATION_NON_TRANSPOSE };
enum cusparseSpMMAlg_t { CUSPARSE_SPMM_CSR_ALG2 = 6, CUSPARSE_SPMM_CSR_ALG3 = 12 };

struct cusparseContext {};
struct cusparseSpMatDescr {
  int64_t rows, columns, entries;
  const int *start, *column;
  const void* value;
  cudaDataType type;
};
struct cusparseDnMatDescr {
  int64_t rows, columns, pitch;
  void* value;
  cudaDataType type;
};
using cusparseHandle_t = cusparseContext*;
using cusparseConstSpMatDescr_t = const cusparseSpMatDescr*;
using cusparseConstDnMatDescr_t = const cusparseDnMatDescr*;
using cusparseDnMatDescr_t = cusparseDnMatDescr*;

namespace emulator {

#define CUSPARSE_ASKS(condition)                                     \
  if (!(condition)) {                                                \
    std::fprintf(stderr, "%s: %s is false\n", __func__, #condition); \
    return CUSPARSE_STATUS_INVALID_VALUE;                            \
  }

inline bool whole(const void* p) { return p && reinterpret_cast<uintptr_t>(p) % 16 == 0; }
inline bool in_31_bits(int64_t n) { return n > 0 && n < int64_t{1} << 31; }

// f(T{}) for the type's own name of its storage.
template <class F>
void for_type(cudaDataType type, const F& f) {
  if (type == CUDA_R_64F) return f(double{});
  if (type == CUDA_R_16F) return f(sparsetrain::Half{});
  if (type == CUDA_R_16BF) return f(sparsetrain::BFloat16{});
  f(float{});
}

template <class T, class Out>
void multiply(const cusparseSpMatDescr& a, const cusparseDnMatDescr& b,
              const cusparseDnMatDescr& c) {
  using sparsetrain::Storage;
  using Compute = typename Storage<T>::Compute;
  const T *value = static_cast<const T*>(a.value), *dense = static_cast<const T*>(b.value);
  for (int64_t row = 0; row < a.rows; ++row)
    for (int64_t column = 0; column < c.columns; ++column) {
      Compute sum = 0;
      for (int i = a.start[row]; i < a.start[row + 1]; ++i) {
        sum += Storage<T>::load(value[i]) * Storage<T>::load(dense[a.column[i] * b.pitch + column]);
      }
      static_cast<Out*>(c.value)[row * c.pitch + column] =
          Storage<Out>::store(static_cast<typename Storage<Out>::Compute>(sum));
    }
}

inline cusparseStatus_t indices_are_right(const cusparseSpMatDescr& a) {
  CUSPARSE_ASKS(a.start[0] == 0 && a.start[a.rows] == a.entries);
  for (int64_t row = 0; row < a.rows; ++row) {
    CUSPARSE_ASKS(a.start[row] <= a.start[row + 1]);
    for (int i = a.start[row]; i < a.start[row + 1]; ++i) {
      CUSPARSE_ASKS(a.column[i] >= 0 && a.column[i] < a.columns);
      CUSPARSE_ASKS(i == a.start[row] || a.column[i - 1] < a.column[i]);
    }
  }
  return CUSPARSE_STATUS_SUCCESS;
}

inline cusparseStatus_t fit(cusparseOperation_t, cusparseOperation_t, const cusparseSpMatDescr& a,
                            const cusparseDnMatDescr& b, const cusparseDnMatDescr& c,
                            cudaDataType compute, cusparseSpMMAlg_t algorithm) {
  const bool half = a.type == CUDA_R_16F || a.type == CUDA_R_16BF;
  CUSPARSE_ASKS(a.columns == b.rows && a.rows == c.rows && b.columns == c.columns);
  CUSPARSE_ASKS(a.type == b.type && (c.type == a.type || (half && c.type == CUDA_R_32F)));
  CUSPARSE_ASKS(compute == (a.type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F));
  CUSPARSE_ASKS(algorithm == CUSPARSE_SPMM_CSR_ALG3);
  return CUSPARSE_STATUS_SUCCESS;
}

inline bool is(cudaDataType type, const void* scalar, float wanted) {
  return type == CUDA_R_64F ? *static_cast<const double*>(scalar) == wanted
                            : *static_cast<const float*>(scalar) == wanted;
}

inline size_t scratch_bytes(const cusparseSpMatDescr& a) {
  return 16 + static_cast<size_t>(a.rows) * sizeof(int);
}

template <class Descriptor>
cusparseStatus_t dense_matrix(Descriptor* made, int64_t rows, int64_t columns, int64_t pitch,
                              const void* value, cudaDataType type, cusparseOrder_t order) {
  CUSPARSE_ASKS(in_31_bits(rows) && in_31_bits(columns) && pitch >= columns);
  CUSPARSE_ASKS(in_31_bits(rows * pitch) && order == CUSPARSE_ORDER_ROW && whole(value));
  *made = new cusparseDnMatDescr{rows, columns, pitch, const_cast<void*>(value), type};
  return CUSPARSE_STATUS_SUCCESS;
}

}  // namespace emulator

inline cusparseStatus_t cusparseCreateConstCsr(cusparseConstSpMatDescr_t* made, int64_t rows,
                                               int64_t columns, int64_t entries, const void* start,
                                               const void* column, const void* value,
                                               cusparseIndexType_t start_type,
                                               cusparseIndexType_t column_type, cusparseIndexBase_t,
                                               cudaDataType type) {
  using namespace emulator;
  CUSPARSE_ASKS(in_31_bits(rows) && in_31_bits(columns) && in_31_bits(entries));
  CUSPARSE_ASKS(start_type == CUSPARSE_INDEX_32I && column_type == CUSPARSE_INDEX_32I);
  CUSPARSE_ASKS(whole(start) && whole(column) && whole(value));
  *made = new cusparseSpMatDescr{
      rows,  columns, entries, static_cast<const int*>(start), static_cast<const int*>(column),
      value, type};
  return indices_are_right(**made);
}
inline cusparseStatus_t cusparseCreateConstDnMat(cusparseConstDnMatDescr_t* made, int64_t rows,
                                                 int64_t columns, int64_t pitch, const void* value,
                                                 cudaDataType type, cusparseOrder_t order) {
  return emulator::dense_matrix(made, rows, columns, pitch, value, type, order);
}
inline cusparseStatus_t cusparseCreateDnMat(cusparseDnMatDescr_t* made, int64_t rows,
                                            int64_t columns, int64_t pitch, void* value,
                                            cudaDataType type, cusparseOrder_t order) {
  return emulator::dense_matrix(made, rows, columns, pitch, value, type, order);
}
inline cusparseStatus_t cusparseDestroySpMat(cusparseConstSpMatDescr_t made) {
  delete made;
  return CUSPARSE_STATUS_SUCCESS;
}
inline cusparseStatus_t cusparseDestroyDnMat(cusparseConstDnMatDescr_t made) {
  delete made;
  return CUSPARSE_STATUS_SUCCESS;
}

inline cusparseStatus_t cusparseSpMM_bufferSize(cusparseHandle_t, cusparseOperation_t of_a,
                                                cusparseOperation_t of_b, const void*,
                                                cusparseConstSpMatDescr_t a,
                                                cusparseConstDnMatDescr_t b, const void*,
                                                cusparseDnMatDescr_t c, cudaDataType compute,
                                                cusparseSpMMAlg_t algorithm, size_t* bytes) {
  *bytes = emulator::scratch_bytes(*a);
  return emulator::fit(of_a, of_b, *a, *b, *c, compute, algorithm);
}

// c = 1 a b + 0 c, in which 0 c is 0 whatever c held.
inline cusparseStatus_t cusparseSpMM(cusparseHandle_t, cusparseOperation_t of_a,
                                     cusparseOperation_t of_b, const void* alpha,
                                     cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t b,
                                     const void* beta, cusparseDnMatDescr_t c, cudaDataType compute,
                                     cusparseSpMMAlg_t algorithm, void* scratch) {
  using namespace emulator;
  if (const auto status = fit(of_a, of_b, *a, *b, *c, compute, algorithm)) return status;
  CUSPARSE_ASKS(is(compute, alpha, 1) && is(compute, beta, 0) && whole(scratch));
  std::memset(scratch, 0x7f, scratch_bytes(*a));
  for_type(a->type, [&](auto t) {
    for_type(c->type, [&](auto out) { multiply<decltype(t), decltype(out)>(*a, *b, *c); });
  });
  return CUSPARSE_STATUS_SUCCESS;
}
