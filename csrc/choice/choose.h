// Which implementation runs a pass: one pure function, shared by the operator, explain() and
// stats().
#pragma once

#include "../kernels/cpu/api.h"
#include "../shape.h"
#include "cuda_costs.h"

namespace sparsetrain {

enum class Backend { kAuto, kSparse, kDense, kCusparse };
enum class DType { kFloat64, kFloat32, kBFloat16, kFloat16 };

// One convolution pass to be run. Densities: nonzeros / elements of x and of dy, in [0,1]. The
// forward skips zeros of x, grad_input those of dy, grad_weight those of either.
struct Call {
  ConvShape shape;
  Pass pass;
  DType dtype;
  double input_density, grad_density;
};

// Counts of what a pass does, each with one cost.
struct Work {
  double dense_macs;      // multiply-adds of the dense convolution, channels padded to vectors
  double dense_elements;  // of its three tensors
  double dense_calls;     // 1 where torch goes through oneDNN, whose calls cost, else 0
  double vectors;         // vector multiply-adds with nonzeros
  double visits;          // walks along one list: a branch miss, and sums loaded and stored
  double lists;           // elements of the sparse operand, compressed
  double copies;          // elements of the dense operands, read and written once
  bool fits;              // what the plan counts in 32 bits does not overflow
};

// What one machine takes for a unit of Work of one pass, one thread, in nanoseconds.
struct PassCosts {
  double dense_mac_ns, dense_element_ns, dense_call_ns;
  double vector_ns, visit_ns, list_ns, copy_ns;
};
struct Costs {
  VectorShape vector;
  PassCosts pass[3];  // in the order of Pass
};
// The read-only table behind `auto`: one for each storage that has sparse costs.
struct CostTable {
  Costs float32, bfloat16, float16;

  const Costs* of(DType dtype) const {
    if (dtype == DType::kFloat32) return &float32;
    if (dtype == DType::kBFloat16) return &bfloat16;
    return dtype == DType::kFloat16 ? &float16 : nullptr;
  }
};

struct Choice {
  Backend backend;         // not kAuto
  bool skips_input_zeros;  // sparse grad_weight: the zeros of x are skipped, not those of dy
  const char* reason;
  double dense_ms, sparse_ms;  // predicted, one thread
};

Work work_of(const Call& call, VectorShape vector, bool skips_input_zeros);

// The costs that ship for an instruction set, and those in force: the former for current_isa(),
// until set_costs() replaces the whole table.
const CostTable& default_costs(Isa isa);
const CostTable& costs();
void set_costs(const CostTable& table);

// grad_weight with the roles of x and dy swapped: a convolution of dy whose output gradient is x.
// Its weight gradient [C,K,R,S] is the one sought with taps reversed. Only where every nonzero of x
// meets all taps at neighbouring pixels of dy: stride 1, no dilation, no groups.
bool has_swapped_operands(const ConvShape& shape);
ConvShape swapped_operands(const ConvShape& shape);

// Why `auto` would run a call dense at any density, or null where it might not.
const char* unsuited(const Call& call, const CostTable& table);

// Ordered: a forced backend; shapes the sparse kernels are not made for; sparse where it is
// predicted to be clearly faster; dense accepts the rest.
Choice choose(const Call& call, Backend wanted, const CostTable& table);

// What a choice on CUDA depends on beside the call. costs: those of this GPU and precision, or
// null.
struct CudaSetting {
  const CudaCosts* costs;
  Precision precision;
  bool deterministic;  // shape and precision alone decide
};
Precision precision_of(DType dtype, bool tf32);

// unsuited() on CUDA, whose kernels take ungrouped shapes that 30 bits can count; cuSPARSE, which
// only runs when asked for, and only gradients, takes fewer of them.
const char* unsuited_on_cuda(const Call& call, const CudaSetting& setting);

// choose() on CUDA, where both gradients skip zeros of dy. A density that is not in [0,1], as NaN,
// is not known: a pass is sparse then if it is predicted to be faster without a single zero. Times
// are NaN where there are no costs.
Choice choose_on_cuda(const Call& call, Backend wanted, const CudaSetting& setting);

}  // namespace sparsetrain
