// torch's own convolution in place of conv2d. See plain_conv.h.
#include "plain_conv.h"

#include <ATen/ops/convolution.h>

#include "passes.h"

namespace sparsetrain {

std::optional<at::Tensor> plain_conv2d(const ConvCall& call, c10::DispatchKeySet keys) {
  if (call.backend != Backend::kAuto && call.backend != Backend::kDense) return std::nullopt;
  const ConvDevice* device = conv_device(keys);
  // torch computes gradients of single images by other code, with faults of its own.
  if (!device || call.input.dim() != 4) return std::nullopt;
  const ConvShape s = call.shape();
  if (!device->is_plain(call, s)) return std::nullopt;
  return at::convolution(call.input, call.weight, call.bias, {s.stride_h, s.stride_w},
                         {s.pad_h, s.pad_w}, {s.dilation_h, s.dilation_w}, false, {0, 0}, s.groups)
      .contiguous(call.format());
}

}  // namespace sparsetrain
