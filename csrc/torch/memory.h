// How tensors lie in memory: operands in an order that a kernel takes, and the order of results.
//
// Each helper returns the tensor itself if it already has the order, else a copy:
//   in_one_piece        for loops over memory that need no order: pruning, sampling, extremes
//   in_kernel_order     for the sparse CPU kernels, which take NCHW and channels_last
//   with_exact_strides  for ATen's CPU convolutions, which are wrong for some unusual strides
//   pixels_of           for the CUDA kernels, which take [N,H,W,C]
//   padded_pixels       for the CUDA kernels that load whole 16 bytes of [N,H,W,C]
//   aligned             for other operands of which kernels load whole 16 bytes
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include "../kernels/common/state_slots.h"
#include "../kernels/common/storage.h"

namespace sparsetrain {

// Calls f(T{}) with T the kernels' name for the storage type of t, one of the four that they take.
template <class F>
void for_storage(const at::Tensor& t, const F& f) {
  switch (t.scalar_type()) {
    case at::kDouble:
      return f(double{});
    case at::kBFloat16:
      return f(BFloat16{});
    case at::kHalf:
      return f(Half{});
    default:
      TORCH_INTERNAL_ASSERT(t.scalar_type() == at::kFloat);
      return f(float{});
  }
}

// The elements fill one block of memory without gaps or overlaps, in any order.
inline at::Tensor in_one_piece(const at::Tensor& t) {
  return t.is_non_overlapping_and_dense() ? t : t.contiguous();
}

// An empty tensor in the memory order of in_one_piece(t).
inline at::Tensor empty_in_order_of(const at::Tensor& t) {
  return at::empty_like(
      t, {},
      t.is_non_overlapping_and_dense() ? at::MemoryFormat::Preserve : at::MemoryFormat::Contiguous);
}

// The memory order of a tensor that in_one_piece returned. Masks of pruning depend on it.
inline state::Layout layout_of(const at::Tensor& t) {
  if (t.is_contiguous()) return state::kContiguous;
  if (t.dim() == 4 && t.is_contiguous(at::MemoryFormat::ChannelsLast)) return state::kChannelsLast;
  return state::kOther;
}

// [A,B,I,J] in the order of NCHW or of channels_last.
inline at::Tensor in_kernel_order(const at::Tensor& t) {
  const bool fine = t.is_contiguous() || t.is_contiguous(at::MemoryFormat::ChannelsLast);
  return fine ? t : t.contiguous();
}

// [A,B,I,J] in `format`, with the strides of that format also where a size of 1 allows any stride.
// Sizes may be symbolic.
inline at::Tensor with_exact_strides(const at::Tensor& t, at::MemoryFormat format) {
  const c10::SymInt B = t.sym_size(1), I = t.sym_size(2), J = t.sym_size(3);
  const at::Tensor dense = t.contiguous(format);
  const bool last = format == at::MemoryFormat::ChannelsLast;
  const c10::SymInt strides[] = {B * I * J, last ? c10::SymInt(1) : I * J, last ? J * B : J,
                                 last ? B : c10::SymInt(1)};
  if (dense.sym_strides() == c10::SymIntArrayRef(strides)) return dense;
  return dense.as_strided_symint(t.sym_sizes(), strides);
}

// [N,C,H,W] as contiguous [N,H,W,C].
inline at::Tensor pixels_of(const at::Tensor& t) { return t.permute({0, 2, 3, 1}).contiguous(); }
// [N,H,W,C] as [N,C,H,W], in the same memory.
inline at::Tensor from_pixels(const at::Tensor& t) { return t.permute({0, 3, 1, 2}); }

// Contiguous, and begins at a multiple of 16 bytes.
inline at::Tensor aligned(const at::Tensor& t) {
  const at::Tensor dense = t.contiguous();
  return reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % 16 == 0 ? dense : dense.clone();
}

// [N,C,H,W] as aligned [N, H + 2 pad_h, W + 2 pad_w, pitch], with zeros in the padding and in the
// channels from C on.
inline at::Tensor padded_pixels(const at::Tensor& t, int64_t pitch, int64_t pad_h = 0,
                                int64_t pad_w = 0) {
  const int64_t N = t.size(0), C = t.size(1), H = t.size(2), W = t.size(3);
  const at::Tensor pixels = t.permute({0, 2, 3, 1});
  if (pad_h == 0 && pad_w == 0 && pitch == C) return aligned(pixels);
  const at::Tensor padded = at::zeros({N, H + 2 * pad_h, W + 2 * pad_w, pitch}, t.options());
  padded.narrow(1, pad_h, H).narrow(2, pad_w, W).narrow(3, 0, C).copy_(pixels);
  return padded;
}

// Uninitialized scratch memory on the device of t.
inline at::Tensor scratch_beside(const at::Tensor& t, int64_t bytes) {
  return at::empty({bytes}, t.options().dtype(at::kByte));
}

}  // namespace sparsetrain
