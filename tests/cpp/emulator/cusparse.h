// The emulator's cuSPARSE, as far as csrc/kernels/cuda/spmm.cu calls it: a serial product on the
// CPU with sums in the compute type. It checks everything that cuSPARSE requires of the operands or
// may require; stderr shows the condition that fails.
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

#define CUSPARSE_REQUIRE(condition)                                  \
  if (!(condition)) {                                                \
    std::fprintf(stderr, "%s: %s is false\n", __func__, #condition); \
    return CUSPARSE_STATUS_INVALID_VALUE;                            \
  }

inline bool is_aligned(const void* p) { return p && reinterpret_cast<uintptr_t>(p) % 16 == 0; }
inline bool in_31_bits(int64_t n) { return n > 0 && n < int64_t{1} << 31; }

// Calls f(T{}) with the storage type T of storage.h for a type of cuSPARSE.
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

// Checks that starts and columns are in range and ascending.
inline cusparseStatus_t check_indices(const cusparseSpMatDescr& a) {
  CUSPARSE_REQUIRE(a.start[0] == 0 && a.start[a.rows] == a.entries);
  for (int64_t row = 0; row < a.rows; ++row) {
    CUSPARSE_REQUIRE(a.start[row] <= a.start[row + 1]);
    for (int i = a.start[row]; i < a.start[row + 1]; ++i) {
      CUSPARSE_REQUIRE(a.column[i] >= 0 && a.column[i] < a.columns);
      CUSPARSE_REQUIRE(i == a.start[row] || a.column[i - 1] < a.column[i]);
    }
  }
  return CUSPARSE_STATUS_SUCCESS;
}

// Checks sizes and types of a product.
inline cusparseStatus_t check_product(cusparseOperation_t, cusparseOperation_t,
                                      const cusparseSpMatDescr& a, const cusparseDnMatDescr& b,
                                      const cusparseDnMatDescr& c, cudaDataType compute,
                                      cusparseSpMMAlg_t algorithm) {
  const bool half = a.type == CUDA_R_16F || a.type == CUDA_R_16BF;
  CUSPARSE_REQUIRE(a.columns == b.rows && a.rows == c.rows && b.columns == c.columns);
  CUSPARSE_REQUIRE(a.type == b.type && (c.type == a.type || (half && c.type == CUDA_R_32F)));
  CUSPARSE_REQUIRE(compute == (a.type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F));
  CUSPARSE_REQUIRE(algorithm == CUSPARSE_SPMM_CSR_ALG3);
  return CUSPARSE_STATUS_SUCCESS;
}

// Whether *scalar, of this type, equals a value.
inline bool equals(cudaDataType type, const void* scalar, float value) {
  return type == CUDA_R_64F ? *static_cast<const double*>(scalar) == value
                            : *static_cast<const float*>(scalar) == value;
}

inline size_t scratch_bytes(const cusparseSpMatDescr& a) {
  return 16 + static_cast<size_t>(a.rows) * sizeof(int);
}

template <class Descriptor>
cusparseStatus_t dense_matrix(Descriptor* made, int64_t rows, int64_t columns, int64_t pitch,
                              const void* value, cudaDataType type, cusparseOrder_t order) {
  CUSPARSE_REQUIRE(in_31_bits(rows) && in_31_bits(columns) && pitch >= columns);
  CUSPARSE_REQUIRE(in_31_bits(rows * pitch) && order == CUSPARSE_ORDER_ROW && is_aligned(value));
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
  CUSPARSE_REQUIRE(in_31_bits(rows) && in_31_bits(columns) && in_31_bits(entries));
  CUSPARSE_REQUIRE(start_type == CUSPARSE_INDEX_32I && column_type == CUSPARSE_INDEX_32I);
  CUSPARSE_REQUIRE(is_aligned(start) && is_aligned(column) && is_aligned(value));
  *made = new cusparseSpMatDescr{
      rows,  columns, entries, static_cast<const int*>(start), static_cast<const int*>(column),
      value, type};
  return check_indices(**made);
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
  return emulator::check_product(of_a, of_b, *a, *b, *c, compute, algorithm);
}

// c = a * b. beta is 0, so that c may hold NaN before.
inline cusparseStatus_t cusparseSpMM(cusparseHandle_t, cusparseOperation_t of_a,
                                     cusparseOperation_t of_b, const void* alpha,
                                     cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t b,
                                     const void* beta, cusparseDnMatDescr_t c, cudaDataType compute,
                                     cusparseSpMMAlg_t algorithm, void* scratch) {
  using namespace emulator;
  if (const auto status = check_product(of_a, of_b, *a, *b, *c, compute, algorithm)) return status;
  CUSPARSE_REQUIRE(equals(compute, alpha, 1) && equals(compute, beta, 0) && is_aligned(scratch));
  std::memset(scratch, 0x7f, scratch_bytes(*a));
  for_type(a->type, [&](auto t) {
    for_type(c->type, [&](auto out) { multiply<decltype(t), decltype(out)>(*a, *b, *c); });
  });
  return CUSPARSE_STATUS_SUCCESS;
}
