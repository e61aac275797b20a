// The choice on the CPU: plans of a pass, counts of its work, and predicted times.
#include "choose.h"

#include <algorithm>

#include "prediction.h"

namespace sparsetrain {
namespace {

// Each sparse pass takes this once: scratch memory, plans, and two parallel regions more than the
// dense pass.
constexpr double kCallNs = 15e3;
// Counting the work takes time in the square of the kernel's width.
constexpr int64_t kWidestKernel = 4096;

int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

bool is_empty(const ConvShape& s) { return s.N * s.K * s.P() * s.Q() == 0 || s.C == 0; }

void count_scatter(const ScatterPlan& plan, double density, Work& work) {
  const ConvShape& s = plan.shape;
  // Each output row meets R source rows in the forward and R / stride_h in grad_input.
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

void count_grad_weight(const GradWeightPlan& plan, double density, Work& work) {
  const ConvShape& s = plan.shape;
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
  // torch runs small calls in loops of its own instead of oneDNN. This is the part of its rule that
  // holds for every type and number of threads.
  const bool larger = s.R * s.S > 1 || s.stride_h > 1 || s.stride_w > 1 || s.N >= 16;
  work.dense_calls = s.N > 1 && larger ? 1 : 0;
  return work;
}

double dense_ms(const Work& work, const PassCosts& cost) {
  return 1e-6 * (cost.dense_mac_ns * work.dense_macs + cost.dense_element_ns * work.dense_elements +
                 cost.dense_call_ns * work.dense_calls);
}

double sparse_ms(const Work& work, const PassCosts& cost) {
  return 1e-6 * (cost.vector_ns * work.vectors + cost.visit_ns * work.visits +
                 cost.list_ns * work.lists + cost.copy_ns * work.copies + kCallNs);
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

PassPlan::PassPlan(const Call& call, const CpuSetting& setting) : call_(call), setting_(&setting) {
  const ConvShape& s = call.shape;
  if (is_empty(s)) return;
  if (call.pass != Pass::kGradWeight) {
    scatter_ = plan_scatter(s, call.pass, setting.vector);
    return;
  }
  skipping_grad_ = plan_grad_weight(s, setting.vector, 1);
  if (has_swapped_operands(s)) {
    skipping_input_ = plan_grad_weight(swapped_operands(s), setting.vector, 1);
    skipping_input_->swapped = true;
  }
}

Work PassPlan::work(bool skips_input_zeros, Densities densities) const {
  const ConvShape& s = call_.shape;
  Work work = dense_work(call_, setting_->vector);
  const bool reads_input = call_.pass == Pass::kForward || skips_input_zeros;
  work.lists = reads_input ? product({s.N, s.C, s.H, s.W}) : product({s.N, s.K, s.P(), s.Q()});
  const double density = reads_input ? densities.input : densities.grad;
  if (scatter_) {
    count_scatter(*scatter_, density, work);
  } else {
    count_grad_weight(grad_weight(skips_input_zeros), density, work);
  }
  return work;
}

Choice PassPlan::choose(Backend backend, Densities densities) const {
  const Backend forced = backend == Backend::kSparse ? Backend::kSparse : Backend::kDense;
  if (is_empty(call_.shape)) return {forced, false, "empty", 0, 0};
  if (call_.shape.S > kWidestKernel) return {forced, false, "very wide kernels run dense", 0, 0};
  // float64 has no costs, because `auto` never runs it sparse. Those of float32 are a guess.
  const Costs* known = setting_->costs.of(call_.dtype);
  const Costs& costs = known ? *known : setting_->costs.float32;
  const PassCosts& cost = costs.pass[static_cast<int>(call_.pass)];
  const Work unswapped = work(false, densities);
  bool fits = unswapped.fits;
  Choice choice{Backend::kDense, false, "", dense_ms(unswapped, cost), sparse_ms(unswapped, cost)};
  if (may_skip_input_zeros()) {
    const Work swapped = work(true, densities);
    choice.skips_input_zeros =
        swapped.fits && (!fits || sparse_ms(swapped, cost) < choice.sparse_ms);
    if (choice.skips_input_zeros) choice.sparse_ms = sparse_ms(swapped, cost);
    fits |= choice.skips_input_zeros;
  }
  const auto answer = [&](Backend chosen, const char* reason) {
    choice.backend = chosen;
    choice.reason = reason;
    return choice;
  };
  if (backend != Backend::kAuto) return answer(backend, "asked for");
  if (const char* reason = unsuited(call_, *setting_)) return answer(Backend::kDense, reason);
  if (!fits) return answer(Backend::kDense, "too large for lists that count in 32 bits");
  if (choice.sparse_ms < kMargin * choice.dense_ms) {
    return answer(Backend::kSparse,
                  choice.skips_input_zeros ? "few nonzeros in x" : "few nonzeros");
  }
  return answer(Backend::kDense, "the predicted gain of sparse is below 15 %");
}

const char* unsuited(const Call& call, const CpuSetting& setting) {
  const ConvShape& s = call.shape;
  const Costs* costs = setting.costs.of(call.dtype);
  if (!costs) return "float64 runs dense";
  if (s.groups > 1) return "groups run dense";
  if (s.dilation_h > 1 || s.dilation_w > 1) return "dilated kernels run dense";
  if (std::min(s.C, s.K) < setting.vector.width) return "fewer channels than a vector holds";
  const PassCosts& cost = costs->pass[static_cast<int>(call.pass)];
  if (kCallNs * 1e-6 >= kMargin * dense_ms(dense_work(call, setting.vector), cost)) {
    return "too small to gain from zeros";
  }
  return nullptr;
}

Choice choose(const Call& call, Backend backend, Densities densities, const CpuSetting& setting) {
  return PassPlan(call, setting).choose(backend, densities);
}

}  // namespace sparsetrain
