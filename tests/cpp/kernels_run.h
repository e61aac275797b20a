// Runs the kernels of one table on whole tensors, for tests without torch: allocates what plans ask
// for, exactly, so that a sanitizer sees every access beyond it.
#pragma once

#include <cstdint>
#include <new>
#include <thread>
#include <vector>

#include "choice/choose.h"
#include "kernels/cpu/api.h"

namespace sparsetrain::testing {

// A tensor [A,B,I,J] with its own memory, NCHW or channels_last.
template <class T>
struct Tensor {
  int64_t sizes[4];
  bool channels_last;
  std::vector<T> data;

  Tensor(int64_t a, int64_t b, int64_t i, int64_t j, bool last)
      : sizes{a, b, i, j}, channels_last(last), data(static_cast<size_t>(a * b * i * j)) {}
  TensorView<T> view() { return {data.data(), {strides(0), strides(1), strides(2), strides(3)}}; }
  TensorView<const T> view() const {
    return {data.data(), {strides(0), strides(1), strides(2), strides(3)}};
  }
  T& at(int64_t a, int64_t b, int64_t i, int64_t j) { return *view().at(a, b, i, j); }
  const T& at(int64_t a, int64_t b, int64_t i, int64_t j) const { return *view().at(a, b, i, j); }

 private:
  int64_t strides(int d) const {
    const int64_t B = sizes[1], I = sizes[2], J = sizes[3];
    const int64_t last[] = {B * I * J, 1, J * B, B}, first[] = {B * I * J, I * J, J, 1};
    return channels_last ? last[d] : first[d];
  }
};

// Memory that begins at a cache line, as the seam's does, and ends where it was asked to.
struct Scratch {
  explicit Scratch(int64_t bytes)
      : memory(static_cast<char*>(::operator new(static_cast<size_t>(bytes), kLine))) {}
  ~Scratch() { ::operator delete(memory, kLine); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(memory);
  }

  static constexpr std::align_val_t kLine{64};
  char* memory;
};

// f(first, last, work) for ranges of one task each, last first, every second one to another thread
// with work of its own: nothing may depend on how tasks are dealt.
template <class F>
void deal(int64_t tasks, int64_t scratch_bytes, F&& f) {
  Scratch ours(scratch_bytes), theirs(scratch_bytes);
  const auto every_second = [&](int64_t from, char* work) {
    for (int64_t i = from; i >= 0; i -= 2) f(i, i + 1, work);
  };
  std::thread other([&] { every_second(tasks - 2, theirs.memory); });
  every_second(tasks - 1, ours.memory);
  other.join();
}

template <class T>
void run_scatter(const Kernels<T>& k, const ConvShape& shape, Pass pass, const Tensor<T>& source,
                 const Tensor<T>& weight, const T* bias, Tensor<T>& out) {
  using S = typename Kernels<T>::Scalar;
  const ScatterPlan plan = plan_scatter(shape, pass, k.vector);
  Scratch value(plan.list_entries() * sizeof(S)), offset(plan.list_entries() * 4);
  Scratch start(plan.list_starts() * 4), base(plan.list_bases() * 8);
  const PixelLists<S> lists{value.as<S>(), offset.as<uint32_t>(), start.as<uint32_t>(),
                            base.as<int64_t>()};
  deal(plan.regions(), plan.list_scratch_bytes(), [&](int64_t first, int64_t last, void* work) {
    k.build_pixel_lists(plan, source.view(), first, last, lists, work);
  });
  deal(plan.tasks(), plan.scratch_bytes(), [&](int64_t first, int64_t last, void* work) {
    k.scatter(plan, lists, weight.view(), bias, first, last, out.view(), work);
  });
}

// The zeros of `source` are skipped: dy, or x with `swapped` roles.
template <class T>
void run_grad_weight(const Kernels<T>& k, const ConvShape& shape, int threads, bool swapped,
                     const Tensor<T>& source, const Tensor<T>& dense, Tensor<T>& grad_weight) {
  using S = typename Kernels<T>::Scalar;
  GradWeightPlan plan =
      plan_grad_weight(swapped ? swapped_operands(shape) : shape, k.vector, threads);
  plan.swapped = swapped;
  Scratch value(plan.list_entries() * sizeof(S)), offset(plan.list_entries() * 4);
  Scratch start(plan.list_starts() * 4), base(plan.bands() * 8);
  const ChannelLists<S> lists{value.as<S>(), offset.as<uint32_t>(), start.as<uint32_t>(),
                              base.as<int64_t>()};
  deal(plan.bands(), plan.list_scratch_bytes(), [&](int64_t first, int64_t last, void* work) {
    k.build_channel_lists(plan, source.view(), first, last, lists, work);
  });
  deal(plan.tasks(), plan.scratch_bytes(), [&](int64_t first, int64_t last, void* work) {
    k.grad_weight(plan, lists, dense.view(), first, last, grad_weight.view(), work);
  });
}

}  // namespace sparsetrain::testing
