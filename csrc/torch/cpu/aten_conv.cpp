// See aten_conv.h.
#include "aten_conv.h"

#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>

#include <algorithm>

namespace sparsetrain {
namespace {

// Wrong, or a corrupt heap, unless every operand is contiguous: grouped channels_last weights with
// unbatched or float64 input, channels_last 1x1 kernels with unequal strides, and channels_last
// images of one channel (whose memory is contiguous as well). Batched float32, depthwise above all,
// stays as it is: a copy costs several times such a convolution.
bool wants_contiguous(const ConvShape& s, const at::Tensor& x, bool unbatched) {
  const bool grouped = s.groups > 1 && (unbatched || x.scalar_type() == at::kDouble);
  return grouped || s.C == 1 || (s.R == 1 && s.S == 1 && s.stride_h != s.stride_w);
}

// t [A,B,I,J] in its own memory format or contiguous, with that format's strides also where a
// dimension of size 1 lets them be anything: for some of those results are wrong, too.
at::Tensor prepared(const at::Tensor& t, bool contiguous) {
  auto format = contiguous ? at::MemoryFormat::Contiguous : t.suggest_memory_format();
  if (!contiguous && !t.is_contiguous() && t.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    format = at::MemoryFormat::ChannelsLast;  // which its odd strides do not suggest
  }
  const int64_t B = t.size(1), I = t.size(2), J = t.size(3);
  const at::Tensor dense = t.contiguous(format);
  const std::array<int64_t, 4> last{B * I * J, 1, J * B, B}, first{B * I * J, I * J, J, 1};
  const at::IntArrayRef strides = format == at::MemoryFormat::ChannelsLast ? last : first;
  return dense.strides() == strides ? dense : dense.as_strided(t.sizes(), strides);
}

// The bfloat16 forward with one channel a group and several filters for it is wrong for some sizes:
// it runs in float32.
at::ScalarType type_for_forward(const ConvShape& s, const at::Tensor& x) {
  const auto type = x.scalar_type();
  const bool several = s.groups > 1 && s.C == s.groups && s.K > s.groups;
  return several && type == at::kBFloat16 ? at::kFloat : type;
}

// The bfloat16 weight gradient of dilated kernels is not all written with groups, or with channels
// that do not fill a vector of 16: they run in float32.
at::ScalarType type_for_backward(const ConvShape& s, const at::Tensor& x) {
  const bool dilated = s.dilation_h > 1 || s.dilation_w > 1;
  const auto type = x.scalar_type();
  return dilated && (s.groups > 1 || s.C % 16 != 0) && type == at::kBFloat16 ? at::kFloat : type;
}

// Nor taps that meet only padding: their gradient is 0.
void clear_idle_taps(const ConvShape& s, const at::Tensor& dw) {
  const auto clear = [&](int64_t dim, int64_t taps, int64_t out, int64_t size, int64_t stride,
                         int64_t pad, int64_t dilation) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      bool idle = true;
      for (int64_t i = 0; idle && i < out; ++i) {
        const int64_t at = i * stride - pad + tap * dilation;
        idle = at < 0 || at >= size;
      }
      if (idle) dw.select(dim, tap).zero_();
    }
  };
  clear(2, s.R, s.P(), s.H, s.stride_h, s.pad_h, s.dilation_h);
  clear(3, s.S, s.Q(), s.W, s.stride_w, s.pad_w, s.dilation_w);
}

}  // namespace

bool right_as_it_is(const ConvShape& s, const at::Tensor& x, const at::Tensor& w) {
  const auto as_prepared = [](const at::Tensor& t) { return prepared(t, false).is_same(t); };
  return x.scalar_type() == at::kFloat && !wants_contiguous(s, x, false) &&
         std::min({s.N, s.H, s.W, s.K, s.P(), s.Q()}) > 1 && as_prepared(x) && as_prepared(w);
}

at::Tensor dense_forward(const ConvShape& s, const at::Tensor& x, const at::Tensor& w,
                         const std::optional<at::Tensor>& bias, bool unbatched) {
  const bool contiguous = wants_contiguous(s, x, unbatched);
  const auto type = type_for_forward(s, x);
  const auto ready = [&](const at::Tensor& t) { return prepared(t.to(type), contiguous); };
  const auto b = bias ? std::optional(bias->to(type)) : std::nullopt;
  return at::convolution(ready(x), ready(w), b, {s.stride_h, s.stride_w}, {s.pad_h, s.pad_w},
                         {s.dilation_h, s.dilation_w}, false, {0, 0}, s.groups)
      .to(x.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> dense_backward(
    const ConvShape& s, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
    std::array<bool, 3> mask, bool unbatched) {
  const bool contiguous = wants_contiguous(s, x, unbatched);
  const auto type = type_for_backward(s, x);
  const auto ready = [&](const at::Tensor& t) { return prepared(t.to(type), contiguous); };
  auto [dx, dw, db] = at::convolution_backward(
      ready(dy), ready(x), ready(w), at::IntArrayRef({s.K}), {s.stride_h, s.stride_w},
      {s.pad_h, s.pad_w}, {s.dilation_h, s.dilation_w}, false, {0, 0}, s.groups, mask);
  if (mask[1] && !right_as_it_is(s, x, w)) clear_idle_taps(s, dw);  // else torch's, NaN and all
  const auto back = [&](const at::Tensor& t) { return t.defined() ? t.to(x.scalar_type()) : t; };
  return {back(dx), back(dw), back(db)};
}

}  // namespace sparsetrain
