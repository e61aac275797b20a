// Expected time of one task on one group of PEs, and of many tasks on many groups. The closed form
// uses these normal approximations of the queues that the simulator executes.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"

namespace sparsetrain::accel {

// Expected maximum of two jointly normal variables with means a and b. `sd` is the standard
// deviation of their difference (Clark, The greatest of a finite set of random variables, 1961).
double expected_max(double a, double b, double sd);
// Expected maximum of n independent standard normal variables.
double expected_max_of(int64_t n);

// Work of the PEs of a group in one task, in cycles.
struct GroupWork {
  std::vector<double> pe_cycles;     // expected work of each PE that has a row operation
  std::vector<double> first_cycles;  // arrival of each PE's first operands
  double pe_sd;        // standard deviation of the part of a PE's work not shared by all
  double port_cycles;  // arrival of the last operand
  double last_cycles;  // expected work of the last row operation
  double race_sd;      // standard deviation of (end of the slowest PE - port_cycles)
};
// Expected cycles of the task without the drain: until the slowest PE ends, or until the last
// operand has arrived and its row operation ends, whichever is later.
double task_cycles(const GroupWork& work);

// Mean and variation of the task times of one block, collected over rows and channels.
class TaskTimes {
 public:
  void add(double tasks, double cycles) {
    tasks_ += tasks;
    sum_ += tasks * cycles;
    squares_ += tasks * cycles * cycles;
  }
  double cycles() const { return sum_; }
  double mean() const { return tasks_ > 0 ? sum_ / tasks_ : 0; }
  double cv() const;  // coefficient of variation: standard deviation / mean

 private:
  double tasks_ = 0, sum_ = 0, squares_ = 0;
};

// Expected cycles until the last task of all blocks ends, if tasks go in order to the group that is
// free first. `blocks` only has mean times, so cv_floor is the least coefficient of variation of
// the task times.
double makespan(const std::vector<TaskTimes>& blocks, int64_t groups, double cv_floor);

}  // namespace sparsetrain::accel
