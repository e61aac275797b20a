// What a pass costs on a GPU: counts that follow from shape and density, times nanoseconds that
// `tune` measured. None ship, as no GPU was timed yet.
#pragma once

#include <map>
#include <utility>

#include "../shape.h"

namespace sparsetrain {

// What the dense convolution computes in: that of float32 may with TF32 or without. The sparse
// kernels keep sums in float32, in float64 for float64.
enum class Precision { kFloat64, kFloat32, kTf32, kBFloat16, kFloat16 };

// Counts of what a pass does, each with one cost; cuda/product.cuh is what the sparse ones count.
struct CudaWork {
  double macs;      // multiply-adds of the dense convolution
  double elements;  // of its three tensors
  double tiles;     // staged in shared memory, whatever they hold
  double loads;     // of a dense row, once for the eight rows of a warp, where one has a nonzero
  double nonzeros;  // that a warp multiplies such a row with
};
// density: nonzeros / elements of the operand whose zeros are skipped, wherever they are.
CudaWork cuda_work_of(const ConvShape& shape, Pass pass, Precision precision, double density);

// What one kind of GPU takes for a unit of it, in nanoseconds; calls are of a whole pass.
struct CudaPassCosts {
  double dense_mac_ns, dense_element_ns, dense_call_ns;
  double tile_ns, load_ns, nonzero_ns, element_ns, call_ns;
};
struct CudaCosts {
  CudaPassCosts pass[3];  // in the order of Pass
};
double cuda_dense_ms(const CudaWork& work, const CudaPassCosts& cost);
double cuda_sparse_ms(const CudaWork& work, const CudaPassCosts& cost);

// By compute capability, 10 * major + minor, and precision.
using CudaCostTable = std::map<std::pair<int, Precision>, CudaCosts>;

// The table in force, empty until set_cuda_costs() replaces it; and what it has for a GPU, or null.
const CudaCostTable& cuda_costs();
void set_cuda_costs(CudaCostTable table);
const CudaCosts* cuda_costs_of(int capability, Precision precision);

}  // namespace sparsetrain
