// Which implementation runs a pass: one pure function, shared by the operator, explain() and
// stats().
#pragma once

#include "../shape.h"

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

// What one machine takes for a unit of work, one thread, in nanoseconds.
struct Costs {
  double dense_mac_ns;         // a multiply-add of the dense convolution
  double sparse_mac_ns;        // a multiply-add with a nonzero
  double compress_element_ns;  // an element of the sparse operand
};

struct Choice {
  Backend backend;  // kSparse or kDense
  const char* reason;
  double dense_ms, sparse_ms;  // predicted, one thread
};

// The costs in force when the caller names none.
extern const Costs kDefaultCosts;

// Ordered: a forced backend; then sparse where it is predicted to be faster; dense accepts the
// rest.
Choice choose(const Call& call, Backend wanted, const Costs& costs);

}  // namespace sparsetrain
