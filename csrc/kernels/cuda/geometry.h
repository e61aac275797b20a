// The sizes of a convolution in 32-bit integers, for device code (gather.cu, grad_weight.cu,
// csr.cu). Pixels, channels and taps fit into int (choose_on_cuda() refuses larger shapes), and
// 32-bit index arithmetic is cheaper on a GPU. Offsets of elements are int64_t.
#pragma once

#include <cstdint>
#include <limits>

#include "../../shape.h"
#include "../common/host_device.h"

namespace sparsetrain::cuda {

struct Geometry {
  int N, C, H, W, K, R, S, P, Q;
  int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;

  explicit Geometry(const ConvShape& s)
      : N(narrow(s.N)),
        C(narrow(s.C)),
        H(narrow(s.H)),
        W(narrow(s.W)),
        K(narrow(s.K)),
        R(narrow(s.R)),
        S(narrow(s.S)),
        P(narrow(s.P())),
        Q(narrow(s.Q())),
        stride_h(narrow(s.stride_h)),
        stride_w(narrow(s.stride_w)),
        pad_h(narrow(s.pad_h)),
        pad_w(narrow(s.pad_w)),
        dilation_h(narrow(s.dilation_h)),
        dilation_w(narrow(s.dilation_w)) {}

  // Row and column of the pixel of x that tap (r, s) of output pixel (p, q) reads. They lie outside
  // the image where the tap reads a zero of the padding.
  SPARSETRAIN_HOST_DEVICE int row(int p, int r) const {
    return p * stride_h - pad_h + r * dilation_h;
  }
  SPARSETRAIN_HOST_DEVICE int column(int q, int s) const {
    return q * stride_w - pad_w + s * dilation_w;
  }

 private:
  static int narrow(int64_t v) { return static_cast<int>(v); }
};

}  // namespace sparsetrain::cuda
