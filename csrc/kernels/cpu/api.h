// The sparse CPU convolutions as csrc/torch/cpu/sparse_conv.cpp calls them: one table of functions
// for each instruction set and storage type. docs/kernels.md explains the algorithms.
//
// A pass runs in two steps, and each step is cut into independent parts that any thread may run:
//
//   forward, grad_input   plan_scatter(), then
//     1. build_pixel_lists for regions [0, plan.regions()): the nonzeros of x, or of dy, by pixel
//     2. scatter for tasks [0, plan.tasks())
//   grad_weight           plan_grad_weight(), then
//     1. build_channel_lists for bands [0, plan.bands()): the nonzeros of dy by channel
//     2. grad_weight for tasks [0, plan.tasks())
//
// Step 2 may begin when all parts of step 1 are done. A call with the range [first, last) runs the
// parts first, first + 1, ..., last - 1. Every output element is computed by one task in one order,
// so results depend neither on the number of threads nor on how parts are dealt to them.
//
// Memory: the caller allocates everything and passes lengths that the plan states. Functions do not
// allocate and do not throw. `scratch` belongs to one call at a time (one block a thread); it needs
// no initial contents and keeps none. Scratch and list arrays need the alignment of their elements;
// alignment to 64 bytes avoids loads that cross cache lines. T is a storage type of storage.h, and
// Scalar is the type of all sums: float, or double if T is double.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../shape.h"
#include "../common/storage.h"
#include "grad_weight_plan.h"
#include "scatter_plan.h"

namespace sparsetrain {

// A view of a 4-D tensor [A,B,I,J] in the caller's memory. Strides are in elements: element
// (a,b,i,j) is data[a*stride[0] + b*stride[1] + i*stride[2] + j*stride[3]]. A dense tensor in one
// of two layouts: channels_last (stride[1] == 1) or NCHW (rows, channels and images contiguous).
template <class T>
struct TensorView {
  T* data;
  int64_t stride[4];

  T* at(int64_t a, int64_t b, int64_t i, int64_t j) const {
    return data + a * stride[0] + b * stride[1] + i * stride[2] + j * stride[3];
  }
  bool channels_last() const { return stride[1] == 1; }
};

// The nonzeros of a tensor as compressed rows, with one list of entries for each pixel and channel
// tile. An entry has a value and an offset. Let t be a channel tile, counted over all groups, and
// let i = image * height + row. Then the entries at column j of row i are base[n] + [start[j],
// start[j + 1]), where n = t * plan.source_rows() + i, and where `start` is the array's part from
// element n * (source_width + 1) on.
template <class Scalar>
struct PixelLists {
  Scalar* value;     // [plan.list_entries()]
  uint32_t* offset;  // [plan.list_entries()]: bytes from the tile's packed weights to those of the
                     // entry's channel
  uint32_t* start;   // [plan.list_starts()]
  int64_t* base;     // [plan.list_bases()]
};

// The nonzeros of a tensor as compressed rows, with one list of entries for each channel and band.
// The entries of channel k in band b, in pixel order, are base[b] + [start[k], start[k + 1]), where
// `start` is the array's part from element b * (channels + 1) on.
template <class Scalar>
struct ChannelLists {
  Scalar* value;     // [plan.list_entries()]
  uint32_t* offset;  // [plan.list_entries()]: bytes from the first pixel of the band's padded copy
                     // of x to the pixel that tap (0, 0) reads for the entry
  uint32_t* start;   // [plan.list_starts()]
  int64_t* base;     // [plan.bands()]
};

// The functions of one instruction set for one storage type.
template <class T>
struct Kernels {
  using Scalar = typename Storage<T>::Compute;
  const char* name;    // of the instruction set
  VectorShape vector;  // for the plans

  // Lists the nonzeros of regions [first, last) of `source`: x [N,C,H,W] in the forward, dy
  // [N,K,P,Q] in grad_input. scratch: plan.list_scratch_bytes().
  void (*build_pixel_lists)(const ScatterPlan& plan, TensorView<const T> source, int64_t first,
                            int64_t last, PixelLists<Scalar> lists, void* scratch);
  // Computes tasks [first, last) of the forward (out: y [N,K,P,Q]) or of grad_input (out: dx
  // [N,C,H,W]). weight: w [K,C/groups,R,S]. bias: the output channels' biases or nullptr. scratch:
  // plan.scratch_bytes(). Every element of out is written.
  void (*scatter)(const ScatterPlan& plan, PixelLists<Scalar> lists, TensorView<const T> weight,
                  const T* bias, int64_t first, int64_t last, TensorView<T> out, void* scratch);

  // Lists the nonzeros of bands [first, last) of source: dy [N,K,P,Q] as plan.shape has it.
  // scratch: plan.list_scratch_bytes().
  void (*build_channel_lists)(const GradWeightPlan& plan, TensorView<const T> source, int64_t first,
                              int64_t last, ChannelLists<Scalar> lists, void* scratch);
  // Computes tasks [first, last) of grad_weight [K,C/groups,R,S] from x [N,C,H,W]. scratch:
  // plan.scratch_bytes(). Every element of grad_weight is written. With plan.swapped, x and dy have
  // swapped places: see GradWeightPlan.
  void (*grad_weight)(const GradWeightPlan& plan, ChannelLists<Scalar> lists, TensorView<const T> x,
                      int64_t first, int64_t last, TensorView<T> grad_weight, void* scratch);

  // Writes sums[c] = the sum of channel c over all images and pixels (the gradient of the bias) for
  // channels [first * vector.width, last * vector.width) below `channels`. pixels: height * width.
  // source must be dense: its pixels lie at equal distances.
  void (*channel_sums)(TensorView<const T> source, int64_t images, int64_t channels, int64_t pixels,
                       int64_t first, int64_t last, T* sums);
};

// The instruction sets, in ascending order. double has only scalar kernels.
enum class Isa { kScalar, kAvx2, kAvx512 };

// The functions of an instruction set, which must be supported().
template <class T>
const Kernels<T>& kernels(Isa isa);

// The best instruction set that processor and operating system support, or a lower one that the
// environment variable SPARSETRAIN_ISA names ("scalar", "avx2", "avx512"). If the variable names no
// instruction set, the best one is returned and *unknown becomes its value. unknown may be nullptr.
Isa current_isa(const char** unknown);

// Whether processor and operating system support an instruction set.
bool supported(Isa isa);
// The best instruction set that processor and operating system support.
Isa best_isa();

}  // namespace sparsetrain
