// The shape of a convolution and the names of its three passes, used by every C++ folder.
#pragma once

#include <cstdint>

namespace sparsetrain {

// A convolution x [N,C,H,W] * w [K,C/groups,R,S] -> y [N,K,P,Q] with PyTorch's meaning of stride,
// padding, dilation and groups. Padding counts zeros on each side. H and W may be smaller than the
// kernel as long as P() and Q() are at least 0.
struct ConvShape {
  int64_t N = 0;                           // images
  int64_t C = 0, H = 0, W = 0;             // channels, height and width of x
  int64_t K = 0, R = 0, S = 0;             // output channels, kernel height and width
  int64_t stride_h = 1, stride_w = 1;      // pixels of x
  int64_t pad_h = 0, pad_w = 0;            // pixels of x
  int64_t dilation_h = 1, dilation_w = 1;  // pixels of x between neighboring taps
  int64_t groups = 1;                      // divides C and K

  // Height and width of y.
  int64_t P() const { return (H + 2 * pad_h - dilation_h * (R - 1) - 1) / stride_h + 1; }
  int64_t Q() const { return (W + 2 * pad_w - dilation_w * (S - 1) - 1) / stride_w + 1; }
};

// The three convolutions of one training step. The paper calls them forward, GTA (gradient to
// activations) and GTW (gradient to weights).
enum class Pass { kForward, kGradInput, kGradWeight };

}  // namespace sparsetrain
