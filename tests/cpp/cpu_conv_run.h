// Runs the CPU convolutions (kernels/cpu/api.h) on whole tensors, for cpu_conv.cpp and
// cpu_conv_work.cpp. Allocates exactly the memory that the plans ask for, so that a sanitizer sees
// every access beyond it.
#pragma once

#include <cstdint>
#include <new>
#include <thread>
#include <vector>

#include "choice/choose.h"
#include "kernels/cpu/api.h"

namespace sparsetrain::testing {

// A tensor [A,B,I,J] that owns its memory, NCHW or channels_last.
template <class T>
struct Tensor {
  int64_t sizes[4];
  bool channels_last;
  std::vector<T> data;

  Tensor(int64_t a, int64_t b, int64_t i, int64_t j, bool channels_last)
      : sizes{a, b, i, j}, channels_last(channels_last), data(static_cast<size_t>(a * b * i * j)) {}
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

// Memory of exactly `bytes` bytes that begins at a cache line, as csrc/torch allocates it.
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

// Calls f(first, last, scratch) for ranges of one task, in descending order and alternately on two
// threads, each with its own scratch: results may not depend on the order or on the thread.
template <class F>
void deal(int64_t tasks, int64_t scratch_bytes, F&& f) {
  Scratch first_scratch(scratch_bytes), second_scratch(scratch_bytes);
  const auto run_every_second = [&](int64_t from, char* scratch) {
    for (int64_t i = from; i >= 0; i -= 2) f(i, i + 1, scratch);
  };
  std::thread second([&] { run_every_second(tasks - 2, second_scratch.memory); });
  run_every_second(tasks - 1, first_scratch.memory);
  second.join();
}

// The forward or grad_input.
template <class T>
void run_scatter(const Kernels<T>& k, const ConvShape& shape, Pass pass, const Tensor<T>& source,
                 const Tensor<T>& weight, const T* bias, Tensor<T>& out) {
  using S = typename Kernels<T>::Scalar;
  const ScatterPlan plan = plan_scatter(shape, pass, k.vector);
  Scratch value(plan.list_entries() * sizeof(S)), offset(plan.list_entries() * 4);
  Scratch start(plan.list_starts() * 4), base(plan.list_bases() * 8);
  const PixelLists<S> lists{value.as<S>(), offset.as<uint32_t>(), start.as<uint32_t>(),
                            base.as<int64_t>()};
  deal(plan.regions(), plan.list_scratch_bytes(), [&](int64_t first, int64_t last, void* scratch) {
    k.build_pixel_lists(plan, source.view(), first, last, lists, scratch);
  });
  deal(plan.tasks(), plan.scratch_bytes(), [&](int64_t first, int64_t last, void* scratch) {
    k.scatter(plan, lists, weight.view(), bias, first, last, out.view(), scratch);
  });
}

// grad_weight. source is the operand whose zeros are skipped: dy, or x with swapped operands.
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
  deal(plan.bands(), plan.list_scratch_bytes(), [&](int64_t first, int64_t last, void* scratch) {
    k.build_channel_lists(plan, source.view(), first, last, lists, scratch);
  });
  deal(plan.tasks(), plan.scratch_bytes(), [&](int64_t first, int64_t last, void* scratch) {
    k.grad_weight(plan, lists, dense.view(), first, last, grad_weight.view(), scratch);
  });
}

}  // namespace sparsetrain::testing
