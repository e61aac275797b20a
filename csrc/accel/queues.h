// The two event-driven parts of the simulator: PEs fed by one port, and groups fed with tasks.
// Both are exact; tests step the same machines cycle by cycle.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "config.h"
#include "rows.h"

namespace sparsetrain::accel {

// One group working on one task. Operands stream through the port in the order of operations into
// queues of unbounded depth; a PE starts an operation when its last byte is there and the PE is
// free.
class GroupQueue {
 public:
  GroupQueue(int64_t pes, int64_t port_bytes_per_cycle)
      : free_(static_cast<size_t>(pes), 0), port_(port_bytes_per_cycle) {
    if ((port_ & (port_ - 1)) == 0)
      while ((int64_t{1} << shift_) < port_) ++shift_;
    else
      shift_ = -1;
  }
  void reset() {
    std::fill(free_.begin(), free_.end(), 0);
    bytes_ = 0;
  }
  void stream(int64_t bytes) { bytes_ += bytes; }
  // An operation of `cycles` on a PE whose last operand byte is the last one streamed so far.
  void run(int64_t pe, int64_t cycles) {
    int64_t& free = free_[static_cast<size_t>(pe)];
    free = std::max(free, arrival()) + cycles;
  }
  int64_t bytes() const { return bytes_; }
  // When the last PE is done and the last byte is in.
  int64_t end() const { return std::max(arrival(), *std::max_element(free_.begin(), free_.end())); }

 private:
  int64_t arrival() const {
    return shift_ >= 0 ? (bytes_ + port_ - 1) >> shift_ : ceil_div(bytes_, port_);
  }

  std::vector<int64_t> free_;  // cycle at which each PE is free
  int64_t port_, shift_ = 0, bytes_ = 0;
};

// Tasks go, in program order, to the group that is free first, and not before their block is in the
// buffer.
class Dispatcher {
 public:
  explicit Dispatcher(int64_t groups) : free_(static_cast<size_t>(groups), 0) {}

  void run(int64_t ready, int64_t cycles) {
    std::pop_heap(free_.begin(), free_.end(), std::greater<>());
    free_.back() = std::max(free_.back(), ready) + cycles;
    end_ = std::max(end_, free_.back());
    std::push_heap(free_.begin(), free_.end(), std::greater<>());
  }
  int64_t end() const { return end_; }

 private:
  std::vector<int64_t> free_;  // a heap, earliest first
  int64_t end_ = 0;
};

}  // namespace sparsetrain::accel
