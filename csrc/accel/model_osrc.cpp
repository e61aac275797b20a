// Closed form of OSRC. A task is one channel of x, pes_per_group consecutive entries (filter,
// kernel row), one for each PE, and one slab of rows (n, p).
#include <algorithm>
#include <cmath>
#include <map>

#include "model.h"
#include "task_time.h"

namespace sparsetrain::accel {
namespace {

// The kernel row and the filter (relative to the task's first) of each PE, for tasks that agree in
// both.
struct Pattern {
  std::vector<int64_t> kernel_row, filter;
  double tasks;  // number of such tasks for each channel and slab
};

std::vector<Pattern> patterns(const ConvShape& s, int64_t k_tile, int64_t pes) {
  const int64_t per_group = s.K / s.groups;
  std::map<std::pair<int64_t, int64_t>, double> known;  // (first kernel row, entries) -> tasks
  for (int64_t k0 = 0; k0 < per_group; k0 += k_tile) {
    const int64_t entries = std::min(k_tile, per_group - k0) * s.R;
    for (int64_t first = 0; first < entries; first += pes)
      known[{first % s.R, std::min(pes, entries - first)}] += 1;
  }
  std::vector<Pattern> result;
  for (const auto& [key, tasks] : known) {
    Pattern p{{}, {}, tasks};
    for (int64_t i = 0; i < key.second; ++i) {
      p.kernel_row.push_back((key.first + i) % s.R);
      p.filter.push_back((key.first + i) / s.R);
    }
    result.push_back(p);
  }
  return result;
}

// `rows` output rows (n, p) with equal costs. Bytes, elements and multiplications are means over
// channels and filters; vectors have one element for each kernel row.
struct Row {
  double rows, dy_bytes, dy_elements;
  std::vector<char> valid;  // whether the kernel row meets a row of x
  std::vector<double> x_bytes, x_elements, macs;
};

class OsrcModel {
 public:
  OsrcModel(const Profile& profile, const Plan& plan, const Config& chip)
      : profile_(profile), shape_(profile.shape()), plan_(plan), chip_(chip) {
    patterns_ = patterns(shape_, plan.k_tile, chip.pes_per_group);
    segments_ = segments(shape_, Pass::kGradWeight, chip);
    x_quantiles_ = profile.x_quantiles(false, 8);
    dy_quantiles_ = profile.dy_quantiles(8);
    nonzero_bytes_ = static_cast<double>(chip.value_bits + chip.offset_bits) / 8;
    drain_ = std::ceil(static_cast<double>(chip.pes_per_group * shape_.S) /
                       static_cast<double>(chip.ppu_values_per_cycle));
  }

  Tally run() {
    std::vector<Row> rows = make_rows();
    if (profile_.mapped()) {
      const int64_t step = std::max<int64_t>(1, plan_.rows_per_slab);
      for (int64_t begin = 0; begin < std::ssize(rows); begin += step) {
        const int64_t end = std::min<int64_t>(std::ssize(rows), begin + step);
        slab({rows.begin() + begin, rows.begin() + end}, profile_.repeats());
      }
    } else {
      for (Row& row : rows) row.rows /= static_cast<double>(plan_.slabs);
      slab(rows, static_cast<double>(plan_.slabs));
    }
    tally_.makespan = makespan(blocks_, chip_.pe_groups, chip_.skips_zeros ? 0.05 : 0.0);
    return tally_;
  }

 private:
  // The output rows of the pass. Without maps, rows that meet the same kernel rows are merged. A
  // row that is cut into segments counts once: bytes and multiplications of its segments add up.
  std::vector<Row> make_rows() {
    std::vector<Row> rows;
    std::vector<RowUse> uses;
    for (int64_t n = 0; n < profile_.images(); ++n) {
      for (int64_t p = 0; p < shape_.P(); ++p) {
        valid_rows(shape_, Pass::kGradWeight, p, &uses);
        std::vector<char> valid(static_cast<size_t>(shape_.R), 0);
        for (const RowUse& use : uses) valid[static_cast<size_t>(use.r)] = 1;
        auto known = rows.end();
        if (!profile_.mapped())
          known = std::find_if(rows.begin(), rows.end(),
                               [&](const Row& row) { return row.valid == valid; });
        if (known != rows.end())
          known->rows += profile_.repeats();
        else
          rows.push_back(make_row(n, p, std::move(valid), uses));
      }
    }
    return rows;
  }

  Row make_row(int64_t n, int64_t p, std::vector<char> valid, const std::vector<RowUse>& uses) {
    const double c = static_cast<double>(shape_.C), k = static_cast<double>(shape_.K);
    const auto r_count = static_cast<size_t>(shape_.R);
    Row row{profile_.mapped() ? 1.0 : profile_.repeats(), 0, 0, std::move(valid), {}, {}, {}};
    row.x_bytes.assign(r_count, 0.0);
    row.x_elements.assign(r_count, 0.0);
    row.macs.assign(r_count, 0.0);
    for (const Segment& segment : segments_) {
      const double dy = chip_.skips_zeros
                            ? profile_.dy_row(n, p, segment.out_begin, segment.out_end) / k
                            : static_cast<double>(segment.width());
      row.dy_elements += dy;
      const int64_t reach = int64_t{1} << chip_.offset_bits;
      const int64_t headers = (segment.out_end - 1) / reach - segment.out_begin / reach + 1;
      row.dy_bytes += row_bytes(dy, segment.width(), headers, chip_);
      for (const RowUse& use : uses) {
        const auto r = static_cast<size_t>(use.r);
        const double x = chip_.skips_zeros
                             ? profile_.x_row(n, use.row, segment.in_begin, segment.in_end) / c
                             : static_cast<double>(segment.used);
        row.x_elements[r] += x;
        row.x_bytes[r] += row_bytes(x, segment.used, segment.headers, chip_);
        profile_.windows(n, use.row, false, segment.out_begin, segment.out_end, 0, shape_.W,
                         &window_);
        row.macs[r] += profile_.pairs(n, p, segment.out_begin, window_) / (c * k);
      }
    }
    return row;
  }

  void slab(const std::vector<Row>& rows, double slabs) {
    blocks_.emplace_back();
    for (const Pattern& pattern : patterns_) task(pattern, rows, slabs);
  }

  void task(const Pattern& pattern, const std::vector<Row>& rows, double slabs) {
    const size_t pes = pattern.kernel_row.size();
    std::vector<double> ops(pes, 0.0), macs(pes, 0.0), dy(pes, 0.0);
    double bytes = 0, x_elements = 0, dy_elements = 0, all_rows = 0;
    for (const Row& row : rows) {
      int64_t last_filter = -1;
      all_rows += row.rows;
      for (size_t j = 0; j < pes; ++j) {
        const auto r = static_cast<size_t>(pattern.kernel_row[j]);
        if (!row.valid[r]) continue;
        ops[j] += row.rows;
        macs[j] += row.rows * row.macs[r];
        dy[j] += row.rows * row.dy_elements;
        // A row of x or dy that several PEs use in one step is streamed once.
        bool streamed = false;
        for (size_t i = 0; i < j; ++i) streamed |= pattern.kernel_row[i] == pattern.kernel_row[j];
        if (!streamed) {
          bytes += row.rows * row.x_bytes[r];
          x_elements += row.rows * row.x_elements[r];
        }
        if (pattern.filter[j] != last_filter) {
          bytes += row.rows * row.dy_bytes;
          dy_elements += row.rows * row.dy_elements;
          last_filter = pattern.filter[j];
        }
      }
    }
    const double tasks = slabs * pattern.tasks * static_cast<double>(shape_.C);
    // A channel or filter with fewer nonzeros streams fewer values, and an equal number of headers.
    const double buckets = static_cast<double>(x_quantiles_.size() * dy_quantiles_.size());
    for (const double x_share : x_quantiles_)
      for (const double dy_share : dy_quantiles_)
        blocks_.back().add(
            tasks / buckets,
            drain_ + task_cycles(work(ops, macs, dy,
                                      bytes + nonzero_bytes_ * (x_elements * (x_share - 1) +
                                                                dy_elements * (dy_share - 1)),
                                      x_share, dy_share, all_rows)));
    double total_ops = 0, total_macs = 0;
    for (size_t j = 0; j < pes; ++j) {
      total_ops += ops[j] * static_cast<double>(segments_.size());
      total_macs += macs[j];
    }
    tally_.tasks += tasks;
    tally_.drain += tasks * drain_;
    tally_.ops += tasks * total_ops;
    tally_.macs += tasks * total_macs;
    tally_.busy += tasks * (total_ops * static_cast<double>(chip_.row_start_cycles) + total_macs);
    tally_.port += tasks * bytes;
    tally_.streamed += tasks * (x_elements + dy_elements);
  }

  GroupWork work(const std::vector<double>& ops, const std::vector<double>& macs,
                 const std::vector<double>& dy, double bytes, double x_share, double dy_share,
                 double rows) const {
    const double port = static_cast<double>(chip_.port_bytes_per_cycle);
    const double segment_count = static_cast<double>(segments_.size());
    GroupWork g{};
    g.port_cycles = bytes / port;
    double most_macs = 0, most_ops = 1, most_dy = 0;
    const double step = rows > 0 ? bytes / rows / segment_count / port : 0;
    for (size_t j = 0; j < ops.size(); ++j) {
      g.pe_cycles.push_back(ops[j] * segment_count * static_cast<double>(chip_.row_start_cycles) +
                            macs[j] * x_share * dy_share);
      g.first_cycles.push_back(step * static_cast<double>(j + 1) / static_cast<double>(ops.size()));
      most_macs = std::max(most_macs, macs[j] * x_share * dy_share);
      most_ops = std::max(most_ops, ops[j] * segment_count);
      most_dy = std::max(most_dy, dy[j] * dy_share);
    }
    g.last_cycles = static_cast<double>(chip_.row_start_cycles) + most_macs / most_ops;
    if (!chip_.skips_zeros) return g;
    const double window =
        most_dy > 0 ? most_macs / most_dy : 0;  // multiplications for each nonzero of dy
    // Clusters of nonzeros extend over rows as well as over columns, so in a slab the factor enters
    // twice.
    const double dy_cluster = profile_.dy_clustering();
    g.race_sd = std::sqrt(most_dy * dy_cluster * dy_cluster *
                          (profile_.window_var() + (1 - profile_.dy_density()) * window * window));
    g.race_sd = std::hypot(g.race_sd, x_race(rows, most_macs, x_share));
    g.pe_sd = std::sqrt(most_dy * profile_.window_var());
    return g;
  }

  // Standard deviation of (end of the slowest PE - end of the port) that comes from the varying
  // number of nonzeros of x in a slab. One more nonzero adds multiplications to every PE and bytes
  // to the port.
  double x_race(double rows, double most_macs, double x_share) const {
    const double nonzeros = rows * x_share * profile_.x_density() * static_cast<double>(shape_.W);
    if (nonzeros <= 0) return 0;
    const double streams = static_cast<double>(std::min(chip_.pes_per_group, shape_.R));
    const double port = nonzero_bytes_ * streams / static_cast<double>(chip_.port_bytes_per_cycle);
    return std::sqrt(rows * profile_.x_row_residual() * profile_.x_clustering()) *
           std::abs(most_macs / nonzeros - port);
  }

  const Profile& profile_;
  const ConvShape& shape_;
  const Plan& plan_;
  const Config& chip_;
  std::vector<Pattern> patterns_;
  std::vector<Segment> segments_;
  std::vector<double> x_quantiles_, dy_quantiles_, window_;
  double drain_, nonzero_bytes_;
  std::vector<TaskTimes> blocks_;  // by slab
  Tally tally_;
};

}  // namespace

Tally model_osrc(const Profile& profile, const Plan& plan, const Config& chip) {
  return OsrcModel(profile, plan, chip).run();
}

}  // namespace sparsetrain::accel
