// The cost model behind `auto`.
#include "choose.h"

#include <algorithm>
#include <initializer_list>
#include <limits>

namespace sparsetrain {
namespace {

double product(std::initializer_list<int64_t> factors) {
  double result = 1;
  for (const int64_t factor : factors) result *= static_cast<double>(factor);
  return result;
}

// Once a pass: scratch, plans, two parallel regions more than the dense pass has.
constexpr double kCallNs = 15e3;
// A prediction may be off by this much; where it matters, dense is the safe side.
constexpr double kMargin = 0.85;
// Counting the work takes the square of the kernel's width.
constexpr int64_t kWidestKernel = 4096;

int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

void count_scatter(const ConvShape& s, Pass pass, double density, VectorShape vector, Work& work) {
  const ScatterPlan plan = plan_scatter(s, pass, vector);
  // Every output row meets R / stride source rows in grad_input, R in the forward.
  double row_pairs = product({s.N, s.R, plan.out_height});
  if (!plan.forward) row_pairs /= static_cast<double>(s.stride_h);
  double pixels = 0, slots = 0;
  for (int64_t i = 0; i < plan.pieces(); ++i) {
    const Piece piece = plan.piece(i);
    pixels += static_cast<double>(piece.count);
    slots += product({piece.count, piece.slots});
  }
  work.fits = plan.fits();
  const double blocks = product({plan.groups, plan.blocks});
  const double lists = row_pairs * pixels * static_cast<double>(plan.tiles) * blocks;
  work.visits = lists * static_cast<double>(plan.registers);
  work.vectors =
      row_pairs * slots * blocks * density * product({plan.registers, plan.source_channels});
  work.copies = product({s.N, plan.groups * plan.out_channels, plan.out_height, plan.out_width}) +
                product({s.K, s.C / s.groups, s.R, s.S});
}

void count_grad_weight(const ConvShape& s, double density, VectorShape vector, Work& work) {
  const GradWeightPlan plan = plan_grad_weight(s, vector, 1);
  work.fits = plan.fits();
  const double blocks = product({s.groups, plan.blocks});
  const double taps = product({s.R, s.S, plan.registers});
  work.visits = product({plan.bands(), plan.channels_out}) * blocks * taps;
  work.vectors = density * product({s.N, plan.channels_out, s.P(), s.Q()}) * blocks * taps;
  work.copies = product({plan.bands(), plan.splits, plan.copy_pixels(), plan.block}) * blocks +
                product({s.K, s.C / s.groups, s.R, s.S});
}

// The dense kernels have vectors along output channels (the K of a group in the forward and in
// grad_weight, the C in grad_input) and unroll over input channels.
Work dense_work(const Call& call, VectorShape vector) {
  const ConvShape& s = call.shape;
  const int64_t k = s.K / s.groups, c = s.C / s.groups;
  const int64_t across = call.pass == Pass::kGradInput ? c : k, along = across == c ? k : c;
  Work work{};
  work.dense_macs = product({s.N, s.P(), s.Q(), s.R, s.S, s.groups}) *
                    product({round_up(across, vector.width), along});
  work.dense_elements = product({s.N, s.C, s.H, s.W}) + product({s.N, s.K, s.P(), s.Q()}) +
                        product({s.K, c, s.R, s.S});
  // Of the rule by which torch leaves small calls to loops of its own, what holds for every type
  // and number of threads.
  const bool larger = s.R * s.S > 1 || s.stride_h > 1 || s.stride_w > 1 || s.N >= 16;
  work.dense_calls = s.N > 1 && larger ? 1 : 0;
  return work;
}

double dense_ms(const Call& call, const Costs& costs) {
  const PassCosts& cost = costs.pass[static_cast<int>(call.pass)];
  const Work work = dense_work(call, costs.vector);
  return 1e-6 * (cost.dense_mac_ns * work.dense_macs + cost.dense_element_ns * work.dense_elements +
                 cost.dense_call_ns * work.dense_calls);
}

// Whether 32-bit indices reach every element of the matrices of a gradient (kernels/cuda/csr.h),
// even if no element of dy were 0. cuSPARSE fails from 2^31 - 127 entries on, and with more columns
// than 65535 blocks of 16.
bool fits_cusparse(const ConvShape& s, Pass pass) {
  constexpr double kMost = 2147483520;
  const double grad = product({s.N, s.P(), s.Q(), s.K});
  const double pixels = product({s.N, s.H + 2 * s.pad_h, s.W + 2 * s.pad_w});
  const double taps = pass == Pass::kGradInput ? product({s.R, s.S}) : 1;
  const auto channels = static_cast<double>(s.C + 8);  // in rows filled up to 16 bytes
  return s.C < int64_t{65535} * 16 && taps * grad <= kMost && pixels * channels <= kMost &&
         product({s.R, s.S, s.K}) * channels <= kMost;
}

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
// On CUDA what is not faster at this density is not worth a look at it: no gradient of ours has
// less.
constexpr double kLeastDensity = 0.01;

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

bool has_swapped_operands(const ConvShape& s) {
  return s.groups == 1 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 &&
         s.dilation_w == 1 && s.pad_h < s.R && s.pad_w < s.S;
}

ConvShape swapped_operands(const ConvShape& s) {
  return {.N = s.N,
          .C = s.K,
          .H = s.P(),
          .W = s.Q(),
          .K = s.C,
          .R = s.R,
          .S = s.S,
          .pad_h = s.R - 1 - s.pad_h,
          .pad_w = s.S - 1 - s.pad_w};
}

Work work_of(const Call& call, VectorShape vector, bool skips_input_zeros) {
  const ConvShape& s = call.shape;
  Work work = dense_work(call, vector);
  work.lists = call.pass == Pass::kForward || skips_input_zeros ? product({s.N, s.C, s.H, s.W})
                                                                : product({s.N, s.K, s.P(), s.Q()});
  if (call.pass == Pass::kForward) {
    count_scatter(s, call.pass, call.input_density, vector, work);
  } else if (call.pass == Pass::kGradInput) {
    count_scatter(s, call.pass, call.grad_density, vector, work);
  } else if (skips_input_zeros) {
    count_grad_weight(swapped_operands(s), call.input_density, vector, work);
  } else {
    count_grad_weight(s, call.grad_density, vector, work);
  }
  return work;
}

const char* unsuited(const Call& call, const CostTable& table) {
  const ConvShape& s = call.shape;
  const Costs* costs = table.of(call.dtype);
  if (!costs) return "float64 runs dense";
  if (s.groups > 1) return "groups run dense";
  if (s.dilation_h > 1 || s.dilation_w > 1) return "dilated kernels run dense";
  if (std::min(s.C, s.K) < costs->vector.width) return "fewer channels than a vector holds";
  if (kCallNs * 1e-6 >= kMargin * dense_ms(call, *costs)) return "too small to gain from zeros";
  return nullptr;
}

Choice choose(const Call& call, Backend wanted, const CostTable& table) {
  const ConvShape& s = call.shape;
  if (s.N * s.K * s.P() * s.Q() == 0 || s.C == 0) {
    return {wanted == Backend::kSparse ? wanted : Backend::kDense, false, "empty", 0, 0};
  }
  if (s.S > kWidestKernel) {
    const Backend backend = wanted == Backend::kSparse ? wanted : Backend::kDense;
    return {backend, false, "very wide kernels run dense", 0, 0};
  }
  const Costs* own = table.of(call.dtype);
  const Costs& costs = own ? *own : table.float32;  // a guess for what never runs sparse by itself
  const PassCosts& cost = costs.pass[static_cast<int>(call.pass)];
  const auto sparse_ms = [&](const Work& w) {
    return 1e-6 * (cost.vector_ns * w.vectors + cost.visit_ns * w.visits + cost.list_ns * w.lists +
                   cost.copy_ns * w.copies + kCallNs);
  };
  const Work work = work_of(call, costs.vector, false);
  bool fits = work.fits;
  Choice choice{Backend::kDense, false, "", dense_ms(call, costs), sparse_ms(work)};
  if (call.pass == Pass::kGradWeight && has_swapped_operands(s)) {
    const Work swapped = work_of(call, costs.vector, true);
    choice.skips_input_zeros = swapped.fits && (!fits || sparse_ms(swapped) < choice.sparse_ms);
    if (choice.skips_input_zeros) choice.sparse_ms = sparse_ms(swapped);
    fits |= choice.skips_input_zeros;
  }
  const auto answer = [&](Backend backend, const char* reason) {
    choice.backend = backend;
    choice.reason = reason;
    return choice;
  };
  if (wanted != Backend::kAuto) return answer(wanted, "asked for");
  if (const char* reason = unsuited(call, table)) return answer(Backend::kDense, reason);
  if (!fits) return answer(Backend::kDense, "too large for lists that count in 32 bits");
  if (choice.sparse_ms < kMargin * choice.dense_ms) {
    return answer(Backend::kSparse,
                  choice.skips_input_zeros ? "few nonzeros in x" : "few nonzeros");
  }
  return answer(Backend::kDense, "dense is predicted to be as fast");
}

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
  return "dense is predicted to be as fast at any density";
}

Choice choose_on_cuda(const Call& call, Backend wanted, const CudaSetting& setting) {
  const ConvShape& s = call.shape;
  Choice choice{Backend::kDense, false, "", kUnknown, kUnknown};
  const auto answer = [&](Backend backend, const char* reason) {
    choice.backend = backend;
    choice.reason = reason;
    return choice;
  };
  if (product({s.N, s.K, s.P(), s.Q(), s.C}) == 0) return answer(Backend::kDense, "empty");
  const double density = call.pass == Pass::kForward ? call.input_density : call.grad_density;
  const bool known = !setting.deterministic && density >= 0 && density <= 1;
  const char* beyond = beyond_cuda(s);
  if (!beyond && setting.costs) {
    const PassTimes times = cuda_times(call, setting, known ? density : 1);
    choice.dense_ms = times.dense_ms;
    choice.sparse_ms = times.sparse_ms;
  }
  if (wanted == Backend::kDense) return answer(Backend::kDense, "asked for");
  if (beyond) return answer(Backend::kDense, beyond);
  if (wanted == Backend::kSparse) return answer(Backend::kSparse, "asked for");
  if (wanted == Backend::kCusparse) {
    if (call.pass == Pass::kForward) return answer(Backend::kDense, "cuSPARSE runs gradients only");
    const bool fits = fits_cusparse(s, call.pass);
    return fits ? answer(wanted, "asked for")
                : answer(Backend::kDense, "too large for cuSPARSE's 32-bit indices");
  }
  if (const char* reason = unsuited_on_cuda(call, setting)) return answer(Backend::kDense, reason);
  if (choice.sparse_ms < kMargin * choice.dense_ms) {
    return answer(Backend::kSparse, known ? "few nonzeros" : "faster without a zero");
  }
  if (known) return answer(Backend::kDense, "dense is predicted to be as fast");
  return answer(Backend::kDense, setting.deterministic ? "deterministic: no density is looked at"
                                                       : "no density is known yet");
}

}  // namespace sparsetrain
