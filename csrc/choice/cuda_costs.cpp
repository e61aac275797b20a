// The counts by which `auto` predicts times on CUDA, and the table of their costs.
#include "cuda_costs.h"

#include <atomic>
#include <cmath>

#include "../kernels/cuda/tile.h"

namespace sparsetrain {
namespace {

using cuda::kGroup, cuda::kTileDepth, cuda::kTileRows;

double tile_columns(Precision precision) {
  return cuda::tile_columns(precision == Precision::kFloat64 ? 8 : 4);
}

double real(int64_t count) { return static_cast<double>(count); }
// How many pieces of `size` cover an extent.
double pieces(double extent, double size) { return std::ceil(extent / size); }

std::atomic<const CudaCostTable*> in_force{nullptr};

}  // namespace

CudaWork cuda_work_of(const ConvShape& s, Pass pass, Precision precision, double density) {
  const bool forward = pass == Pass::kForward, gather = pass != Pass::kGradWeight;
  const double taps = real(s.R) * real(s.S), weights = real(s.K) * taps * real(s.C / s.groups);
  const double inputs = real(s.N) * real(s.H) * real(s.W);
  const double outputs = real(s.N) * real(s.P()) * real(s.Q());
  const double source_channels = real(forward ? s.C : s.K);
  // The kernels multiply matrices: gather.cu and grad_weight.cu compute [rows, columns] as sums
  // over the depth.
  const double rows = !gather ? real(s.K) : forward ? outputs : inputs;
  const double columns = !gather ? taps * real(s.C) : real(forward ? s.K : s.C);
  const double depth = gather ? taps * source_channels : outputs;
  const double depth_tiles =
      gather ? taps * pieces(source_channels, kTileDepth) : pieces(outputs, kTileDepth);
  const double column_tiles = pieces(columns, tile_columns(precision));
  // In grad_input a tap meets one of stride_h rows of pixels, and one of stride_w pixels in it.
  const bool strided = pass == Pass::kGradInput;
  const double down = strided ? real(s.stride_h) : 1, across = strided ? real(s.stride_w) : 1;
  const double share = 1 - std::pow(1 - density, kGroup / across);  // of mask bytes that are not 0
  return {.macs = outputs * weights,
          .elements = inputs * real(s.C) + outputs * real(s.K) + weights,
          .tiles = pieces(rows, kTileRows) * column_tiles * depth_tiles,
          .loads = pieces(rows, kGroup) * column_tiles * depth / down * share,
          .nonzeros = rows * column_tiles * depth / (down * across) * density};
}

double cuda_dense_ms(const CudaWork& work, const CudaPassCosts& cost) {
  return 1e-6 * (cost.dense_mac_ns * work.macs + cost.dense_element_ns * work.elements +
                 cost.dense_call_ns);
}

double cuda_sparse_ms(const CudaWork& work, const CudaPassCosts& cost) {
  return 1e-6 * (cost.tile_ns * work.tiles + cost.load_ns * work.loads +
                 cost.nonzero_ns * work.nonzeros + cost.element_ns * work.elements + cost.call_ns);
}

const CudaCostTable& cuda_costs() {
  static const CudaCostTable none;
  const CudaCostTable* table = in_force.load(std::memory_order_acquire);
  return table ? *table : none;
}

// The replaced table is never freed, because a call on another thread may still read it.
void set_cuda_costs(CudaCostTable table) {
  in_force.store(new CudaCostTable(std::move(table)), std::memory_order_release);
}

const CudaCosts* cuda_costs_of(int capability, Precision precision) {
  const CudaCostTable& table = cuda_costs();
  const auto found = table.find({capability, precision});
  return found == table.end() ? nullptr : &found->second;
}

}  // namespace sparsetrain
