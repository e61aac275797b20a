// The simulator of OSRC row operations (grad_weight).
#include <algorithm>
#include <cmath>
#include <map>

#include "bits.h"
#include "simulator.h"

namespace sparsetrain::accel {
namespace {

class OsrcSimulator {
 public:
  OsrcSimulator(const Layer& layer, const Trace& trace, const Config& chip)
      : shape_(layer.shape),
        chip_(chip),
        x_(trace.x),
        dy_(trace.dy),
        segments_(segments(shape_, Pass::kGradWeight, chip)),
        queue_(chip.pes_per_group, chip.port_bytes_per_cycle),
        window_layout_(shape_.Q(), shape_.S),
        segment_count_(std::ssize(segments_)),
        rows_(shape_.P()) {
    drain_ = ceil_div(chip.pes_per_group * shape_.S, chip.ppu_values_per_cycle);
    find_rows();
    count_dy();
    planes_.resize(static_cast<size_t>(x_.images * shape_.H * window_layout_.size()));
    x_streamed_.resize(static_cast<size_t>(x_.images * shape_.H * segment_count_));
  }

  // Simulates a block. Adds the number of dw values that are read back to *partial_values, and the
  // number written to *written_values.
  void run(const Block& b, PassClock* clock, int64_t* partial_values, int64_t* written_values) {
    clock->open(b);
    int64_t channel = -1;
    std::map<std::pair<int64_t, int64_t>, TaskCost> twin_costs;  // tasks of a twin repeat
    for_each_task(b, shape_, 0, chip_.pes_per_group, [&](const Task& task) {
      *written_values += task.entries * shape_.S;
      if (b.reads_partial) *partial_values += task.entries * shape_.S;
      if (!chip_.skips_zeros) {
        auto [known, fresh] = twin_costs.try_emplace({task.entry % shape_.R, task.entries});
        if (fresh) {
          prepare(b, task.out);
          known->second = work(b, task);
        }
        clock->run(known->second, drain_);
        return;
      }
      if (task.out != channel) prepare(b, channel = task.out);
      clock->run(work(b, task), drain_);
    });
  }

 private:
  struct Streamed {
    int32_t elements, bytes;
  };

  // Fills row_of_[p * R + r]: the row of x that kernel row r meets at output row p, or -1.
  void find_rows() {
    row_of_.assign(static_cast<size_t>(rows_ * shape_.R), -1);
    std::vector<RowUse> uses;
    for (int64_t p = 0; p < rows_; ++p) {
      valid_rows(shape_, Pass::kGradWeight, p, &uses);
      for (const RowUse& use : uses) row_of_[static_cast<size_t>(p * shape_.R + use.r)] = use.row;
    }
  }

  void count_dy() {
    for (int64_t row = 0; row < dy_.images * dy_.channels * dy_.height; ++row)
      for (const Segment& segment : segments_)
        dy_streamed_.push_back(measure_dy(count_range(dy_.words.data() + row * dy_.row_words(),
                                                      segment.out_begin, segment.out_end),
                                          segment));
  }

  // Computes window planes and streamed bytes of one channel of x, for the images of the block's
  // rows.
  void prepare(const Block& b, int64_t c) {
    const int64_t first = b.row0 / rows_, last = (b.row1 - 1) / rows_;
    for (int64_t image = first; image <= std::min(last, first + x_.images - 1); ++image) {
      const int64_t n = image % x_.images;
      for (int64_t h = 0; h < shape_.H; ++h) {
        const int64_t i = n * shape_.H + h;
        window_planes(shape_, x_.row(n, c, h), 0, shape_.W, window_layout_,
                      planes_.data() + i * window_layout_.size());
        for (int64_t g = 0; g < segment_count_; ++g) {
          const Segment& segment = segments_[static_cast<size_t>(g)];
          x_streamed_[static_cast<size_t>(i * segment_count_ + g)] =
              measure_x(count_range(x_.row(n, c, h), segment.in_begin, segment.in_end), segment);
        }
      }
    }
  }

  Streamed measure_x(int64_t nonzeros, const Segment& segment) const {
    const double bytes =
        row_bytes(static_cast<double>(nonzeros), segment.used, segment.headers, chip_);
    return {static_cast<int32_t>(chip_.skips_zeros ? nonzeros : segment.used),
            static_cast<int32_t>(std::ceil(bytes))};
  }
  Streamed measure_dy(int64_t nonzeros, const Segment& segment) const {
    const int64_t reach = int64_t{1} << chip_.offset_bits;
    const int64_t headers = (segment.out_end - 1) / reach - segment.out_begin / reach + 1;
    const double bytes = row_bytes(static_cast<double>(nonzeros), segment.width(), headers, chip_);
    return {static_cast<int32_t>(chip_.skips_zeros ? nonzeros : segment.width()),
            static_cast<int32_t>(std::ceil(bytes))};
  }

  // Pairs of nonzeros of a row of dy and a row of x whose output column is in the segment.
  int64_t pairs(const uint64_t* dy, const uint64_t* planes, const Segment& segment) {
    if (segment_count_ == 1) return window_layout_.dot(dy, planes);
    part_.assign(static_cast<size_t>(dy_.row_words()), 0);
    for (int64_t i = 0; i < dy_.row_words(); ++i)
      part_[static_cast<size_t>(i)] = dy[i] & range_word(i, segment.out_begin, segment.out_end);
    return window_layout_.dot(part_.data(), planes);
  }

  TaskCost work(const Block& b, const Task& task) {
    TaskCost cost;
    queue_.reset();
    const int64_t group = task.out / (shape_.C / shape_.groups),
                  first_k = group * (shape_.K / shape_.groups);
    for (int64_t j = 0; j < task.entries; ++j) {
      kernel_row_[j] = (task.entry + j) % shape_.R;
      filter_[j] = first_k + b.k0 + (task.entry + j) / shape_.R;
    }
    for (int64_t row = b.row0; row < b.row1; ++row) {
      const int64_t n = row / rows_ % x_.images, p = row % rows_;
      for (int64_t g = 0; g < segment_count_; ++g) step(task, n, p, g, &cost);
    }
    cost.bytes = queue_.bytes();
    cost.cycles = queue_.end();
    return cost;
  }

  // Simulates one output row on all PEs. A row that several PEs use is streamed once.
  void step(const Task& task, int64_t n, int64_t p, int64_t g, TaskCost* cost) {
    const Segment& segment = segments_[static_cast<size_t>(g)];
    int64_t last_filter = -1;
    for (int64_t j = 0; j < task.entries; ++j) {
      const int64_t r = kernel_row_[j], h = row_of_[static_cast<size_t>(p * shape_.R + r)];
      if (h < 0) continue;
      const int64_t dy_row = (n * shape_.K + filter_[j]) * rows_ + p, x_row = n * shape_.H + h;
      bool streamed = false;
      for (int64_t i = 0; i < j; ++i) streamed |= kernel_row_[i] == r;
      if (!streamed) {
        const Streamed& row = x_streamed_[static_cast<size_t>(x_row * segment_count_ + g)];
        queue_.stream(row.bytes);
        cost->elements += row.elements;
      }
      if (filter_[j] != last_filter) {
        const Streamed& row = dy_streamed_[static_cast<size_t>(dy_row * segment_count_ + g)];
        queue_.stream(row.bytes);
        cost->elements += row.elements;
        last_filter = filter_[j];
      }
      const int64_t macs = pairs(dy_.words.data() + dy_row * dy_.row_words(),
                                 planes_.data() + x_row * window_layout_.size(), segment);
      queue_.run(j, chip_.row_start_cycles + macs);
      cost->ops += 1;
      cost->macs += macs;
    }
  }

  const ConvShape& shape_;
  const Config& chip_;
  const Bitmap &x_, &dy_;
  const std::vector<Segment> segments_;
  GroupQueue queue_;
  const Planes window_layout_;
  const int64_t segment_count_, rows_;
  int64_t drain_;
  std::vector<int64_t> row_of_;
  std::vector<Streamed> dy_streamed_, x_streamed_;  // by row and segment
  std::vector<uint64_t> planes_, part_;
  int64_t kernel_row_[64], filter_[64];  // by PE; check() limits a group to 64 PEs
};

}  // namespace

Counts simulate_osrc(const Block* begin, const Block* end, const Layer& layer, const Trace& trace,
                     const Config& chip) {
  PassClock clock(chip);
  OsrcSimulator simulator(layer, trace, chip);
  int64_t partial = 0, written = 0;
  for (const Block* b = begin; b != end; ++b) simulator.run(*b, &clock, &partial, &written);
  return clock.finish(ceil_div(written * chip.value_bits, 8),
                      ceil_div(partial * chip.value_bits, 8));
}

}  // namespace sparsetrain::accel
