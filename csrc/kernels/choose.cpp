// The cost model behind `auto`.
#include "choose.h"

namespace sparsetrain {

// Measured on one core of a Zen 4 at 64 to 256 channels: the dense convolution near its peak, the
// row loops bound by the latency of dependent additions.
const Costs kDefaultCosts{.dense_mac_ns = 0.01, .sparse_mac_ns = 1.0, .compress_element_ns = 1.5};

Choice choose(const Call& call, Backend wanted, const Costs& costs) {
  const ConvShape& s = call.shape;
  const double taps = static_cast<double>(s.R * s.S * (s.C / s.groups));
  const double outputs = static_cast<double>(s.N * s.P() * s.Q()) * static_cast<double>(s.K);
  const double inputs = static_cast<double>(s.N * s.C * s.H) * static_cast<double>(s.W);
  const double elements = call.pass == Pass::kForward ? inputs : outputs;
  const double dense_ms = costs.dense_mac_ns * outputs * taps * 1e-6;
  const double sparse_ms =
      (costs.sparse_mac_ns * call.density * outputs * taps + costs.compress_element_ns * elements) *
      1e-6;
  if (wanted != Backend::kAuto) return {wanted, "asked for", dense_ms, sparse_ms};
  if (call.dtype != DType::kFloat32) {
    return {Backend::kDense, "only float32 has sparse costs", dense_ms, sparse_ms};
  }
  if (sparse_ms < dense_ms) return {Backend::kSparse, "few nonzeros", dense_ms, sparse_ms};
  return {Backend::kDense, "dense is predicted to be faster", dense_ms, sparse_ms};
}

}  // namespace sparsetrain
