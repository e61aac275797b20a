// A convolution in 32-bit numbers, as the kernels index it: pixels, channels and taps are counted
// in int, only offsets of elements in int64_t.
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

  // The pixel of x, by row and column, that tap (r, s) of output pixel (p, q) reads; outside the
  // image where a padding zero is read.
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
