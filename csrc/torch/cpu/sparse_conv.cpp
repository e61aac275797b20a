// The functions of sparse_conv.h. docs/kernels.md bounds the scratch memory; the exact lengths are
// members of the plans.
#include "sparse_conv.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/record_function.h>

#include "../../kernels/cpu/api.h"
#include "../checks.h"
#include "../memory.h"
#include "scratch.h"

namespace sparsetrain {
namespace {

// Strides follow from the format: torch leaves those of dimensions of size 1 arbitrary.
template <class T, class Pointer>
TensorView<T> view(Pointer data, const at::Tensor& t) {
  const int64_t B = t.size(1), I = t.size(2), J = t.size(3);
  if (t.is_contiguous()) return {static_cast<T*>(data), {B * I * J, I * J, J, 1}};
  return {static_cast<T*>(data), {B * I * J, 1, J * B, B}};
}
template <class T>
TensorView<const T> input_view(const at::Tensor& t) {
  return view<const T>(t.const_data_ptr(), t);
}
template <class T>
TensorView<T> output_view(const at::Tensor& t) {
  return view<T>(t.mutable_data_ptr(), t);
}

template <class F>
void parallel(int64_t tasks, const F& f) {
  at::parallel_for(0, tasks, 1, f);
}
// Builds lists. torch's profiler shows it as a separate entry.
template <class F>
void compress(int64_t tasks, const F& f) {
  RECORD_USER_SCOPE("sparsetrain::compress");
  parallel(tasks, f);
}

// `auto` runs such a call dense. Only a forced "sparse" gets here.
template <class Plan>
void check_fits(const Plan& plan) {
  const ConvShape& s = plan.shape;
  SPARSETRAIN_CHECK(plan.fits(), ValueError, "conv2d", "a call on backend 'sparse'",
                    "small enough for lists that count in 32 bits",
                    c10::str("images ", s.W, " wide, kernels ", s.S, " wide and dilated by ",
                             s.dilation_h, ", ", s.dilation_w),
                    ". Use 'auto' or 'dense'");
}

// `plan`, or a plan by `make` if it is for other vectors than the kernels': float64 has vectors of
// its own, and was planned by float32's, by which its choice is guessed.
template <class T, class Plan, class Make>
Plan plan_for(const Kernels<T>& kernels, const Plan& plan, const Make& make) {
  return plan.vector.scalar_bytes == kernels.vector.scalar_bytes ? plan : make(kernels.vector);
}

// Allocates the lists of a plan in one block of scratch memory. *work becomes the place of what
// each thread needs besides them.
template <class Lists, class S, class Plan>
Lists lists_in(Scratch& scratch, const Plan& plan, int64_t bases, int64_t* work) {
  const int64_t value = scratch.add<S>(plan.list_entries());
  const int64_t offset = scratch.add<uint32_t>(plan.list_entries());
  const int64_t start = scratch.add<uint32_t>(plan.list_starts());
  const int64_t base = scratch.add<int64_t>(bases);
  *work = scratch.add_per_thread(std::max(plan.list_scratch_bytes(), plan.scratch_bytes()));
  scratch.allocate();
  return {scratch.at<S>(value), scratch.at<uint32_t>(offset), scratch.at<uint32_t>(start),
          scratch.at<int64_t>(base)};
}

// A forward (source x) or grad_input (source dy). First build the lists of all regions, in any
// order and on any threads, then call run().
template <class T>
class Scatter {
  using S = typename Kernels<T>::Scalar;

 public:
  Scatter(const ScatterPlan& plan, const at::Tensor& source, const CpuSetting& setting)
      : kernels_(kernels<T>(setting.isa)),
        plan_(plan_for(kernels_, plan,
                       [&](VectorShape vector) {
                         const Pass pass = plan.forward ? Pass::kForward : Pass::kGradInput;
                         return plan_scatter(plan.shape, pass, vector);
                       })),
        source_(input_view<T>(source)) {
    check_fits(plan_);
    lists_ = lists_in<PixelLists<S>, S>(scratch_, plan_, plan_.list_bases(), &work_);
  }

  int64_t regions_per_image() const { return plan_.regions_per_image(); }
  void list_all() const {
    compress(plan_.regions(), [this](int64_t first, int64_t last) { list(first, last); });
  }
  // Builds the lists of regions [first, last).
  void list(int64_t first, int64_t last) const {
    kernels_.build_pixel_lists(plan_, source_, first, last, lists_, scratch_.mine(work_));
  }
  void run(const at::Tensor& weight, const T* bias, const at::Tensor& out) const {
    const auto w = input_view<T>(weight);
    const auto to = output_view<T>(out);
    parallel(plan_.tasks(), [&](int64_t first, int64_t last) {
      kernels_.scatter(plan_, lists_, w, bias, first, last, to, scratch_.mine(work_));
    });
  }

 private:
  const Kernels<T>& kernels_;
  ScatterPlan plan_;
  TensorView<const T> source_;
  Scratch scratch_;
  int64_t work_;
  PixelLists<S> lists_;
};

// A grad_weight. First build the lists of all bands of `source`: x if the plan is swapped, else dy.
// Then call run() on the other operand.
template <class T>
class GradWeight {
  using S = typename Kernels<T>::Scalar;

 public:
  GradWeight(const GradWeightPlan& plan, const at::Tensor& source, const CpuSetting& setting)
      : kernels_(kernels<T>(setting.isa)),
        plan_(plan_for(kernels_, plan,
                       [&](VectorShape vector) {
                         GradWeightPlan replanned = plan_grad_weight(plan.shape, vector, 1);
                         replanned.swapped = plan.swapped;
                         return replanned;
                       })),
        source_(input_view<T>(source)) {
    plan_.divide_among(at::get_num_threads());
    check_fits(plan_);
    lists_ = lists_in<ChannelLists<S>, S>(scratch_, plan_, plan_.bands(), &work_);
  }

  int64_t images_per_band() const { return plan_.band_images; }
  int64_t bands_per_group() const { return plan_.row_bands() * plan_.column_bands(); }
  void list_all() const {
    compress(plan_.bands(), [this](int64_t first, int64_t last) { list(first, last); });
  }
  // Builds the lists of bands [first, last).
  void list(int64_t first, int64_t last) const {
    kernels_.build_channel_lists(plan_, source_, first, last, lists_, scratch_.mine(work_));
  }
  void run(const at::Tensor& dense, const at::Tensor& out) const {
    const auto from = input_view<T>(dense);
    const auto to = output_view<T>(out);
    parallel(plan_.tasks(), [&](int64_t first, int64_t last) {
      kernels_.grad_weight(plan_, lists_, from, first, last, to, scratch_.mine(work_));
    });
  }

 private:
  const Kernels<T>& kernels_;
  GradWeightPlan plan_;
  TensorView<const T> source_;
  Scratch scratch_;
  int64_t work_;
  ChannelLists<S> lists_;
};

// Builds both gradients' lists in one sweep over dy, the images of one band at a time, so that the
// second reads from cache what the first has fetched. With fewer such groups than threads, threads
// would be idle: then the lists are built one after the other.
template <class T>
void list_both(int64_t images, const Scatter<T>& scatter, const GradWeight<T>& grad_weight) {
  const int64_t group = grad_weight.images_per_band(), groups = (images + group - 1) / group;
  if (groups < at::get_num_threads()) return scatter.list_all(), grad_weight.list_all();
  const int64_t regions = scatter.regions_per_image(), bands = grad_weight.bands_per_group();
  compress(groups, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      scatter.list(i * group * regions, std::min((i + 1) * group, images) * regions);
      grad_weight.list(i * bands, (i + 1) * bands);
    }
  });
}

}  // namespace

void sparse_forward(Passes& p, const ScatterPlan& plan, const CpuSetting& setting) {
  const ConvShape& s = p.shape;
  const at::Tensor source = in_kernel_order(p.x), weight = in_kernel_order(p.w);
  const at::Tensor y = at::empty({s.N, s.K, s.P(), s.Q()}, p.x.options().memory_format(p.format));
  const at::Tensor bias = p.call.bias ? p.call.bias->contiguous() : at::Tensor();
  for_storage(source, [&](auto storage) {
    using T = decltype(storage);
    const T* data = bias.defined() ? static_cast<const T*>(bias.const_data_ptr()) : nullptr;
    const Scatter<T> scatter(plan, source, setting);
    scatter.list_all();
    scatter.run(weight, data, y);
  });
  p.result(Pass::kForward) = y;
}

void sparse_backward(Passes& p, const ScatterPlan* input_plan, const GradWeightPlan* weight_plan,
                     const CpuSetting& setting) {
  const at::Tensor dy = in_kernel_order(p.dy), x = in_kernel_order(p.x), w = in_kernel_order(p.w);
  const auto allocate = [&](Pass pass, const at::Tensor& like) {
    p.result(pass) = at::empty(like.sizes(), like.options().memory_format(p.format));
  };
  if (input_plan) allocate(Pass::kGradInput, p.x);
  if (weight_plan) allocate(Pass::kGradWeight, p.w);
  for_storage(dy, [&](auto storage) {
    using T = decltype(storage);
    std::optional<Scatter<T>> scatter;
    std::optional<GradWeight<T>> grad_weight;
    const bool swapped = weight_plan && weight_plan->swapped;
    if (input_plan) scatter.emplace(*input_plan, dy, setting);
    if (weight_plan) grad_weight.emplace(*weight_plan, swapped ? x : dy, setting);
    if (scatter && grad_weight && !swapped) {
      list_both<T>(p.shape.N, *scatter, *grad_weight);
    } else {
      if (scatter) scatter->list_all();
      if (grad_weight) grad_weight->list_all();
    }
    if (scatter) scatter->run(w, nullptr, p.result(Pass::kGradInput));
    if (grad_weight) grad_weight->run(swapped ? dy : x, p.result(Pass::kGradWeight));
  });
}

void sparse_grad_bias(Passes& p, const CpuSetting& setting) {
  const at::Tensor dy = in_kernel_order(p.dy);
  const ConvShape& s = p.shape;
  p.grad_bias = at::empty({s.K}, dy.options());
  for_storage(dy, [&](auto storage) {
    using T = decltype(storage);
    const Kernels<T>& table = kernels<T>(setting.isa);
    const auto from = input_view<T>(dy);
    T* to = static_cast<T*>(p.grad_bias.mutable_data_ptr());
    const int64_t width = table.vector.width;
    parallel((s.K + width - 1) / width, [&](int64_t first, int64_t last) {
      table.channel_sums(from, s.N, s.K, s.P() * s.Q(), first, last, to);
    });
  });
}

}  // namespace sparsetrain
