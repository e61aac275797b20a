// Scratch memory of the sparse CPU convolutions: one block per pass, cut into arrays. Blocks come
// from a small pool, so that the operating system need not map and clear pages in every call: new
// pages took .5 ms per megabyte on a virtual machine, several times what building the lists in them
// took.
#pragma once

#include <ATen/core/Tensor.h>

namespace sparsetrain {

// Usage: add() every array, then allocate(), then at() gives the arrays.
class Scratch {
 public:
  // Adds an array of `count` T. Returns its place, which begins a cache line.
  template <class T>
  int64_t add(int64_t count) {
    const int64_t begin = bytes_;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + kLine - 1) / kLine * kLine;
    return begin;
  }
  // Adds `count` bytes for each thread that at::parallel_for may use.
  int64_t add_per_thread(int64_t count);

  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();  // returns the block to the pool

  void allocate();
  template <class T>
  T* at(int64_t begin) const {
    return reinterpret_cast<T*>(memory_.mutable_data_ptr<uint8_t>() + begin);
  }
  // The calling thread's part of a place that add_per_thread() returned.
  void* mine(int64_t begin) const;

 private:
  static constexpr int64_t kLine = 64;
  int64_t bytes_ = 0, per_thread_ = 0;
  at::Tensor memory_;
};

}  // namespace sparsetrain
