// The products of csr.h by cuSPARSE (backend "cusparse"), called by
// csrc/torch/cuda/cusparse_conv.cpp.
#pragma once

#include <cusparse.h>

#include "csr.h"

namespace sparsetrain::cuda {

// Elements from one pixel of x, and from one output channel of dw, to the next in grad_weight: the
// channels, rounded up to whole 16 bytes. Then the dense matrices of all taps begin at multiples of
// 16 bytes, which cuSPARSE may require.
template <class T>
constexpr int64_t channel_pitch(int64_t channels) {
  constexpr int64_t kWhole = 16 / static_cast<int64_t>(sizeof(T));
  return (channels + kWhole - 1) / kWhole * kWhole;
}

// Both functions take the operands of one gradient, as device pointers aligned to 16 bytes:
//   csr    of csr.h, with at least one entry
//   dense  kGradInput: w [R,S,K,C]. kGradWeight: x with its padding, [N,Hp,Wp,pitch].
//   out    kGradInput: dx [N,H,W,C] of T. kGradWeight: dw [R,S,K,pitch] of Storage<T>::Compute.
// pitch is channel_pitch<T>(C). The channels of dw from C on are not written. Sums are of type
// Storage<T>::Compute, and equal operands give equal bits. dw keeps that type because its rows are
// as long as the batch has pixels, and cuSPARSE does not document the precision in which it keeps
// partial sums of a narrower result.

// Writes the number of bytes of scratch that spmm needs to *bytes.
template <class T>
cusparseStatus_t spmm_scratch_bytes(cusparseHandle_t handle, const ConvShape& s, Pass pass,
                                    const Csr<T>& csr, const T* dense, void* out, size_t* bytes);

// Enqueues the products on the handle's stream. scratch is aligned to 16 bytes.
template <class T>
cusparseStatus_t spmm(cusparseHandle_t handle, const ConvShape& s, Pass pass, const Csr<T>& csr,
                      const T* dense, void* out, void* scratch);

}  // namespace sparsetrain::cuda
