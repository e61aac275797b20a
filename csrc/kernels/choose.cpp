// The cost model behind `auto`.
#include "choose.h"

#include <algorithm>
#include <initializer_list>

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

int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

void count_spread(const Call& call, VectorShape vector, Work& work) {
  const ConvShape& s = call.shape;
  const SpreadPlan plan = plan_spread(s, call.pass, vector);
  // Every output row meets R / stride source rows in grad_input, R in the forward.
  double row_pairs = product({s.N, s.R, plan.out_height});
  if (!plan.forward) row_pairs /= static_cast<double>(s.stride_h);
  double pixels = 0, slots = 0;
  for (int64_t i = 0; i < plan.pieces(); ++i) {
    const Piece piece = plan.piece(i);
    pixels += static_cast<double>(piece.count);
    slots += product({piece.count, piece.slots});
  }
  const double blocks = product({plan.groups, plan.blocks});
  const double lists = row_pairs * pixels * static_cast<double>(plan.tiles) * blocks;
  work.visits = lists * static_cast<double>(plan.registers);
  work.vectors =
      row_pairs * slots * blocks * call.density * product({plan.registers, plan.source_channels});
  work.copies = product({s.N, plan.groups * plan.out_channels, plan.out_height, plan.out_width}) +
                product({s.K, s.C / s.groups, s.R, s.S});
}

void count_correlate(const Call& call, VectorShape vector, Work& work) {
  const ConvShape& s = call.shape;
  const CorrelatePlan plan = plan_correlate(s, vector, 1);
  const double blocks = product({s.groups, plan.blocks});
  const double taps = product({s.R, s.S, plan.registers});
  work.visits = product({plan.bands(), plan.channels_out}) * blocks * taps;
  work.vectors = call.density * product({s.N, plan.channels_out, s.P(), s.Q()}) * blocks * taps;
  work.copies = product({plan.bands(), plan.splits, plan.copy_pixels(), plan.block}) * blocks +
                product({s.K, s.C / s.groups, s.R, s.S});
}

}  // namespace

Work work_of(const Call& call, VectorShape vector) {
  const ConvShape& s = call.shape;
  const double inputs = product({s.N, s.C, s.H, s.W}), outputs = product({s.N, s.K, s.P(), s.Q()});
  Work work{};
  // The dense kernels have vectors along output channels (the K of a group in the forward and in
  // grad_weight, the C in grad_input) and unroll over input channels.
  const int64_t k = s.K / s.groups, c = s.C / s.groups;
  const int64_t across = call.pass == Pass::kGradInput ? c : k, along = across == c ? k : c;
  work.dense_macs = product({s.N, s.P(), s.Q(), s.R, s.S, s.groups}) *
                    product({round_up(across, vector.width), along});
  work.dense_elements = inputs + outputs + product({s.K, c, s.R, s.S});
  work.lists = call.pass == Pass::kForward ? inputs : outputs;
  if (call.pass == Pass::kGradWeight) {
    count_correlate(call, vector, work);
  } else {
    count_spread(call, vector, work);
  }
  return work;
}

Choice choose(const Call& call, Backend wanted, const Costs& costs) {
  const ConvShape& s = call.shape;
  if (s.N * s.K * s.P() * s.Q() == 0 || s.C == 0) {
    return {wanted == Backend::kSparse ? wanted : Backend::kDense, "empty", 0, 0};
  }
  const Work w = work_of(call, costs.vector);
  const PassCosts& cost = costs.of(call.pass);
  const double dense_ns =
      cost.dense_mac_ns * w.dense_macs + cost.dense_element_ns * w.dense_elements;
  const double sparse_ns = cost.vector_ns * w.vectors + cost.visit_ns * w.visits +
                           cost.list_ns * w.lists + cost.copy_ns * w.copies + kCallNs;
  const double dense_ms = dense_ns * 1e-6, sparse_ms = sparse_ns * 1e-6;
  if (wanted != Backend::kAuto) return {wanted, "asked for", dense_ms, sparse_ms};
  const auto dense = [&](const char* reason) {
    return Choice{Backend::kDense, reason, dense_ms, sparse_ms};
  };
  if (call.dtype != DType::kFloat32) return dense("only float32 has sparse costs");
  if (s.groups > 1) return dense("groups run dense");
  if (s.dilation_h > 1 || s.dilation_w > 1) return dense("dilated kernels run dense");
  if (std::min(s.C, s.K) < costs.vector.width) return dense("fewer channels than a vector holds");
  if (sparse_ms < kMargin * dense_ms) {
    return {Backend::kSparse, "few nonzeros", dense_ms, sparse_ms};
  }
  return dense("dense is predicted to be as fast");
}

}  // namespace sparsetrain
