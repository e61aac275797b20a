// See sparse_conv.h.
//
// Scratch comes from ATen's allocator and is freed on return. A pass needs, in bytes, for a sparse
// operand of E elements computed in b-byte scalars (4; 8 for float64), rounded up to vectors:
// lists (4 + b) E + 4 E / tile; packed weights b |w|; and for each thread one band (256 KB) or one
// padded copy of x and its sums. The exact lengths are members of SpreadPlan and CorrelatePlan.
#include "sparse_conv.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "../kernels/api.h"
#include "checks.h"

namespace sparsetrain {
namespace {

// Uninitialised bytes, aligned to a cache line.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : memory_(at::empty({bytes}, at::kByte)) {}
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(memory_.mutable_data_ptr<uint8_t>());
  }

 private:
  at::Tensor memory_;
};

// `bytes` for each thread that at::parallel_for may use.
class ThreadScratch {
 public:
  explicit ThreadScratch(int64_t bytes)
      : stride_((bytes + 63) / 64 * 64), all_(stride_ * at::get_num_threads()) {}
  void* mine() const { return all_.as<char>() + stride_ * at::get_thread_num(); }

 private:
  int64_t stride_;
  Scratch all_;
};

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
  const int64_t scalar = sizeof(S);
  const Scratch value(plan.list_entries() * scalar), offset(plan.list_entries() * 4);
  const Scratch start(plan.list_starts() * 4), base(plan.list_bases() * 8);
  const Scratch packed(plan.weight_scalars() * scalar);
  const PixelLists<S> lists{value.as<S>(), offset.as<uint32_t>(), start.as<uint32_t>(),
                            base.as<int64_t>()};
  const ThreadScratch work(std::max(plan.list_work_bytes(), plan.work_bytes()));
  const auto from = input_view<T>(source), w = input_view<T>(weight);
  const auto to = output_view<T>(out);
  parallel(plan.regions(), [&](int64_t first, int64_t last) {
    k.pixel_lists(plan, from, first, last, lists, work.mine());
  });
  parallel(plan.groups * plan.blocks, [&](int64_t first, int64_t last) {
    k.pack_weights(plan, w, first, last, packed.as<S>());
  });
  parallel(plan.tasks(), [&](int64_t first, int64_t last) {
    k.spread(plan, lists, packed.as<S>(), bias, first, last, to, work.mine());
  });
}

// grad_weight into `out`.
template <class T>
void correlate(const ConvShape& shape, const at::Tensor& dy, const at::Tensor& x,
               const at::Tensor& out) {
  using S = typename Kernels<T>::Scalar;
  const Kernels<T>& k = current_kernels<T>();
  const CorrelatePlan plan = plan_correlate(shape, k.vector, at::get_num_threads());
  const int64_t scalar = sizeof(S);
  const Scratch value(plan.list_entries() * scalar), offset(plan.list_entries() * 4);
  const Scratch start(plan.list_starts() * 4), base(plan.bands() * 8);
  const ChannelLists<S> lists{value.as<S>(), offset.as<uint32_t>(), start.as<uint32_t>(),
                              base.as<int64_t>()};
  const ThreadScratch work(std::max(plan.list_work_bytes(), plan.work_bytes()));
  const auto from = input_view<T>(dy), dense_x = input_view<T>(x);
  const auto to = output_view<T>(out);
  parallel(plan.bands(), [&](int64_t first, int64_t last) {
    k.channel_lists(plan, from, first, last, lists, work.mine());
  });
  parallel(plan.tasks(), [&](int64_t first, int64_t last) {
    k.correlate(plan, lists, dense_x, first, last, to, work.mine());
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
