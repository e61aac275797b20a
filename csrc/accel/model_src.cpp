// Closed form of SRC and MSRC. A task is one segment of an output row. Its row operations, one for
// each (operand channel, kernel row), go to the PEs in turn.
#include <cmath>

#include "model.h"
#include "task_time.h"

namespace sparsetrain::accel {
namespace {

// Output rows with equal costs. Without maps, rows that meet the same kernel rows form one class;
// with maps, every row is a class.
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

std::vector<RowClass> row_classes(const Profile& profile, Pass pass) {
  const int64_t rows = pass == Pass::kForward ? profile.shape().P() : profile.shape().H;
  std::vector<RowClass> classes;
  std::vector<RowUse> uses;
  for (int64_t n = 0; n < profile.images(); ++n) {
    for (int64_t row = 0; row < rows; ++row) {
      valid_rows(profile.shape(), pass, row, &uses);
      RowClass* known = nullptr;
      if (!profile.mapped())
        for (RowClass& c : classes)
          if (same_kernel_rows(c.uses, uses)) known = &c;
      if (known)
        known->rows += profile.repeats();
      else
        classes.push_back({n, row, profile.repeats(), uses});
    }
  }
  return classes;
}

// Cost of a row operation, as the mean over the operand's channels and the outputs.
struct RowCost {
  double bytes, cycles, macs, elements;
};

class SrcModel {
 public:
  SrcModel(const Profile& profile, Pass pass, const Config& chip)
      : profile_(profile),
        shape_(profile.shape()),
        is_grad_input_(pass == Pass::kGradInput),
        pass_(pass),
        chip_(chip) {
    channels_ = (is_grad_input_ ? shape_.K : shape_.C) / shape_.groups;
    outputs_ = is_grad_input_ ? shape_.C : shape_.K;
    row_var_ = is_grad_input_ ? profile.dy_row_var() : profile.x_row_var();
    residual_var_ = is_grad_input_ ? profile.dy_row_residual() : profile.x_row_residual();
    quantiles_ = is_grad_input_ ? profile.x_quantiles(true, 8) : std::vector<double>{1.0};
  }

  void run(const Segment& segment) {
    segment_ = segment;
    lead_bytes_ = is_grad_input_ && chip_.skips_zeros
                      ? static_cast<double>(ceil_div(segment.width(), 8))
                      : 0.0;
    if (!is_grad_input_) {
      weight_.clear();
      for (int64_t w = segment.in_begin; w < segment.in_end; ++w)
        weight_.push_back(
            static_cast<double>(taps(shape_, pass_, w, segment.out_begin, segment.out_end)));
    }
    for (const RowClass& row : row_classes(profile_, pass_)) add(row);
  }

  Tally result(double cv_floor) {
    tally_.makespan = makespan({times_}, chip_.pe_groups, cv_floor);
    return tally_;
  }

 private:
  RowCost cost(const RowClass& row, const RowUse& use) {
    const double all = static_cast<double>(is_grad_input_ ? shape_.K : shape_.C);
    const int64_t begin = segment_.in_begin, end = segment_.in_end;
    RowCost c{};
    double nonzeros = 0;
    if (is_grad_input_) {
      nonzeros = profile_.dy_row(row.image, use.row, begin, end);
      c.macs = profile_.pairs(row.image, use.row, begin, window_) /
               (all * static_cast<double>(shape_.C));
    } else {
      nonzeros = profile_.x_row(row.image, use.row, begin, end);
      c.macs = profile_.x_row(row.image, use.row, begin, weight_) / all;
    }
    c.elements = chip_.skips_zeros ? nonzeros / all : static_cast<double>(segment_.used);
    c.bytes = row_bytes(c.elements, segment_.used, segment_.headers, chip_) +
              static_cast<double>(shape_.S * chip_.value_bits) / 8;
    c.cycles = static_cast<double>(chip_.row_start_cycles) + c.macs;
    return c;
  }

  void add(const RowClass& row) {
    if (is_grad_input_)
      profile_.windows(row.image, row.row, true, segment_.in_begin, segment_.in_end,
                       segment_.out_begin, segment_.out_end, &window_);
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
        tasks * depth * (sum.elements + static_cast<double>(shape_.S) * double(costs_.size()));
  }

  // Work of the tasks in one quantile of mask density. `share` is the number of multiplications of
  // this quantile relative to the mean.
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
      if (rows % pes == 0) {  // PE j always has the same kernel rows
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
    // Multiplications for each nonzero of the operand.
    const double gain = mean_nonzeros > 0 ? mean_macs / mean_nonzeros : 0;
    // If each PE always has the same kernel rows, all PEs work on the same channels, and only the
    // residual variance of the rows separates them.
    const bool shared = std::ssize(costs_) % std::ssize(g->pe_cycles) == 0;
    g->pe_sd = std::sqrt(ops / pes * (shared ? residual_var_ : row_var_)) * gain;
    const double value_bytes = static_cast<double>(chip_.value_bits + chip_.offset_bits) / 8;
    const double per_nonzero =
        gain / pes - value_bytes / static_cast<double>(chip_.port_bytes_per_cycle);
    g->race_sd = std::sqrt(ops * row_var_) * std::abs(per_nonzero);
    if (is_grad_input_)
      g->race_sd =
          std::hypot(g->race_sd, ops / pes * mean_macs * std::sqrt(profile_.mask_row_residual()));
  }

  const Profile& profile_;
  const ConvShape& shape_;
  const bool is_grad_input_;
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
  SrcModel model(profile, pass, chip);
  for (const Segment& segment : segments(profile.shape(), pass, chip)) model.run(segment);
  const bool masked = pass == Pass::kGradInput && chip.skips_zeros;
  return model.result(masked ? 0.05 : 0.0);
}

}  // namespace sparsetrain::accel
