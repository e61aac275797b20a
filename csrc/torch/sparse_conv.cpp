// See sparse_conv.h.
//
// Scratch (scratch.h), in bytes, for a sparse operand of E elements computed in b-byte scalars (4;
// 8 for float64): (4 + b) E for lists, 4 E / tile for their starts, a vector more a region; for
// each thread one block of packed weights and one band (256 KB), or one padded copy of x and its
// sums. The exact lengths are members of SpreadPlan and CorrelatePlan.
#include "sparse_conv.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "../kernels/api.h"
#include "checks.h"
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
Dense<T> dense(Pointer data, const at::Tensor& t) {
  const int64_t B = t.size(1), I = t.size(2), J = t.size(3);
  if (t.is_contiguous()) return {static_cast<T*>(data), {B * I * J, I * J, J, 1}};
  return {static_cast<T*>(data), {B * I * J, 1, J * B, B}};
}
template <class T>
Dense<const T> input_view(const at::Tensor& t) {
  return dense<const T>(t.const_data_ptr(), t);
}
template <class T>
Dense<T> output_view(const at::Tensor& t) {
  return dense<T>(t.mutable_data_ptr(), t);
}

template <class F>
void parallel(int64_t tasks, const F& f) {
  at::parallel_for(0, tasks, 1, f);
}

// Calls f with a value of the kernels' storage type of t.
template <class F>
void for_storage(const at::Tensor& t, const F& f) {
  switch (t.scalar_type()) {
    case at::kDouble:
      return f(double{});
    case at::kBFloat16:
      return f(BFloat16{});
    case at::kHalf:
      return f(Half{});
    default:
      return f(float{});
  }
}

template <class T>
const Kernels<T>& current_kernels() {
  bool unknown = false;
  const Isa isa = current_isa(&unknown);
  SPARSETRAIN_CHECK(!unknown, ValueError, "conv2d", "SPARSETRAIN_ISA", "scalar, avx2 or avx512",
                    std::getenv("SPARSETRAIN_ISA"));
  return kernels<T>(isa);
}

// Forward (source x) or grad_input (source dy) into `out`.
template <class T>
void spread(const ConvShape& shape, Pass pass, const at::Tensor& source, const at::Tensor& weight,
            const T* bias, const at::Tensor& out) {
  using S = typename Kernels<T>::Scalar;
  const Kernels<T>& k = current_kernels<T>();
  const SpreadPlan plan = plan_spread(shape, pass, k.vector);
  Scratch scratch;
  const int64_t value = scratch.add<S>(plan.list_entries());
  const int64_t offset = scratch.add<uint32_t>(plan.list_entries());
  const int64_t start = scratch.add<uint32_t>(plan.list_starts());
  const int64_t base = scratch.add<int64_t>(plan.list_bases());
  const int64_t work = scratch.add_per_thread(std::max(plan.list_work_bytes(), plan.work_bytes()));
  scratch.allocate();
  const PixelLists<S> lists{scratch.at<S>(value), scratch.at<uint32_t>(offset),
                            scratch.at<uint32_t>(start), scratch.at<int64_t>(base)};
  const auto from = input_view<T>(source), w = input_view<T>(weight);
  const auto to = output_view<T>(out);
  parallel(plan.regions(), [&](int64_t first, int64_t last) {
    k.pixel_lists(plan, from, first, last, lists, scratch.mine(work));
  });
  parallel(plan.tasks(), [&](int64_t first, int64_t last) {
    k.spread(plan, lists, w, bias, first, last, to, scratch.mine(work));
  });
}

// grad_weight into `out`.
template <class T>
void correlate(const ConvShape& shape, const at::Tensor& dy, const at::Tensor& x,
               const at::Tensor& out) {
  using S = typename Kernels<T>::Scalar;
  const Kernels<T>& k = current_kernels<T>();
  const CorrelatePlan plan = plan_correlate(shape, k.vector, at::get_num_threads());
  Scratch scratch;
  const int64_t value = scratch.add<S>(plan.list_entries());
  const int64_t offset = scratch.add<uint32_t>(plan.list_entries());
  const int64_t start = scratch.add<uint32_t>(plan.list_starts());
  const int64_t base = scratch.add<int64_t>(plan.bands());
  const int64_t work = scratch.add_per_thread(std::max(plan.list_work_bytes(), plan.work_bytes()));
  scratch.allocate();
  const ChannelLists<S> lists{scratch.at<S>(value), scratch.at<uint32_t>(offset),
                              scratch.at<uint32_t>(start), scratch.at<int64_t>(base)};
  const auto from = input_view<T>(dy), dense_x = input_view<T>(x);
  const auto to = output_view<T>(out);
  parallel(plan.bands(), [&](int64_t first, int64_t last) {
    k.channel_lists(plan, from, first, last, lists, scratch.mine(work));
  });
  parallel(plan.tasks(), [&](int64_t first, int64_t last) {
    k.correlate(plan, lists, dense_x, first, last, to, scratch.mine(work));
  });
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
    spread<T>(s, Pass::kForward, source, weight, data, y);
  });
  return y;
}

std::pair<at::Tensor, at::Tensor> sparse_backward(const ConvShape& s, const at::Tensor& grad_output,
                                                  const at::Tensor& input, const at::Tensor& weight,
                                                  bool want_input, bool want_weight,
                                                  at::MemoryFormat format) {
  const at::Tensor dy = readable(grad_output);
  at::Tensor dx, dw;
  if (want_input) dx = at::empty(input.sizes(), input.options().memory_format(format));
  if (want_weight) dw = at::empty(weight.sizes(), weight.options().memory_format(format));
  if (dy.numel() == 0) {
    if (want_input) dx.zero_();
    if (want_weight) dw.zero_();
    return {dx, dw};
  }
  for_storage(dy, [&](auto storage) {
    using T = decltype(storage);
    if (want_input && dx.numel() > 0) {
      spread<T>(s, Pass::kGradInput, dy, readable(weight), nullptr, dx);
    }
    if (want_weight && dw.numel() > 0) correlate<T>(s, dy, readable(input), dw);
  });
  return {dx, dw};
}

}  // namespace sparsetrain
