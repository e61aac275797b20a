// The gradients as products of a CSR matrix, made of the nonzeros of dy, and a dense one:
//
// grad_weight: dw[tap] [K, C] = dy [K, pixels] * x[tap] [pixels, C], one product a tap. The pixels
//   are those of x with its padding, [N, Hp, Wp], and output pixel (n, p, q) is the one that tap
//   (0, 0) meets. x[tap] is x that many pixels further on, so that x is never copied tap by tap.
// grad_input: dx [N*H*W, C] = patches [N*H*W, R*S*K] * w [R*S*K, C]. A row of patches has what the
//   taps of a pixel of x meet in dy.
//
// A matrix is made in two steps, between which the host reads how many entries it has: dy's
// nonzeros as bits and their counts, then the entries. No atomics: places depend on dy alone.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../../shape.h"

namespace sparsetrain::cuda {

template <class T>
struct Csr {
  int64_t rows, columns, entries;
  int* start;   // [rows + 1]: where a row's entries begin
  int* column;  // [entries], ascending in each row
  T* value;     // [entries]
};

// The functions below take the shapes and passes for which choose_on_cuda() may answer "cusparse":
// even if no element of dy were 0, entries could be counted in 31 bits.

// Height and width of x with its padding.
inline int64_t padded_height(const ConvShape& s) { return s.H + 2 * s.pad_h; }
inline int64_t padded_width(const ConvShape& s) { return s.W + 2 * s.pad_w; }
// How many pixels tap (r, t) of x with its padding lies behind tap (0, 0).
inline int64_t tap_shift(const ConvShape& s, int64_t r, int64_t t) {
  return r * s.dilation_h * padded_width(s) + t * s.dilation_w;
}
// Rows and columns of the matrix of kGradInput or kGradWeight.
int64_t csr_rows(const ConvShape& s, Pass pass);
int64_t csr_columns(const ConvShape& s, Pass pass);

// Bits [N*P*Q][words of 32 channels] of dy [N,P,Q,K]: which elements are not 0.
int64_t nonzero_words(const ConvShape& s);
template <class T>
cudaError_t mark_nonzeros(const ConvShape& s, const T* dy, uint32_t* bits, cudaStream_t stream);

// Counts the entries of one matrix into *entries; `counts`, of counts_bytes(), is kept for
// write_csr.
int64_t counts_bytes(const ConvShape& s, Pass pass);
cudaError_t count_entries(const ConvShape& s, Pass pass, const uint32_t* bits, void* counts,
                          int64_t* entries, cudaStream_t stream);

// Fills what csr points to.
template <class T>
cudaError_t write_csr(const ConvShape& s, Pass pass, const T* dy, const uint32_t* bits,
                      const void* counts, const Csr<T>& csr, cudaStream_t stream);

}  // namespace sparsetrain::cuda
