// The workarounds of aten_conv.h. A fault that a newer torch does not have is reported by
// tests/ops/test_upstream.py, so that its workaround can be removed.
#include "aten_conv.h"

#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>

#include <algorithm>

#include "../memory.h"

namespace sparsetrain {
namespace {

// Whether results are wrong, or the heap is corrupted, unless every operand is contiguous. This
// holds for grouped channels_last weights with unbatched or float64 input, for channels_last 1x1
// kernels with unequal strides, and for channels_last images of one channel, whose memory is
// contiguous as well. Batched float32 with groups needs no copies; with depthwise kernels a copy
// would cost several times the convolution.
bool needs_contiguous(const ConvShape& s, const at::Tensor& x, bool unbatched) {
  const bool grouped = s.groups > 1 && (unbatched || x.scalar_type() == at::kDouble);
  return grouped || s.C == 1 || (s.R == 1 && s.S == 1 && s.stride_h != s.stride_w);
}

// An operand with strides that ATen takes: those of its own memory format, or contiguous.
at::Tensor for_aten(const at::Tensor& t, bool contiguous) {
  auto format = contiguous ? at::MemoryFormat::Contiguous : t.suggest_memory_format();
  // suggest_memory_format() misses channels_last tensors with unusual strides of a size of 1.
  if (!contiguous && !t.is_contiguous() && t.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    format = at::MemoryFormat::ChannelsLast;
  }
  return with_exact_strides(t, format);
}

// The bfloat16 forward is wrong for some sizes with one channel per group and several filters for
// it, and with dilated kernels on processors with AMX. It runs in float32.
at::ScalarType type_for_forward(const ConvShape& s, const at::Tensor& x) {
  const auto type = x.scalar_type();
  const bool several = s.groups > 1 && s.C == s.groups && s.K > s.groups;
  const bool dilated = s.dilation_h > 1 || s.dilation_w > 1;
  return (several || dilated) && type == at::kBFloat16 ? at::kFloat : type;
}

// The bfloat16 weight gradient of dilated kernels stays partly unwritten with groups, and with
// numbers of channels that are no multiple of 16. It runs in float32.
at::ScalarType type_for_backward(const ConvShape& s, const at::Tensor& x) {
  const bool dilated = s.dilation_h > 1 || s.dilation_w > 1;
  const auto type = x.scalar_type();
  return dilated && (s.groups > 1 || s.C % 16 != 0) && type == at::kBFloat16 ? at::kFloat : type;
}

// ATen leaves the gradient of taps that only meet padding unwritten. Sets it to 0.
void clear_padding_taps(const ConvShape& s, const at::Tensor& dw) {
  const auto clear = [&](int64_t dim, int64_t taps, int64_t out, int64_t size, int64_t stride,
                         int64_t pad, int64_t dilation) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      bool only_padding = true;
      for (int64_t i = 0; only_padding && i < out; ++i) {
        const int64_t at = i * stride - pad + tap * dilation;
        only_padding = at < 0 || at >= size;
      }
      if (only_padding) dw.select(dim, tap).zero_();
    }
  };
  clear(2, s.R, s.P(), s.H, s.stride_h, s.pad_h, s.dilation_h);
  clear(3, s.S, s.Q(), s.W, s.stride_w, s.pad_w, s.dilation_w);
}

}  // namespace

bool right_as_it_is(const ConvShape& s, const at::Tensor& x, const at::Tensor& w) {
  const auto unchanged = [](const at::Tensor& t) { return for_aten(t, false).is_same(t); };
  return x.scalar_type() == at::kFloat && !needs_contiguous(s, x, false) &&
         std::min({s.N, s.H, s.W, s.K, s.P(), s.Q()}) > 1 && unchanged(x) && unchanged(w);
}

at::Tensor aten_forward(const ConvShape& s, const at::Tensor& x, const at::Tensor& w,
                        const std::optional<at::Tensor>& bias, bool unbatched) {
  const bool contiguous = needs_contiguous(s, x, unbatched);
  const auto type = type_for_forward(s, x);
  const auto ready = [&](const at::Tensor& t) { return for_aten(t.to(type), contiguous); };
  const auto b = bias ? std::optional(bias->to(type)) : std::nullopt;
  return at::convolution(ready(x), ready(w), b, {s.stride_h, s.stride_w}, {s.pad_h, s.pad_w},
                         {s.dilation_h, s.dilation_w}, false, {0, 0}, s.groups)
      .to(x.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> aten_backward(
    const ConvShape& s, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
    std::array<bool, 3> mask, bool unbatched) {
  const bool contiguous = needs_contiguous(s, x, unbatched);
  const auto type = type_for_backward(s, x);
  const auto ready = [&](const at::Tensor& t) { return for_aten(t.to(type), contiguous); };
  auto [dx, dw, db] = at::convolution_backward(
      ready(dy), ready(x), ready(w), at::IntArrayRef({s.K}), {s.stride_h, s.stride_w},
      {s.pad_h, s.pad_w}, {s.dilation_h, s.dilation_w}, false, {0, 0}, s.groups, mask);
  // Calls that torch computes right keep its results, with NaN where it has NaN.
  if (mask[1] && !right_as_it_is(s, x, w)) clear_padding_taps(s, dw);
  const auto back = [&](const at::Tensor& t) { return t.defined() ? t.to(x.scalar_type()) : t; };
  return {back(dx), back(dw), back(db)};
}

}  // namespace sparsetrain
