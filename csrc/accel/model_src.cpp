// Closed form of SRC and MSRC: every output row of one segment is a task; its row operations, one
// per (operand channel, kernel row), are dealt to the PEs in turn.
#include <cmath>

#include "model.h"
#include "task_time.h"

namespace sparsetrain::accel {
namespace {

// Output rows with the same kernel rows in range cost the same when there are no maps.
struct RowClass {
  int64_t image, row;
  double rows;
  std::vector<RowUse> uses;
};

bool same_kernel_rows(const std::vector<RowUse>& a, const std::vector<RowUse>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].r != b[i].r) return false;
  return true;
}

std::vector<RowClass> row_classes(const Profile& f, Pass pass) {
  const int64_t rows = pass == Pass::kForward ? f.shape().P() : f.shape().H;
  std::vector<RowClass> classes;
  std::vector<RowUse> uses;
  for (int64_t n = 0; n < f.images(); ++n) {
    for (int64_t row = 0; row < rows; ++row) {
      valid_rows(f.shape(), pass, row, &uses);
      RowClass* known = nullptr;
      if (!f.mapped())
        for (RowClass& c : classes)
          if (same_kernel_rows(c.uses, uses)) known = &c;
      if (known)
        known->rows += f.repeats();
      else
        classes.push_back({n, row, f.repeats(), uses});
    }
  }
  return classes;
}

// Means over the operand's channels and the task's channels of one row operation per kernel row.
struct RowCost {
  double bytes, cycles, macs, elements;
};

class GatherModel {
 public:
  GatherModel(const Profile& f, Pass pass, const Config& chip)
      : f_(f), s_(f.shape()), up_(pass == Pass::kGradInput), pass_(pass), chip_(chip) {
    channels_ = (up_ ? s_.K : s_.C) / s_.groups;
    outputs_ = up_ ? s_.C : s_.K;
    row_var_ = up_ ? f.dy_row_var() : f.x_row_var();
    residual_var_ = up_ ? f.dy_row_residual() : f.x_row_residual();
    quantiles_ = up_ ? f.x_quantiles(true, 8) : std::vector<double>{1.0};
  }

  void run(const Segment& segment) {
    segment_ = segment;
    lead_bytes_ =
        up_ && chip_.skips_zeros ? static_cast<double>(ceil_div(segment.width(), 8)) : 0.0;
    if (!up_) {
      weight_.clear();
      for (int64_t w = segment.in_begin; w < segment.in_end; ++w)
        weight_.push_back(
            static_cast<double>(taps(s_, pass_, w, segment.out_begin, segment.out_end)));
    }
    for (const RowClass& row : row_classes(f_, pass_)) add(row);
  }

  Tally result(double cv_floor) {
    tally_.makespan = makespan({times_}, chip_.pe_groups, cv_floor);
    return tally_;
  }

 private:
  RowCost cost(const RowClass& row, const RowUse& use) {
    const double all = static_cast<double>(up_ ? s_.K : s_.C);
    const int64_t begin = segment_.in_begin, end = segment_.in_end;
    RowCost c{};
    double nonzeros = 0;
    if (up_) {
      nonzeros = f_.dy_row(row.image, use.row, begin, end);
      c.macs = f_.pairs(row.image, use.row, begin, window_) / (all * static_cast<double>(s_.C));
    } else {
      nonzeros = f_.x_row(row.image, use.row, begin, end);
      c.macs = f_.x_row(row.image, use.row, begin, weight_) / all;
    }
    c.elements = chip_.skips_zeros ? nonzeros / all : static_cast<double>(segment_.used);
    c.bytes = row_bytes(c.elements, segment_.used, segment_.headers, chip_) +
              static_cast<double>(s_.S * chip_.value_bits) / 8;
    c.cycles = static_cast<double>(chip_.row_start_cycles) + c.macs;
    return c;
  }

  void add(const RowClass& row) {
    if (up_)
      f_.windows(row.image, row.row, true, segment_.in_begin, segment_.in_end, segment_.out_begin,
                 segment_.out_end, &window_);
    costs_.clear();
    RowCost sum{};
    for (const RowUse& use : row.uses) {
      costs_.push_back(cost(row, use));
      sum.bytes += costs_.back().bytes;
      sum.cycles += costs_.back().cycles;
      sum.macs += costs_.back().macs;
      sum.elements += costs_.back().elements;
    }
    const double depth = static_cast<double>(channels_);
    const double drain = std::ceil(static_cast<double>(segment_.width()) /
                                   static_cast<double>(chip_.ppu_values_per_cycle));
    const double tasks = row.rows * static_cast<double>(outputs_);
    for (const double share : quantiles_)
      times_.add(tasks / static_cast<double>(quantiles_.size()),
                 task_cycles(work(sum, share)) + drain);
    tally_.tasks += tasks;
    tally_.drain += tasks * drain;
    tally_.ops += tasks * depth * static_cast<double>(costs_.size());
    tally_.busy += tasks * depth * sum.cycles;
    tally_.macs += tasks * depth * sum.macs;
    tally_.port += tasks * (depth * sum.bytes + lead_bytes_);
    tally_.streamed +=
        tasks * depth * (sum.elements + static_cast<double>(s_.S) * double(costs_.size()));
  }

  // `share`: multiplications relative to the mean, of the task's quantile of mask density.
  GroupWork work(const RowCost& sum, double share) const {
    const double port = static_cast<double>(chip_.port_bytes_per_cycle);
    const double start = static_cast<double>(chip_.row_start_cycles);
    const auto rows = std::ssize(costs_);
    const int64_t ops = rows * channels_, pes = std::min(ops, chip_.pes_per_group);
    GroupWork g{};
    g.port_cycles = (lead_bytes_ + static_cast<double>(channels_) * sum.bytes) / port;
    if (ops == 0) return g;
    const double mean_bytes = sum.bytes / static_cast<double>(rows);
    const double mean_macs = share * sum.macs / static_cast<double>(rows);
    for (int64_t j = 0; j < pes; ++j) {
      double cycles = 0;
      if (rows % pes == 0) {  // PE j always meets the same kernel rows
        for (int64_t i = j; i < rows; i += pes)
          cycles += static_cast<double>(channels_) *
                    (start + share * costs_[static_cast<size_t>(i)].macs);
      } else {
        cycles = static_cast<double>(ceil_div(ops - j, pes)) * (start + mean_macs);
      }
      g.pe_cycles.push_back(cycles);
      g.first_cycles.push_back((lead_bytes_ + static_cast<double>(j + 1) * mean_bytes) / port);
    }
    standard_deviations(sum, mean_macs, &g);
    g.last_cycles = start + mean_macs;
    return g;
  }

  void standard_deviations(const RowCost& sum, double mean_macs, GroupWork* g) const {
    if (!chip_.skips_zeros) return;
    const double ops = static_cast<double>(std::ssize(costs_) * channels_);
    const double pes = static_cast<double>(g->pe_cycles.size());
    const double mean_nonzeros = sum.elements / static_cast<double>(costs_.size());
    // Multiplications that one more nonzero brings.
    const double gain = mean_nonzeros > 0 ? mean_macs / mean_nonzeros : 0;
    // PEs that each have a kernel row of their own share their channels, not their rows.
    const bool shared = std::ssize(costs_) % std::ssize(g->pe_cycles) == 0;
    g->pe_sd = std::sqrt(ops / pes * (shared ? residual_var_ : row_var_)) * gain;
    const double value_bytes = static_cast<double>(chip_.value_bits + chip_.offset_bits) / 8;
    const double per_nonzero =
        gain / pes - value_bytes / static_cast<double>(chip_.port_bytes_per_cycle);
    g->race_sd = std::sqrt(ops * row_var_) * std::abs(per_nonzero);
    if (up_)
      g->race_sd =
          std::hypot(g->race_sd, ops / pes * mean_macs * std::sqrt(f_.mask_row_residual()));
  }

  const Profile& f_;
  const ConvShape& s_;
  const bool up_;
  const Pass pass_;
  const Config& chip_;
  int64_t channels_, outputs_;
  double row_var_, residual_var_;
  std::vector<double> quantiles_;
  Segment segment_{};
  double lead_bytes_ = 0;
  std::vector<double> weight_, window_;
  std::vector<RowCost> costs_;
  TaskTimes times_;
  Tally tally_;
};

}  // namespace

Tally model_src(const Profile& profile, Pass pass, const Config& chip) {
  GatherModel model(profile, pass, chip);
  for (const Segment& segment : segments(profile.shape(), pass, chip)) model.run(segment);
  const bool masked = pass == Pass::kGradInput && chip.skips_zeros;
  return model.result(masked ? 0.05 : 0.0);
}

}  // namespace sparsetrain::accel
