// The two event-driven parts of the simulator: the queues of a group's PEs behind one port, and the
// dispatch of tasks to groups. Both are exact: tests compare them with machines that are stepped
// cycle by cycle.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "config.h"
#include "rows.h"

namespace sparsetrain::accel {

// One group during one task. Operands stream through the port, in the order of the operations, into
// queues of unbounded depth. A PE starts an operation when the operation's last byte has arrived
// and the PE is free.
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
  // Adds an operation of `cycles` to a PE. Its last operand byte is the last byte streamed so far.
  void run(int64_t pe, int64_t cycles) {
    int64_t& free = free_[static_cast<size_t>(pe)];
    free = std::max(free, arrival()) + cycles;
  }
  int64_t bytes() const { return bytes_; }
  // The cycle in which the last PE has finished and the last byte has arrived.
  int64_t end() const { return std::max(arrival(), *std::max_element(free_.begin(), free_.end())); }

 private:
  // The cycle in which the bytes streamed so far have arrived.
  int64_t arrival() const {
    return shift_ >= 0 ? (bytes_ + port_ - 1) >> shift_ : ceil_div(bytes_, port_);
  }

  std::vector<int64_t> free_;  // by PE: the cycle from which it is free
  int64_t port_;               // bytes a cycle
  int64_t shift_ = 0;          // log2 of port_, or -1 if port_ is not a power of two
  int64_t bytes_ = 0;          // streamed so far
};

// Dispatches tasks in program order to the group that is free first. A task does not start before
// its block is in the buffer.
class Dispatcher {
 public:
  explicit Dispatcher(int64_t groups) : free_(static_cast<size_t>(groups), 0) {}

  // Adds a task of `cycles` whose block is in the buffer from cycle `ready` on.
  void run(int64_t ready, int64_t cycles) {
    std::pop_heap(free_.begin(), free_.end(), std::greater<>());
    free_.back() = std::max(free_.back(), ready) + cycles;
    end_ = std::max(end_, free_.back());
    std::push_heap(free_.begin(), free_.end(), std::greater<>());
  }
  int64_t end() const { return end_; }

 private:
  std::vector<int64_t> free_;  // by group: the cycle from which it is free; a heap, earliest first
  int64_t end_ = 0;
};

}  // namespace sparsetrain::accel
