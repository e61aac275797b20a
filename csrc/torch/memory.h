// Memory formats: what order results have, and the dense storage behind a tensor.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "../kernels/common/state_slots.h"
#include "../kernels/common/storage.h"

namespace sparsetrain {

// Calls f(T{}) with T the kernels' name for t's storage type, one of the four that they have.
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

// torch's rule for convolutions: channels_last when either operand is; unbatched input has none.
inline at::MemoryFormat output_format(const at::Tensor& input, const at::Tensor& weight) {
  const bool channels_last =
      input.dim() == 4 && (input.suggest_memory_format() == at::MemoryFormat::ChannelsLast ||
                           weight.suggest_memory_format() == at::MemoryFormat::ChannelsLast);
  return channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// `format` where t has the four dimensions it needs.
inline at::MemoryFormat format_for(const at::Tensor& t, at::MemoryFormat format) {
  return t.dim() == 4 ? format : at::MemoryFormat::Contiguous;
}

// t itself when its elements fill one block of memory without gaps or overlaps, else a contiguous
// copy.
inline at::Tensor dense_storage(const at::Tensor& t) {
  return t.is_non_overlapping_and_dense() ? t : t.contiguous();
}

// An empty tensor in the memory order of dense_storage(t).
inline at::Tensor empty_in_order_of(const at::Tensor& t) {
  return at::empty_like(
      t, {},
      t.is_non_overlapping_and_dense() ? at::MemoryFormat::Preserve : at::MemoryFormat::Contiguous);
}

// Memory of so many bytes on t's device.
inline at::Tensor bytes_beside(const at::Tensor& t, int64_t bytes) {
  return at::empty({bytes}, t.options().dtype(at::kByte));
}

// The memory order of a tensor that dense_storage returned.
inline state::Layout layout_of(const at::Tensor& t) {
  if (t.is_contiguous()) return state::kContiguous;
  if (t.dim() == 4 && t.is_contiguous(at::MemoryFormat::ChannelsLast)) return state::kChannelsLast;
  return state::kOther;
}

}  // namespace sparsetrain
