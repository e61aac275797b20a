// Compaction of dy into CSR matrices for backend "cusparse": own kernels (csr.cu) build them,
// spmm.h multiplies them, and csrc/torch/cuda/cusparse_conv.cpp calls both. Both gradients are
// products of a CSR matrix, which holds the nonzeros of dy, and a dense matrix:
//
//   grad_weight   dw[tap] [K, C] = dy [K, pixels] * x[tap] [pixels, C], one product a tap
//   grad_input    dx [N*H*W, C] = patches [N*H*W, R*S*K] * w [R*S*K, C], one product
//
// `pixels` are the pixels of x with its padding, [N, Hp, Wp]. Output pixel (n, p, q) becomes the
// column of the pixel that tap (0, 0) reads for it. x[tap] is the memory of x from tap_shift()
// pixels on, so that all taps share one CSR matrix and one copy of x. A row of `patches` holds the
// elements of dy that the taps connect with one pixel of x.
//
// Order of calls: mark_nonzeros() once; count_entries() for each wanted matrix; then the host reads
// the number of entries and allocates; write_csr() for each matrix. All enqueue on `stream`,
// allocate nothing and do not wait. There are no atomics: the position of an entry depends on dy
// alone.
//
// All pointers are device pointers; tensors are channels_last, dy is [N,P,Q,K]. Shapes and passes
// are those for which choose_on_cuda() (csrc/choice) may answer "cusparse": even if dy had no
// zeros, all entries could be counted in 31 bits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../../shape.h"

namespace sparsetrain::cuda {

// A sparse matrix in compressed rows, in the caller's memory. Columns ascend within each row.
template <class T>
struct Csr {
  int64_t rows, columns, entries;
  int* start;   // [rows + 1]: row i has entries [start[i], start[i + 1])
  int* column;  // [entries]
  T* value;     // [entries]
};

// Height and width of x with its padding.
inline int64_t padded_height(const ConvShape& s) { return s.H + 2 * s.pad_h; }
inline int64_t padded_width(const ConvShape& s) { return s.W + 2 * s.pad_w; }
// Distance in pixels, in x with its padding, from tap (0, 0) to tap (r, t).
inline int64_t tap_shift(const ConvShape& s, int64_t r, int64_t t) {
  return r * s.dilation_h * padded_width(s) + t * s.dilation_w;
}
// Rows and columns of the CSR matrix of kGradInput or kGradWeight.
int64_t csr_rows(const ConvShape& s, Pass pass);
int64_t csr_columns(const ConvShape& s, Pass pass);

// Length of the bit map of dy: [N*P*Q] pixels of ceil(K / 32) words.
int64_t nonzero_words(const ConvShape& s);

// Fills bits[nonzero_words()]: bit k % 32 of word k / 32 of a pixel is set if channel k is not 0.
template <class T>
cudaError_t mark_nonzeros(const ConvShape& s, const T* dy, uint32_t* bits, cudaStream_t stream);

// Bytes of the memory that count_entries() fills and write_csr() reads, and that holds the
// temporary storage of the scan. Asks the CUDA runtime about the current device.
int64_t counts_bytes(const ConvShape& s, Pass pass);

// Counts the entries of one matrix: fills counts (counts_bytes() bytes, aligned to 16) and
// *entries.
cudaError_t count_entries(const ConvShape& s, Pass pass, const uint32_t* bits, void* counts,
                          int64_t* entries, cudaStream_t stream);

// Fills start, column and value of csr; its rows, columns and entries are already set.
template <class T>
cudaError_t write_csr(const ConvShape& s, Pass pass, const T* dy, const uint32_t* bits,
                      const void* counts, const Csr<T>& csr, cudaStream_t stream);

}  // namespace sparsetrain::cuda
