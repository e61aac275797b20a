// The choice on CUDA: which shapes the kernels take, and predicted times.
#include <algorithm>
#include <limits>

#include "choose.h"
#include "prediction.h"

namespace sparsetrain {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
// No pruned gradient is sparser than this. A pass that is not faster at this density is dense
// without a look at its density.
constexpr double kLeastDensity = 0.01;

// Whether 32-bit indices reach every element of the matrices of a gradient (kernels/cuda/csr.h),
// even if no element of dy is 0. cuSPARSE fails from 2^31 - 127 entries on, and with more columns
// than 65535 blocks of 16.
bool fits_cusparse(const ConvShape& s, Pass pass) {
  constexpr double kMost = 2147483520;
  const double grad = product({s.N, s.P(), s.Q(), s.K});
  const double pixels = product({s.N, s.H + 2 * s.pad_h, s.W + 2 * s.pad_w});
  const double taps = pass == Pass::kGradInput ? product({s.R, s.S}) : 1;
  const auto channels = static_cast<double>(s.C + 8);  // rows are padded to 16 bytes
  return s.C < int64_t{65535} * 16 && taps * grad <= kMost && pixels * channels <= kMost &&
         product({s.R, s.S, s.K}) * channels <= kMost;
}

// Why the CUDA kernels do not take a shape, or null.
const char* beyond_cuda(const ConvShape& s) {
  if (s.groups > 1) return "groups run dense on CUDA";
  constexpr int64_t kMost = int64_t{1} << 30;  // the kernels add two of these in an int
  const int64_t channels = std::max(s.C, s.K) + 32, taps = s.R * s.S;
  const int64_t pixels = s.N * std::max(s.P() * s.Q(), s.H * s.W);
  for (const int64_t extent : {pixels, taps * channels, (pixels / 64 + 1) * channels,
                               s.H + 2 * s.pad_h, s.W + 2 * s.pad_w}) {
    if (extent >= kMost) return "too large for the CUDA kernels' indices";
  }
  return nullptr;
}

struct PassTimes {
  double dense_ms, sparse_ms;
};
PassTimes cuda_times(const Call& call, const CudaSetting& setting, double density) {
  const CudaPassCosts& cost = setting.costs->pass[static_cast<int>(call.pass)];
  const CudaWork work = cuda_work_of(call.shape, call.pass, setting.precision, density);
  return {cuda_dense_ms(work, cost), cuda_sparse_ms(work, cost)};
}

}  // namespace

Precision precision_of(DType dtype, bool tf32) {
  if (dtype == DType::kFloat64) return Precision::kFloat64;
  if (dtype == DType::kFloat32) return tf32 ? Precision::kTf32 : Precision::kFloat32;
  return dtype == DType::kBFloat16 ? Precision::kBFloat16 : Precision::kFloat16;
}

const char* unsuited_on_cuda(const Call& call, const CudaSetting& setting) {
  if (const char* reason = beyond_cuda(call.shape)) return reason;
  if (!setting.costs) return "this kind of GPU was not timed in this precision";
  const PassTimes least = cuda_times(call, setting, kLeastDensity);
  if (least.sparse_ms < kMargin * least.dense_ms) return nullptr;
  return "the predicted gain of sparse is below 15 % at any density";
}

Choice choose_on_cuda(const Call& call, Backend backend, Densities densities,
                      const CudaSetting& setting) {
  const ConvShape& s = call.shape;
  Choice choice{Backend::kDense, false, "", kUnknown, kUnknown};
  const auto answer = [&](Backend chosen, const char* reason) {
    choice.backend = chosen;
    choice.reason = reason;
    return choice;
  };
  if (product({s.N, s.K, s.P(), s.Q(), s.C}) == 0) return answer(Backend::kDense, "empty");
  const double density = call.pass == Pass::kForward ? densities.input : densities.grad;
  const bool known = !setting.deterministic && density >= 0 && density <= 1;
  const char* beyond = beyond_cuda(s);
  if (!beyond && setting.costs) {
    const PassTimes times = cuda_times(call, setting, known ? density : 1);
    choice.dense_ms = times.dense_ms;
    choice.sparse_ms = times.sparse_ms;
  }
  if (backend == Backend::kDense) return answer(Backend::kDense, "asked for");
  if (beyond) return answer(Backend::kDense, beyond);
  if (backend == Backend::kSparse) return answer(Backend::kSparse, "asked for");
  if (backend == Backend::kCusparse) {
    if (call.pass == Pass::kForward) return answer(Backend::kDense, "cuSPARSE runs gradients only");
    const bool fits = fits_cusparse(s, call.pass);
    return fits ? answer(backend, "asked for")
                : answer(Backend::kDense, "too large for cuSPARSE's 32-bit indices");
  }
  if (const char* reason = unsuited_on_cuda(call, setting)) return answer(Backend::kDense, reason);
  if (choice.sparse_ms < kMargin * choice.dense_ms) {
    return answer(Backend::kSparse, known ? "few nonzeros" : "faster without a zero");
  }
  if (known) return answer(Backend::kDense, "the predicted gain of sparse is below 15 %");
  return answer(Backend::kDense, setting.deterministic ? "deterministic: no density is looked at"
                                                       : "no density is known yet");
}

}  // namespace sparsetrain
