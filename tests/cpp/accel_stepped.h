// The oracle of the simulator, used by accel.cpp: a second implementation of the machine, written
// from docs/accelerator.md and independent of csrc/accel. It looks up every zero by itself and
// steps all groups, PEs, ports and the DRAM stream cycle by cycle. It is slow and simple. It takes
// only the blocks of a program as given.
#pragma once

#include <algorithm>
#include <deque>
#include <set>
#include <vector>

#include "accel/program.h"

namespace sparsetrain::stepped {

using namespace accel;  // NOLINT: a test

struct Operation {
  int64_t bytes, pe, cycles;  // may start when its bytes and all earlier ones have arrived
};

struct Task {
  int64_t ready_bytes = 0;  // may start when this much of the DRAM stream has arrived
  int64_t lead_bytes = 0, drain = 0, macs = 0;
  std::vector<Operation> operations;
};

struct Result {
  int64_t cycles = 0, macs = 0, row_ops = 0, port_bytes = 0;
};

inline bool bit(const Bitmap& b, int64_t n, int64_t c, int64_t h, int64_t w) {
  return b.row(n % b.images, c, h)[w / 64] >> (w % 64) & 1;
}

// A chip that runs the blocks [begin, end) of one pass of one layer.
class Chip {
 public:
  Chip(const Layer& layer, const Config& chip)
      : shape_(layer.shape), trace_(*layer.trace), chip_(chip) {}

  Result run(const Block* begin, const Block* end) {
    std::vector<Task> tasks;
    int64_t stream = 0, partial = 0;
    for (const Block* b = begin; b != end; ++b) {
      const size_t first = tasks.size();
      add_tasks(*b, &tasks);
      for (size_t i = first; i < tasks.size(); ++i) tasks[i].ready_bytes = stream + b->load_bytes;
      stream += b->load_bytes + b->store_bytes;
      if (b->reads_partial) partial += (b->c1 - b->c0) * (b->k1 - b->k0) * shape_.R * shape_.S;
    }
    Result result;
    for (const Task& task : tasks) {
      result.macs += task.macs;
      result.row_ops += static_cast<int64_t>(task.operations.size());
      result.port_bytes += task.lead_bytes;
      for (const Operation& o : task.operations) result.port_bytes += o.bytes;
    }
    result.port_bytes += (partial * chip_.value_bits + 7) / 8;
    result.cycles = step(tasks, stream);
    return result;
  }

 private:
  // --- the row operations ---

  // Outputs [begin, end) of a row, and the operand columns [in_begin, in_end) that they stream: all
  // columns whose kernel span overlaps the outputs. The first and the last segment also stream the
  // columns that no output needs.
  struct Segment {
    int64_t begin, end, in_begin, in_end;
  };
  std::vector<Segment> segments(bool is_grad_input) const {
    const int64_t width = is_grad_input ? shape_.W : shape_.Q();
    const int64_t in_width = is_grad_input ? shape_.Q() : shape_.W;
    const int64_t span = (shape_.S - 1) * shape_.dilation_w;
    std::vector<Segment> result;
    for (int64_t a = 0; a < width; a += chip_.register_values) {
      Segment segment{a, std::min(width, a + chip_.register_values), in_width, 0};
      for (int64_t in = 0; in < in_width; ++in) {
        const int64_t low =
            is_grad_input ? in * shape_.stride_w - shape_.pad_w : in + shape_.pad_w - span;
        const int64_t high = low + span;
        // low and high are columns of y times the stride (forward), or columns of dx.
        const int64_t scale = is_grad_input ? 1 : shape_.stride_w;
        if (high < segment.begin * scale && segment.begin != 0) continue;
        if (low > (segment.end - 1) * scale && segment.end != width) continue;
        segment.in_begin = std::min(segment.in_begin, in);
        segment.in_end = in + 1;
      }
      result.push_back(segment);
    }
    return result;
  }

  // Whether operand column `in` contributes to output column `out` through tap t.
  bool lands(bool is_grad_input, int64_t in, int64_t out, int64_t t) const {
    const int64_t x = is_grad_input ? out : in, y = is_grad_input ? in : out;
    return y * shape_.stride_w + t * shape_.dilation_w - shape_.pad_w == x;
  }
  int64_t landings(bool is_grad_input, int64_t in, const Segment& segment) const {
    int64_t count = 0;
    for (int64_t out = segment.begin; out < segment.end; ++out)
      for (int64_t t = 0; t < shape_.S; ++t) count += lands(is_grad_input, in, out, t);
    return count;
  }

  // Bytes of columns [begin, end) of a compressed row: headers of the stored pieces that they
  // overlap, values and offsets. On the twin: bytes of the `used` columns.
  int64_t bytes(const Bitmap& b, int64_t n, int64_t c, int64_t h, int64_t begin, int64_t end,
                int64_t used) const {
    if (!chip_.skips_zeros) return (used * chip_.value_bits + 7) / 8;
    std::set<int64_t> pieces;
    int64_t bits = 0;
    for (int64_t w = begin; w < end; ++w) {
      pieces.insert(w >> chip_.offset_bits);
      if (bit(b, n, c, h, w)) bits += chip_.value_bits + chip_.offset_bits;
    }
    bits += static_cast<int64_t>(pieces.size()) * chip_.row_header_bits;
    return (bits + 7) / 8;
  }
  int64_t used(bool is_grad_input, const Segment& segment) const {
    int64_t count = 0;
    for (int64_t in = segment.in_begin; in < segment.in_end; ++in)
      count += landings(is_grad_input, in, segment) > 0;
    return count;
  }
  bool set(const Bitmap& b, int64_t n, int64_t c, int64_t h, int64_t w) const {
    return !chip_.skips_zeros || bit(b, n, c, h, w);
  }

  void add_tasks(const Block& b, std::vector<Task>* tasks) const {
    if (b.pass == Pass::kGradWeight) return add_osrc_tasks(b, tasks);
    const bool is_grad_input = b.pass == Pass::kGradInput;
    const int64_t rows = is_grad_input ? shape_.H : shape_.P();
    for (int64_t row = b.row0; row < b.row1; ++row)
      for (const Segment& segment : segments(is_grad_input))
        for (int64_t out = is_grad_input ? b.c0 : b.k0; out < (is_grad_input ? b.c1 : b.k1); ++out)
          tasks->push_back(src_task(is_grad_input, row / rows, row % rows, segment, out));
  }

  Task src_task(bool is_grad_input, int64_t n, int64_t row, const Segment& segment,
                int64_t out) const {
    const Bitmap& operand = is_grad_input ? trace_.dy : trace_.x;
    const Bitmap& mask = trace_.mask ? *trace_.mask : trace_.x;
    const int64_t depth = (is_grad_input ? shape_.K : shape_.C) / shape_.groups;
    const int64_t group = out / ((is_grad_input ? shape_.C : shape_.K) / shape_.groups);
    Task task;
    task.drain =
        (segment.end - segment.begin + chip_.ppu_values_per_cycle - 1) / chip_.ppu_values_per_cycle;
    if (is_grad_input && chip_.skips_zeros) task.lead_bytes = (segment.end - segment.begin + 7) / 8;
    for (int64_t in = group * depth; in < (group + 1) * depth; ++in) {
      for (int64_t r = 0; r < shape_.R; ++r) {
        for (int64_t h = 0; h < operand.height; ++h) {
          const int64_t x = is_grad_input ? row : h, y = is_grad_input ? h : row;
          if (y * shape_.stride_h + r * shape_.dilation_h - shape_.pad_h != x) continue;
          int64_t macs = 0;
          for (int64_t w = segment.in_begin; w < segment.in_end; ++w) {
            if (!set(operand, n, in, h, w)) continue;
            for (int64_t o = segment.begin; o < segment.end; ++o)
              for (int64_t t = 0; t < shape_.S; ++t)
                macs +=
                    lands(is_grad_input, w, o, t) && (!is_grad_input || set(mask, n, out, row, o));
          }
          const int64_t streamed = bytes(operand, n, in, h, segment.in_begin, segment.in_end,
                                         used(is_grad_input, segment)) +
                                   (shape_.S * chip_.value_bits + 7) / 8;
          const auto pe = static_cast<int64_t>(task.operations.size()) % chip_.pes_per_group;
          task.operations.push_back({streamed, pe, chip_.row_start_cycles + macs});
          task.macs += macs;
        }
      }
    }
    return task;
  }

  void add_osrc_tasks(const Block& b, std::vector<Task>* tasks) const {
    const int64_t entries = (b.k1 - b.k0) * shape_.R;
    for (int64_t c = b.c0; c < b.c1; ++c)
      for (int64_t e = 0; e < entries; e += chip_.pes_per_group)
        tasks->push_back(osrc_task(b, c, e, std::min(entries, e + chip_.pes_per_group)));
  }

  Task osrc_task(const Block& b, int64_t c, int64_t first, int64_t last) const {
    const int64_t filters = shape_.K / shape_.groups,
                  k0 = c / (shape_.C / shape_.groups) * filters + b.k0;
    Task task;
    task.drain = (chip_.pes_per_group * shape_.S + chip_.ppu_values_per_cycle - 1) /
                 chip_.ppu_values_per_cycle;
    for (int64_t row = b.row0; row < b.row1; ++row) {
      const int64_t n = row / shape_.P(), p = row % shape_.P();
      for (const Segment& segment : segments(false)) {
        std::set<int64_t> x_rows, dy_rows;  // rows that this step has streamed
        for (int64_t e = first; e < last; ++e) {
          const int64_t r = e % shape_.R, k = k0 + e / shape_.R;
          const int64_t h = p * shape_.stride_h + r * shape_.dilation_h - shape_.pad_h;
          if (h < 0 || h >= shape_.H) continue;
          int64_t streamed = 0, macs = 0;
          if (x_rows.insert(r).second)
            streamed +=
                bytes(trace_.x, n, c, h, segment.in_begin, segment.in_end, used(false, segment));
          if (dy_rows.insert(k).second)
            streamed +=
                bytes(trace_.dy, n, k, p, segment.begin, segment.end, segment.end - segment.begin);
          for (int64_t q = segment.begin; q < segment.end; ++q)
            for (int64_t t = 0; t < shape_.S; ++t)
              for (int64_t w = 0; w < shape_.W; ++w)
                macs += lands(false, w, q, t) && set(trace_.x, n, c, h, w) &&
                        set(trace_.dy, n, k, p, q);
          task.operations.push_back({streamed, e - first, chip_.row_start_cycles + macs});
          task.macs += macs;
        }
      }
    }
    return task;
  }

  // --- time ---

  struct Group {
    const Task* task = nullptr;
    std::vector<std::deque<std::pair<int64_t, int64_t>>> queues;  // by PE: (bytes needed, cycles)
    std::vector<int64_t> left;                                    // by PE: cycles of its operation
    int64_t total = 0, delivered = 0, draining = 0;

    void take(const Task& next, const Config& chip) {
      const auto pes = static_cast<size_t>(chip.pes_per_group);
      task = &next;
      queues.assign(pes, {});
      left.assign(pes, 0);
      total = next.lead_bytes;
      delivered = 0;
      draining = next.drain;
      for (const Operation& o : next.operations) {
        total += o.bytes;
        queues[static_cast<size_t>(o.pe)].push_back({total, o.cycles});
      }
      start();
    }
    // At the start of a cycle, idle PEs take operations whose bytes have arrived.
    void start() {
      for (size_t pe = 0; pe < left.size(); ++pe) {
        while (left[pe] == 0 && !queues[pe].empty() && queues[pe].front().first <= delivered) {
          left[pe] = queues[pe].front().second;
          queues[pe].pop_front();
        }
      }
    }
    bool computing() const {
      if (delivered < total) return true;
      for (size_t pe = 0; pe < left.size(); ++pe)
        if (left[pe] > 0 || !queues[pe].empty()) return true;
      return false;
    }
    void cycle(const Config& chip) {
      if (!task) return;
      if (computing()) {
        for (int64_t& cycles : left) cycles = std::max<int64_t>(0, cycles - 1);
        delivered = std::min(total, delivered + chip.port_bytes_per_cycle);
        start();
      } else if (--draining == 0) {
        task = nullptr;
      }
    }
  };

  int64_t step(const std::vector<Task>& tasks, int64_t stream) const {
    std::vector<Group> groups(static_cast<size_t>(chip_.pe_groups));
    size_t next = 0;
    int64_t arrived = 0;
    for (int64_t clock = 0;; ++clock) {
      bool busy = next < tasks.size() || arrived < stream;
      for (Group& group : groups) {
        if (!group.task && next < tasks.size() && tasks[next].ready_bytes <= arrived)
          group.take(tasks[next++], chip_);
        busy |= group.task != nullptr;
      }
      if (!busy) return clock;
      for (Group& group : groups) group.cycle(chip_);
      arrived += chip_.dram_bytes_per_cycle;
    }
  }

  const ConvShape& shape_;
  const Trace& trace_;
  const Config& chip_;
};

}  // namespace sparsetrain::stepped
