// The driver of the three passes of a convolution, for both devices. Each device supplies an
// ordered list of implementations; the first that accepts a pass computes it. The last one is
// ATen's dense convolution, which accepts everything.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include <array>
#include <optional>
#include <tuple>

#include "conv_call.h"

namespace sparsetrain {

// What one call computes: its operands as batches, and the results so far. conv2d asks for the
// forward alone, conv2d_backward for some of the three gradients.
struct Passes {
  Passes(const ConvCall& call, bool forward, const at::Tensor& grad_output,
         std::array<bool, 3> output_mask);

  const ConvCall& call;
  const ConvShape shape;
  const at::MemoryFormat format;
  const bool unbatched;   // the input was a single image
  at::Tensor x, w, dy;    // [N,C,H,W], [K,C/groups,R,S] and, in conv2d_backward, [N,K,P,Q]
  at::Tensor results[3];  // in the order of Pass, in any memory format; undefined if not computed
  at::Tensor grad_bias;

  // Whether a pass was asked for and no implementation has computed it yet.
  bool pending(Pass pass) const {
    return asked_[static_cast<int>(pass)] && !result(pass).defined();
  }
  bool grad_bias_pending() const { return asked_bias_ && !grad_bias.defined(); }

  at::Tensor& result(Pass pass) { return results[static_cast<int>(pass)]; }
  const at::Tensor& result(Pass pass) const { return results[static_cast<int>(pass)]; }

  // Computes everything that is pending for a batch of no images.
  void fill_empty();

 private:
  bool asked_[3], asked_bias_;
  c10::OptionalDeviceGuard guard_;  // CUDA kernels run on the current device
};

// Computes those pending passes that it accepts, and leaves the others.
using Implementation = void (*)(Passes& passes);

// ATen's convolution of batches, and its gradients (dx, dw, db) where the mask asks for them. The
// last argument is Passes::unbatched.
using DenseForward = at::Tensor (*)(const ConvShape& shape, const at::Tensor& x,
                                    const at::Tensor& w, const std::optional<at::Tensor>& bias,
                                    bool unbatched);
using DenseBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor> (*)(
    const ConvShape& shape, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
    std::array<bool, 3> mask, bool unbatched);

// The last implementation of each device: computes everything that is pending.
void run_dense(Passes& passes, DenseForward forward, DenseBackward backward);

struct ConvDevice {
  // In order of preference, ending in the dense one. Null entries are skipped.
  std::array<Implementation, 3> implementations;
  // Whether torch's own convolution with torch's own derivative serves a call: every pass is dense
  // at any density, and torch computes it right without help.
  bool (*is_plain)(const ConvCall& call, const ConvShape& shape);
};

// Each device's file calls this as the library is loaded. `device` lives forever.
void register_conv_device(c10::DeviceType type, const ConvDevice* device);

// The device that a call on such keys runs on, if no other key comes first: a dispatch mode, a
// tensor subclass, or a type of tensor that is not dense. Null otherwise.
const ConvDevice* conv_device(c10::DispatchKeySet keys);

// The operators on a device.
at::Tensor run_conv2d(const ConvCall& call, const ConvDevice& device);
std::tuple<at::Tensor, at::Tensor, at::Tensor> run_conv2d_backward(const ConvBackwardCall& call,
                                                                   const ConvDevice& device);

// Keys without those of autograd.
inline c10::DispatchKeySet below_autograd(c10::DispatchKeySet keys) {
  return keys & c10::after_ADInplaceOrView_keyset;
}

}  // namespace sparsetrain
