// Which implementation runs a pass: one pure function, shared by the operator, explain() and
// stats().
#pragma once

#include "../shape.h"
#include "api.h"

namespace sparsetrain {

enum class Backend { kAuto, kSparse, kDense };
enum class DType { kFloat64, kFloat32, kBFloat16, kFloat16 };

// One convolution pass to be run. density: nonzeros / elements of the operand whose zeros the pass
// skips (x in the forward, dy in the gradients), in [0,1].
struct Call {
  ConvShape shape;
  Pass pass;
  DType dtype;
  bool channels_last;
  double density;
};

// Counts of what a pass does, each with one cost.
struct Work {
  double dense_macs;      // multiply-adds of the dense convolution, channels padded to vectors
  double dense_elements;  // of its three tensors
  double vectors;         // vector multiply-adds with nonzeros
  double visits;          // walks along one list: a branch miss, and sums loaded and stored
  double lists;           // elements of the sparse operand, compressed
  double copies;          // elements of the dense operands, read and written once
};

// What one machine takes for a unit of Work of one pass, one thread, in nanoseconds.
struct PassCosts {
  double dense_mac_ns, dense_element_ns;
  double vector_ns, visit_ns, list_ns, copy_ns;
};
struct Costs {
  VectorShape vector;
  PassCosts forward, grad_input, grad_weight;

  const PassCosts& of(Pass pass) const {
    if (pass == Pass::kForward) return forward;
    return pass == Pass::kGradInput ? grad_input : grad_weight;
  }
};

struct Choice {
  Backend backend;  // kSparse or kDense
  const char* reason;
  double dense_ms, sparse_ms;  // predicted, one thread
};

Work work_of(const Call& call, VectorShape vector);

// The costs that ship for an instruction set.
const Costs& default_costs(Isa isa);

// Ordered: a forced backend; shapes the sparse kernels are not made for; sparse where it is
// predicted to be clearly faster; dense accepts the rest.
Choice choose(const Call& call, Backend wanted, const Costs& costs);

}  // namespace sparsetrain
