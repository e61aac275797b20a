// Which implementation runs a pass of a convolution. The operators, explain() and stats() ask the
// same pure functions: choose() for the CPU and choose_on_cuda() for GPUs.
#pragma once

#include <optional>

#include "../kernels/cpu/grad_weight_plan.h"
#include "../kernels/cpu/scatter_plan.h"
#include "../shape.h"
#include "cpu_costs.h"
#include "cuda_costs.h"

namespace sparsetrain {

enum class Backend { kAuto, kSparse, kDense, kCusparse };

// One convolution pass to be run.
struct Call {
  ConvShape shape;
  Pass pass;
  DType dtype;
};

// Nonzeros / elements of x and of dy, each in [0, 1]. The forward skips the zeros of x, grad_input
// those of dy. grad_weight skips those of either, on CUDA those of dy.
struct Densities {
  double input, grad;
};

struct Choice {
  Backend backend;         // never kAuto
  bool skips_input_zeros;  // in a sparse grad_weight: the zeros of x are skipped instead of dy's
  const char* reason;
  double dense_ms, sparse_ms;  // predicted, one thread
};

// Counts of what a pass does on the CPU. Each has one cost.
struct Work {
  double dense_macs;      // multiply-adds of the dense convolution, channels padded to vectors
  double dense_elements;  // elements of its three tensors
  double dense_calls;     // 1 where torch calls oneDNN, which has a cost of its own, else 0
  double vectors;         // vector multiply-adds with nonzeros
  double visits;          // walks along one list: a branch miss, and sums loaded and stored
  double lists;           // elements of the sparse operand, compressed
  double copies;          // elements of the dense operands, read and written once
  bool fits;              // 32 bits hold what the lists count
};

// grad_weight with x and dy swapped: the gradient of the weight is also the weight gradient
// [C,K,R,S], with its taps reversed, of a convolution of dy whose output gradient is x. This needs
// every nonzero of x to meet all taps at adjacent pixels of dy: stride 1, no dilation, no groups.
bool has_swapped_operands(const ConvShape& shape);
ConvShape swapped_operands(const ConvShape& shape);

// A pass on the CPU with the plans by which the sparse kernels can run it. An object is made once
// per pass: the choice counts work by these plans, and the chosen kernel runs by one of them.
// The plans are for one thread.
class PassPlan {
 public:
  PassPlan(const Call& call, const CpuSetting& setting);

  // The first condition that holds decides: a forced backend, a shape that the sparse kernels are
  // not made for (dense), sparse predicted to be clearly faster (sparse), anything else (dense).
  Choice choose(Backend backend, Densities densities) const;

  // The work of the pass. skips_input_zeros: see Choice; needs has_swapped_operands().
  Work work(bool skips_input_zeros, Densities densities) const;

  bool may_skip_input_zeros() const { return skipping_input_.has_value(); }

  // The plan of a forward or grad_input, and of a grad_weight. Neither exists for an empty shape.
  const ScatterPlan& scatter() const { return *scatter_; }
  const GradWeightPlan& grad_weight(bool skips_input_zeros) const {
    return skips_input_zeros ? *skipping_input_ : *skipping_grad_;
  }

 private:
  Call call_;
  const CpuSetting* setting_;
  std::optional<ScatterPlan> scatter_;
  std::optional<GradWeightPlan> skipping_grad_, skipping_input_;
};

// Why `auto` runs a call dense at any density, or null if densities decide. Needs no plan.
const char* unsuited(const Call& call, const CpuSetting& setting);

// PassPlan::choose for callers that need no plan.
Choice choose(const Call& call, Backend backend, Densities densities, const CpuSetting& setting);

// What a choice on CUDA depends on besides the call.
struct CudaSetting {
  const CudaCosts* costs;  // of this GPU in this precision, or null
  Precision precision;
  bool deterministic;  // then the choice depends on shape and precision alone
};
Precision precision_of(DType dtype, bool tf32);

// unsuited() for CUDA. Its sparse kernels take ungrouped shapes whose indices fit into 30 bits.
const char* unsuited_on_cuda(const Call& call, const CudaSetting& setting);

// choose() for CUDA. A density outside of [0, 1], such as NaN, is unknown: the pass is then sparse
// only if it is predicted to be faster without a single zero. cuSPARSE runs gradients only, and
// only if asked for. Times are NaN where there are no costs.
Choice choose_on_cuda(const Call& call, Backend backend, Densities densities,
                      const CudaSetting& setting);

}  // namespace sparsetrain
