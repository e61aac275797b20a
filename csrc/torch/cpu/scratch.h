// Scratch memory: one block a call, cut into arrays, taken from a small pool so that the operating
// system need not map (and clear) the same pages again in every call. Measured: fresh pages cost
// .5 ms a megabyte on a virtual machine, several times what the lists in them cost.
#pragma once

#include <ATen/core/Tensor.h>

namespace sparsetrain {

// Arrays of a block that is yet to be allocated: add() them, then allocate().
class Scratch {
 public:
  // Where an array of `count` T will begin, at a cache line.
  template <class T>
  int64_t add(int64_t count) {
    const int64_t begin = bytes_;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + kLine - 1) / kLine * kLine;
    return begin;
  }
  // `count` bytes for each thread that at::parallel_for may use.
  int64_t add_per_thread(int64_t count);

  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();  // the block goes back to the pool

  void allocate();
  template <class T>
  T* at(int64_t begin) const {
    return reinterpret_cast<T*>(memory_.mutable_data_ptr<uint8_t>() + begin);
  }
  // The calling thread's part of what add_per_thread returned.
  void* mine(int64_t begin) const;

 private:
  static constexpr int64_t kLine = 64;
  int64_t bytes_ = 0, per_thread_ = 0;
  at::Tensor memory_;
};

}  // namespace sparsetrain
