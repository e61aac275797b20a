// Expected time of one task on one group, and of many tasks on many groups: normal approximations
// of the queues that the simulator steps through.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"

namespace sparsetrain::accel {

// Expected maximum of two normals of which the difference has standard deviation `sd`.
double expected_max(double a, double b, double sd);
// Expected maximum of n independent standard normals.
double expected_max_of(int64_t n);

// What the PEs of a group do in one task.
struct GroupWork {
  std::vector<double> pe_cycles;     // expected work of each PE that has any
  std::vector<double> first_cycles;  // when each PE's first operands have arrived
  double pe_sd;                      // of one PE's work, what the PEs do not share
  double port_cycles;                // until the last operand has arrived
  double last_cycles;                // work of the last row operation
  double race_sd;                    // of (slowest PE - port)
};
double task_cycles(const GroupWork& work);

// Mean and spread of the task times of one block, gathered over rows and channels.
class TaskTimes {
 public:
  void add(double tasks, double cycles) {
    tasks_ += tasks;
    sum_ += tasks * cycles;
    squares_ += tasks * cycles * cycles;
  }
  double cycles() const { return sum_; }
  double mean() const { return tasks_ > 0 ? sum_ / tasks_ : 0; }
  double cv() const;

 private:
  double tasks_ = 0, sum_ = 0, squares_ = 0;
};

// Cycles until the last task of all blocks ends when, block after block, each goes to the first
// free group. cv_floor: spread that the means in `blocks` do not show.
double makespan(const std::vector<TaskTimes>& blocks, int64_t groups, double cv_floor);

}  // namespace sparsetrain::accel
