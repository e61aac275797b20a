// The fast CPU convolutions as the seam sees them: plans (plain numbers, how a pass is cut into
// tasks and tiles), and one table of functions per instruction set and storage type, each over a
// range of tasks that any thread may take. Every output element is computed by one task in one
// order, so results depend neither on the number of threads nor on how ranges are dealt.
//
// Two loops do all the work:
//   spread     forward (zeros of x) and grad_input (zeros of dy): a nonzero is spread over the
//   output
//              pixels that it touches. Lists of nonzeros per pixel, vectors along output channels.
//   correlate  grad_weight (zeros of dy): a nonzero meets the R x S pixels of x around it. Lists of
//              nonzeros per channel, vectors along input channels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../shape.h"
#include "../common/storage.h"
#include "grad_weight_plan.h"
#include "scatter_plan.h"

namespace sparsetrain {

// A 4-D tensor [A,B,I,J]: element (a,b,i,j) is data[a*stride[0] + b*stride[1] + i*stride[2] +
// j*stride[3]]. Either stride[1] == 1 (channels_last) or rows and images are contiguous (NCHW).
template <class T>
struct TensorView {
  T* data;
  int64_t stride[4];

  T* at(int64_t a, int64_t b, int64_t i, int64_t j) const {
    return data + a * stride[0] + b * stride[1] + i * stride[2] + j * stride[3];
  }
  // The next channel is the next element: vectors along channels load directly.
  bool channels_last() const { return stride[1] == 1; }
};

// The nonzeros of all pixels. Those of channel tile t, row i (image * height + row) and pixel j are
// entries [start[j], start[j + 1]) after base[t * rows + i], start = &start[(t * rows + i) *
// (width+1)].
template <class Scalar>
struct PixelLists {
  Scalar* value;
  uint32_t* offset;  // bytes from the first weight of the tile to those of the entry's channel
  uint32_t* start;
  int64_t* base;
};

// The nonzeros of all channels, band by band: those of channel k in band b are entries
// [start[k], start[k + 1]) after base[b], start = &start[b * (channels + 1)], in pixel order.
template <class Scalar>
struct ChannelLists {
  Scalar* value;
  uint32_t*
      offset;  // bytes from the band's first pixel in the padded copy of x to the entry's pixel
  uint32_t* start;
  int64_t* base;
};

template <class T>
struct Kernels {
  using Scalar = typename Storage<T>::Compute;
  const char* name;
  VectorShape vector;

  // Regions [first, last) of plan.regions(). work: plan.list_scratch_bytes().
  void (*build_pixel_lists)(const ScatterPlan& plan, TensorView<const T> source, int64_t first,
                            int64_t last, PixelLists<Scalar> lists, void* work);
  // Tasks [first, last) of plan.tasks(). bias [out channels] or nullptr. work:
  // plan.scratch_bytes().
  void (*scatter)(const ScatterPlan& plan, PixelLists<Scalar> lists, TensorView<const T> weight,
                  const T* bias, int64_t first, int64_t last, TensorView<T> out, void* work);

  // Bands [first, last) of plan.bands(). work: plan.list_scratch_bytes().
  void (*build_channel_lists)(const GradWeightPlan& plan, TensorView<const T> source, int64_t first,
                              int64_t last, ChannelLists<Scalar> lists, void* work);
  // Tasks [first, last) of plan.tasks(). work: plan.scratch_bytes().
  void (*grad_weight)(const GradWeightPlan& plan, ChannelLists<Scalar> lists, TensorView<const T> x,
                      int64_t first, int64_t last, TensorView<T> grad_weight, void* work);

  // Sums over all images and pixels of channels [first * width, last * width), width that of
  // `vector`, of a tensor whose pixels lie evenly.
  void (*channel_sums)(TensorView<const T> source, int64_t images, int64_t channels, int64_t pixels,
                       int64_t first, int64_t last, T* sums);
};

// The table of one instruction set: "scalar", "avx2" or "avx512".
enum class Isa { kScalar, kAvx2, kAvx512 };
template <class T>
const Kernels<T>& kernels(Isa isa);

// The best that CPU and operating system support, lowered by SPARSETRAIN_ISA when that is set.
// *unknown (if not null) becomes true when the variable names none; the best is then returned.
Isa current_isa(bool* unknown);
bool supported(Isa isa);
Isa best_isa();

}  // namespace sparsetrain
