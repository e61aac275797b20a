// See sparse_conv.h.
// docs/kernels.md has a bound on the scratch memory; the exact lengths are members of the plans.
#include "sparse_conv.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/record_function.h>

#include "../../choice/choose.h"
#include "../../kernels/cpu/api.h"
#include "../checks.h"
#include "../memory.h"
#include "scratch.h"

namespace sparsetrain {
namespace {

// A tensor as the kernels read it.
at::Tensor readable(const at::Tensor& t) {
  const bool fine = t.is_contiguous() || t.is_contiguous(at::MemoryFormat::ChannelsLast);
  return fine ? t : t.contiguous();
}

// Strides by format rather than as stored: torch leaves those of dimensions of size 1 arbitrary.
template <class T, class Pointer>
TensorView<T> dense(Pointer data, const at::Tensor& t) {
  const int64_t B = t.size(1), I = t.size(2), J = t.size(3);
  if (t.is_contiguous()) return {static_cast<T*>(data), {B * I * J, I * J, J, 1}};
  return {static_cast<T*>(data), {B * I * J, 1, J * B, B}};
}
template <class T>
TensorView<const T> input_view(const at::Tensor& t) {
  return dense<const T>(t.const_data_ptr(), t);
}
template <class T>
TensorView<T> output_view(const at::Tensor& t) {
  return dense<T>(t.mutable_data_ptr(), t);
}

template <class F>
void parallel(int64_t tasks, const F& f) {
  at::parallel_for(0, tasks, 1, f);
}
// The same for making lists, which torch's profiler shows under a name of its own.
template <class F>
void compress(int64_t tasks, const F& f) {
  RECORD_USER_SCOPE("sparsetrain::compress");
  parallel(tasks, f);
}

template <class T>
const Kernels<T>& current_kernels() {
  return kernels<T>(isa_in_force("conv2d"));
}

// auto has run such a call dense; only a forced "sparse" meets this.
template <class Plan>
void check_fits(const Plan& plan) {
  const ConvShape& s = plan.shape;
  SPARSETRAIN_CHECK(plan.fits(), ValueError, "conv2d", "a call on backend 'sparse'",
                    "small enough for lists that count in 32 bits",
                    c10::str("images ", s.W, " wide, kernels ", s.S, " wide and dilated by ",
                             s.dilation_h, ", ", s.dilation_w),
                    ". Use 'auto' or 'dense'");
}

// Lists of a plan in a block of scratch, and *work, what each thread has beside them.
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

// A forward (source x) or grad_input (source dy): lists of regions first, in any order and on any
// threads, then run().
template <class T>
class Scatter {
  using S = typename Kernels<T>::Scalar;

 public:
  Scatter(const ConvShape& shape, Pass pass, const at::Tensor& source)
      : kernels_(current_kernels<T>()),
        plan_(plan_scatter(shape, pass, kernels_.vector)),
        source_(input_view<T>(source)) {
    check_fits(plan_);
    lists_ = lists_in<PixelLists<S>, S>(scratch_, plan_, plan_.list_bases(), &work_);
  }

  int64_t regions_per_image() const { return plan_.regions_per_image(); }
  void list_all() const {
    compress(plan_.regions(), [this](int64_t first, int64_t last) { list(first, last); });
  }
  // The lists of regions [first, last).
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

// A grad_weight: lists of bands of dy, or of x if `swapped`, first; then run() on the other one.
template <class T>
class GradWeight {
  using S = typename Kernels<T>::Scalar;

 public:
  GradWeight(const ConvShape& shape, const at::Tensor& source, bool swapped)
      : kernels_(current_kernels<T>()),
        plan_(plan_grad_weight(swapped ? swapped_operands(shape) : shape, kernels_.vector,
                               at::get_num_threads())),
        source_(input_view<T>(source)) {
    plan_.swapped = swapped;
    check_fits(plan_);
    lists_ = lists_in<ChannelLists<S>, S>(scratch_, plan_, plan_.bands(), &work_);
  }

  int64_t images_per_band() const { return plan_.band_images; }
  int64_t bands_per_group() const { return plan_.row_bands() * plan_.column_bands(); }
  void list_all() const {
    compress(plan_.bands(), [this](int64_t first, int64_t last) { list(first, last); });
  }
  // The lists of bands [first, last).
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

// Both gradients' lists in one sweep over dy, the images of one band at a time: the second reads
// from cache what the first has fetched. Too few such groups would leave threads idle.
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

// Either gradient may be undefined or empty.
template <class T>
void backward(const ConvShape& s, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
              bool skips_input_zeros, const at::Tensor& dx, const at::Tensor& dw) {
  std::optional<Scatter<T>> scatter;
  std::optional<GradWeight<T>> grad_weight;
  if (dx.defined() && dx.numel() > 0) scatter.emplace(s, Pass::kGradInput, dy);
  if (dw.defined() && dw.numel() > 0)
    grad_weight.emplace(s, skips_input_zeros ? x : dy, skips_input_zeros);
  if (scatter && grad_weight && !skips_input_zeros) {
    list_both<T>(s.N, *scatter, *grad_weight);
  } else {
    if (scatter) scatter->list_all();
    if (grad_weight) grad_weight->list_all();
  }
  if (scatter) scatter->run(w, nullptr, dx);
  if (grad_weight) grad_weight->run(skips_input_zeros ? dy : x, dw);
}

}  // namespace

at::Tensor sparse_forward(const ConvShape& s, const at::Tensor& x, const at::Tensor& w,
                          const std::optional<at::Tensor>& bias, at::MemoryFormat format) {
  const at::Tensor source = readable(x), weight = readable(w);
  const at::Tensor y = at::empty({s.N, s.K, s.P(), s.Q()}, x.options().memory_format(format));
  if (y.numel() == 0) return y;
  const at::Tensor b = bias ? bias->contiguous() : at::Tensor();
  for_storage(source, [&](auto storage) {
    using T = decltype(storage);
    const T* data = b.defined() ? static_cast<const T*>(b.const_data_ptr()) : nullptr;
    const Scatter<T> scatter(s, Pass::kForward, source);
    scatter.list_all();
    scatter.run(weight, data, y);
  });
  return y;
}

std::pair<at::Tensor, at::Tensor> sparse_backward(const ConvShape& s, const at::Tensor& grad_output,
                                                  const at::Tensor& input, const at::Tensor& weight,
                                                  Wanted wanted, at::MemoryFormat format) {
  const at::Tensor dy = readable(grad_output), x = readable(input), w = readable(weight);
  const auto like = [&](bool is_wanted, const at::Tensor& t) {
    return is_wanted ? at::empty(t.sizes(), t.options().memory_format(format)) : at::Tensor();
  };
  const at::Tensor dx = like(wanted.input, input), dw = like(wanted.weight, weight);
  if (dy.numel() == 0) {
    if (wanted.input) dx.zero_();
    if (wanted.weight) dw.zero_();
    return {dx, dw};
  }
  for_storage(dy, [&](auto storage) {
    backward<decltype(storage)>(s, dy, x, w, wanted.skips_input_zeros, dx, dw);
  });
  return {dx, dw};
}

at::Tensor sparse_bias_grad(const at::Tensor& grad_output) {
  const at::Tensor dy = readable(grad_output);
  const int64_t N = dy.size(0), K = dy.size(1), pixels = dy.size(2) * dy.size(3);
  const at::Tensor db = at::empty({K}, dy.options());
  for_storage(dy, [&](auto storage) {
    using T = decltype(storage);
    const Kernels<T>& kernels = current_kernels<T>();
    const auto from = input_view<T>(dy);
    T* to = static_cast<T*>(db.mutable_data_ptr());
    parallel((K + kernels.vector.width - 1) / kernels.vector.width,
             [&](int64_t first, int64_t last) {
               kernels.channel_sums(from, N, K, pixels, first, last, to);
             });
  });
  return db;
}

}  // namespace sparsetrain
