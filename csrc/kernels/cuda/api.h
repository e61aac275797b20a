// CUDA launchers of pruning, of counting, and of the convolutions of backend "sparse", as
// csrc/torch/cuda calls them. (csr.h and spmm.h declare those of backend "cusparse".)
//
// Every launcher enqueues kernels on `stream` and returns the error of their launches. None of them
// allocates, synchronizes or reads device memory on the host, so all can be captured into a CUDA
// graph. All pointers are device pointers. The caller owns all memory, scratch included, and keeps
// it until the kernels have run; scratch needs no initial contents and keeps none.
//
// T is a storage type of storage.h: float, double, BFloat16 or Half. "Elements" are counted in
// memory order, without gaps. Equal operands give equal bits on every run.
#pragma once

#include <cuda_runtime_api.h>

#include "../../shape.h"
#include "../common/prune_state.h"

namespace sparsetrain::cuda {

// Bytes of scratch of prune and prune_step.
int64_t prune_scratch_bytes(int64_t elements);

// Prunes grad[elements] into out[elements], bit for bit as the CPU does (cpu/prune.h has the rule).
//   grad, out  do not overlap; read and written 16 bytes at a time if aligned to that
//   threshold  one double, rounded to T by rounded_threshold()
//   rng        two int64: the Philox key and the Philox counter of element 0
//   scratch    prune_scratch_bytes(elements), aligned to 16 bytes
//   stats      three doubles, written: sum of |grad|, nonzeros of grad, nonzeros of out
template <class T>
cudaError_t prune(const T* grad, T* out, int64_t elements, const double* threshold,
                  const int64_t* rng, void* scratch, double* stats, cudaStream_t stream);

// One call of a pruner: predicts the threshold from `state`, prunes as prune() does, and records
// the call in `state` (prune_state.h).
//   state    state::kFifo + call.history doubles, with the slots of state_slots.h
//   density  nullptr, or one double that receives nonzeros / elements of out (NaN if there are no
//            elements). Pinned host memory works: the host may read it without synchronizing.
// A call that admit() refuses fails a device assertion, as an index out of range does in PyTorch:
// stderr shows the message, and the next call that synchronizes reports an error.
template <class T>
cudaError_t prune_step(const T* grad, T* out, const PruneCall& call, double* state, double* density,
                       void* scratch, cudaStream_t stream);

// Bytes of scratch of count_nonzeros.
int64_t count_nonzeros_scratch_bytes(int64_t elements);

// Counts the nonzeros of data[elements] on calls 0, every, 2 * every, ...; all other calls only
// increment the counter of calls.
//   state    state::kCounterSlots doubles: calls so far, elements and nonzeros of the last count
//   density  as in prune_step
//   scratch  count_nonzeros_scratch_bytes(elements), aligned to 8 bytes
template <class T>
cudaError_t count_nonzeros(const T* data, int64_t elements, int64_t every, double* state,
                           double* density, void* scratch, cudaStream_t stream);

// The convolutions below accept the shapes for which choose_on_cuda() (csrc/choice) may answer
// "sparse". All tensors are channels_last: x [N,H,W,C], y and dy [N,P,Q,K]. Sums are in float, or
// in double if T is double.

// Elements from one row of gather's `matrix` to the next: `columns` rounded up to a multiple of 4.
constexpr int64_t matrix_pitch(int64_t columns) { return (columns + 3) / 4 * 4; }

// Bytes of scratch of gather; 0 unless the product is cut along its depth (product.cuh).
template <class T>
int64_t gather_scratch_bytes(const ConvShape& s, Pass pass);

// The forward, skipping zeros of x, or grad_input, skipping zeros of dy.
//   pass    kForward             kGradInput
//   source  x                    dy
//   matrix  w as [R,S,C,pitch]   w as [R,S,K,pitch], with pitch = matrix_pitch(columns)
//   bias    [K] or nullptr       nullptr
//   out     y                    dx [N,H,W,C]
// The matrix has K columns in the forward and C in grad_input; its elements beyond them are 0.
// matrix, out and scratch (of gather_scratch_bytes()) are aligned to 16 bytes.
template <class T>
cudaError_t gather(const ConvShape& s, Pass pass, const T* source, const T* matrix, const T* bias,
                   T* out, void* scratch, cudaStream_t stream);

// Bytes of scratch of grad_weight; 0 unless the product is cut along its depth (product.cuh).
template <class T>
int64_t grad_weight_scratch_bytes(const ConvShape& s);

// Computes dw [K,R,S,C], skipping zeros of dy. C must be a multiple of 4. x, dw and scratch (of
// grad_weight_scratch_bytes()) are aligned to 16 bytes.
template <class T>
cudaError_t grad_weight(const ConvShape& s, const T* dy, const T* x, T* dw, void* scratch,
                        cudaStream_t stream);

}  // namespace sparsetrain::cuda
