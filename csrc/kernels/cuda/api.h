// What the CUDA backend offers: launchers. Each enqueues on `stream` and returns the error of its
// launches; none allocates, synchronises or looks at device memory from the host, so that all of
// them can be captured into a graph. Pointers are device pointers, to elements in memory order.
#pragma once

#include <cuda_runtime_api.h>

#include "../../shape.h"
#include "../common/prune_state.h"

namespace sparsetrain::cuda {

// Bytes of scratch, aligned to 16, that prune and prune_step need.
int64_t prune_scratch_bytes(int64_t elements);

// Prunes grad[elements] into out[elements], which do not overlap, by *threshold and rng = (seed,
// offset), bit for bit as the CPU; stats[3]: sum |g|, nonzeros before and after.
template <class T>
cudaError_t prune(const T* grad, T* out, int64_t elements, const double* threshold,
                  const int64_t* rng, void* scratch, double* stats, cudaStream_t stream);

// The same with the threshold that state[kFifo + call.history] predicts, and updates state. A call
// that admit() refuses ends in a device assertion, as torch's own index errors do. *density, unless
// nullptr, becomes nonzeros / elements of out; it may be pinned memory that the host reads from
// meanwhile.
template <class T>
cudaError_t prune_step(const T* grad, T* out, const PruneCall& call, double* state, double* density,
                       void* scratch, cudaStream_t stream);

// Bytes of scratch, aligned to 8, that observe needs.
int64_t count_nonzeros_scratch_bytes(int64_t elements);

// Counts the nonzeros of data[elements] into state[kCounterSlots], and their share into *density
// as prune_step does, on every `every`-th call; the other calls read nothing but the state.
template <class T>
cudaError_t count_nonzeros(const T* data, int64_t elements, int64_t every, double* state,
                           double* density, void* scratch, cudaStream_t stream);

// The convolutions below take the shapes for which choose_on_cuda() may answer "sparse".

// Bytes of scratch, aligned to 16; often 0.
template <class T>
int64_t gather_scratch_bytes(const ConvShape& s, Pass pass);

// The forward: y [N,P,Q,K] of x [N,H,W,C] and matrix [R,S,C,K], plus bias [K] unless nullptr; or
// grad_input: dx [N,H,W,C] of dy [N,P,Q,K] and matrix [R,S,K,C]. Skips the zeros of x, of dy. Rows
// of the matrix are matrix_pitch(columns) apart, filled up with zeros; it and out are aligned to 16
// bytes.
constexpr int64_t matrix_pitch(int64_t columns) { return (columns + 3) / 4 * 4; }
template <class T>
cudaError_t gather(const ConvShape& s, Pass pass, const T* source, const T* matrix, const T* bias,
                   T* out, void* scratch, cudaStream_t stream);

template <class T>
int64_t grad_weight_scratch_bytes(const ConvShape& s);

// dw [K,R,S,C] of dy [N,P,Q,K] and x [N,H,W,C]. Skips the zeros of dy. C is a multiple of 4; x and
// dw are aligned to 16 bytes.
template <class T>
cudaError_t grad_weight(const ConvShape& s, const T* dy, const T* x, T* dw, void* scratch,
                        cudaStream_t stream);

}  // namespace sparsetrain::cuda
