// The products of csr.h, by cuSPARSE.
#pragma once

#include <cusparse.h>

#include "csr.h"

namespace sparsetrain::cuda {

// Channels from one pixel of x, or output channel of dw, to the next in grad_weight: with whole 16
// bytes of them the matrices of every tap are aligned to 16 bytes, as cuSPARSE may ask of pointers.
template <class T>
constexpr int64_t channel_pitch(int64_t channels) {
  constexpr int64_t kWhole = 16 / static_cast<int64_t>(sizeof(T));
  return (channels + kWhole - 1) / kWhole * kWhole;
}

// What `dense` and `out` of spmm are, each aligned to 16 bytes:
//   kGradInput: w [R,S,K,C], and dx [N,H,W,C] of T
//   kGradWeight: x with its padding, [N,Hp,Wp,pitch], and dw [R,S,K,pitch] of Storage<T>::Compute,
//     of which the channels from C on are not written. dw is as exact as the sums: a row is as
//     long as the batch has pixels, and nothing says in what cuSPARSE keeps parts of one.
// csr has entries. Every sum is in Storage<T>::Compute, and the same operands give the same bits.

// *bytes: how much scratch spmm needs, aligned to 16 bytes.
template <class T>
cusparseStatus_t spmm_scratch_bytes(cusparseHandle_t handle, const ConvShape& s, Pass pass,
                                    const Csr<T>& csr, const T* dense, void* out, size_t* bytes);

// Enqueues on the handle's stream.
template <class T>
cusparseStatus_t spmm(cusparseHandle_t handle, const ConvShape& s, Pass pass, const Csr<T>& csr,
                      const T* dense, void* out, void* scratch);

}  // namespace sparsetrain::cuda
