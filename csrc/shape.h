// The letters that every room shares: the shape of a convolution and its three passes.
#pragma once

#include <cstdint>

namespace sparsetrain {

// x [N,C,H,W] * w [K,C/groups,R,S] -> y [N,K,P,Q]. All members are counts of elements (pads: zeros
// on each side). H and W may be smaller than the kernel as long as P and Q come out at 0 or more.
struct ConvShape {
  int64_t N = 0, C = 0, H = 0, W = 0;
  int64_t K = 0, R = 0, S = 0;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_h = 0, pad_w = 0;
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;

  int64_t P() const { return (H + 2 * pad_h - dilation_h * (R - 1) - 1) / stride_h + 1; }
  int64_t Q() const { return (W + 2 * pad_w - dilation_w * (S - 1) - 1) / stride_w + 1; }
};

// The three convolutions of one training step (the paper's forward, GTA and GTW).
enum class Pass { kForward, kGradInput, kGradWeight };

}  // namespace sparsetrain
