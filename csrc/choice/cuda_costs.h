// What a pass costs on a GPU: counts that follow from shape and density, times nanoseconds that
// `tune` measured. No costs ship yet.
#pragma once

#include <map>
#include <utility>

#include "../shape.h"

namespace sparsetrain {

// What a dense convolution computes in. That of float32 runs with TF32 or without, by torch's flag.
// The sparse kernels keep sums in float32, and in float64 for float64.
enum class Precision { kFloat64, kFloat32, kTf32, kBFloat16, kFloat16 };

// Counts of what a pass does. Each has one cost. kernels/cuda/product.cuh does the sparse ones.
struct CudaWork {
  double macs;      // multiply-adds of the dense convolution
  double elements;  // elements of its three tensors
  double tiles;     // tiles staged in shared memory, whatever they hold
  double loads;     // loads of a dense row, once for the eight rows of a warp if one has a nonzero
  double nonzeros;  // nonzeros that a warp multiplies such a row with
};
// density: nonzeros / elements of the operand whose zeros are skipped, if they lie at random.
CudaWork cuda_work_of(const ConvShape& shape, Pass pass, Precision precision, double density);

// Nanoseconds that one kind of GPU takes for a unit of CudaWork. A call is a whole pass.
struct CudaPassCosts {
  double dense_mac_ns, dense_element_ns, dense_call_ns;
  double tile_ns, load_ns, nonzero_ns, element_ns, call_ns;
};
struct CudaCosts {
  CudaPassCosts pass[3];  // in the order of Pass
};
double cuda_dense_ms(const CudaWork& work, const CudaPassCosts& cost);
double cuda_sparse_ms(const CudaWork& work, const CudaPassCosts& cost);

// Keys: compute capability (10 * major + minor) and precision.
using CudaCostTable = std::map<std::pair<int, Precision>, CudaCosts>;

// The table in force, which is empty until set_cuda_costs() replaces it.
const CudaCostTable& cuda_costs();
void set_cuda_costs(CudaCostTable table);
// Its costs of one kind of GPU, or null.
const CudaCosts* cuda_costs_of(int capability, Precision precision);

}  // namespace sparsetrain
