// The machine of docs/accelerator.md once more, from its description and not from csrc/accel: zeros
// are looked up one by one, and all groups, PEs, ports and the DRAM stream are stepped cycle by
// cycle. Slow and plain: the oracle of the simulator. Only a program's blocks are taken as given.
#pragma once

#include <algorithm>
#include <deque>
#include <set>
#include <vector>

#include "accel/program.h"

namespace sparsetrain::stepped {

using namespace accel;  // NOLINT: a test

struct Operation {
  int64_t bytes, pe, cycles;  // it may start when all bytes up to its own have arrived
};

struct Task {
  int64_t ready_bytes = 0;  // of the DRAM stream
  int64_t lead_bytes = 0, drain = 0, macs = 0;
  std::vector<Operation> operations;
};

struct Result {
  int64_t cycles = 0, macs = 0, row_ops = 0, port_bytes = 0;
};

inline bool bit(const Bitmap& b, int64_t n, int64_t c, int64_t h, int64_t w) {
  return b.row(n % b.images, c, h)[w / 64] >> (w % 64) & 1;
}

// One pass of one layer, blocks [begin, end).
class Chip {
 public:
  Chip(const Layer& layer, const Config& chip) : s_(layer.shape), t_(*layer.trace), chip_(chip) {}

  Result run(const Block* begin, const Block* end) {
    std::vector<Task> tasks;
    int64_t stream = 0, partial = 0;
    for (const Block* b = begin; b != end; ++b) {
      const size_t first = tasks.size();
      add_tasks(*b, &tasks);
      for (size_t i = first; i < tasks.size(); ++i) tasks[i].ready_bytes = stream + b->load_bytes;
      stream += b->load_bytes + b->store_bytes;
      if (b->reads_partial) partial += (b->c1 - b->c0) * (b->k1 - b->k0) * s_.R * s_.S;
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
  // --- what the row operations are ---

  // Columns of the operand, and of its stored form, that a stretch [begin, end) of outputs streams:
  // all whose kernel span meets it; the first and the last stretch also take what nobody needs.
  struct Stretch {
    int64_t begin, end, in_begin, in_end;
  };
  std::vector<Stretch> stretches(bool up) const {
    const int64_t width = up ? s_.W : s_.Q(), in_width = up ? s_.Q() : s_.W;
    const int64_t span = (s_.S - 1) * s_.dilation_w;
    std::vector<Stretch> result;
    for (int64_t a = 0; a < width; a += chip_.register_values) {
      Stretch c{a, std::min(width, a + chip_.register_values), in_width, 0};
      for (int64_t in = 0; in < in_width; ++in) {
        const int64_t low = up ? in * s_.stride_w - s_.pad_w : in + s_.pad_w - span;
        const int64_t high = low + span;  // in outputs, times the stride if not up
        const int64_t scale = up ? 1 : s_.stride_w;
        if (high < c.begin * scale && c.begin != 0) continue;
        if (low > (c.end - 1) * scale && c.end != width) continue;
        c.in_begin = std::min(c.in_begin, in);
        c.in_end = in + 1;
      }
      result.push_back(c);
    }
    return result;
  }

  // Does column `in` of the operand meet output column `out` under tap t?
  bool lands(bool up, int64_t in, int64_t out, int64_t t) const {
    const int64_t x = up ? out : in, y = up ? in : out;
    return y * s_.stride_w + t * s_.dilation_w - s_.pad_w == x;
  }
  int64_t landings(bool up, int64_t in, const Stretch& c) const {
    int64_t count = 0;
    for (int64_t out = c.begin; out < c.end; ++out)
      for (int64_t t = 0; t < s_.S; ++t) count += lands(up, in, out, t);
    return count;
  }

  // Bytes of columns [begin, end) of a row: headers of the stored pieces touched, values, offsets;
  // on the twin the `used` columns.
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
  int64_t used(bool up, const Stretch& c) const {
    int64_t count = 0;
    for (int64_t in = c.in_begin; in < c.in_end; ++in) count += landings(up, in, c) > 0;
    return count;
  }
  bool set(const Bitmap& b, int64_t n, int64_t c, int64_t h, int64_t w) const {
    return !chip_.skips_zeros || bit(b, n, c, h, w);
  }

  void add_tasks(const Block& b, std::vector<Task>* tasks) const {
    if (b.pass == Pass::kGradWeight) return add_weight_tasks(b, tasks);
    const bool up = b.pass == Pass::kGradInput;
    const int64_t rows = up ? s_.H : s_.P();
    for (int64_t row = b.row0; row < b.row1; ++row)
      for (const Stretch& c : stretches(up))
        for (int64_t out = up ? b.c0 : b.k0; out < (up ? b.c1 : b.k1); ++out)
          tasks->push_back(gather(up, row / rows, row % rows, c, out));
  }

  Task gather(bool up, int64_t n, int64_t row, const Stretch& c, int64_t out) const {
    const Bitmap& operand = up ? t_.dy : t_.x;
    const Bitmap& mask = t_.mask ? *t_.mask : t_.x;
    const int64_t depth = (up ? s_.K : s_.C) / s_.groups;
    const int64_t group = out / ((up ? s_.C : s_.K) / s_.groups);
    Task task;
    task.drain = (c.end - c.begin + chip_.ppu_values_per_cycle - 1) / chip_.ppu_values_per_cycle;
    if (up && chip_.skips_zeros) task.lead_bytes = (c.end - c.begin + 7) / 8;
    for (int64_t in = group * depth; in < (group + 1) * depth; ++in) {
      for (int64_t r = 0; r < s_.R; ++r) {
        for (int64_t h = 0; h < operand.height; ++h) {
          const int64_t x = up ? row : h, y = up ? h : row;
          if (y * s_.stride_h + r * s_.dilation_h - s_.pad_h != x) continue;
          int64_t macs = 0;
          for (int64_t w = c.in_begin; w < c.in_end; ++w) {
            if (!set(operand, n, in, h, w)) continue;
            for (int64_t o = c.begin; o < c.end; ++o)
              for (int64_t t = 0; t < s_.S; ++t)
                macs += lands(up, w, o, t) && (!up || set(mask, n, out, row, o));
          }
          const int64_t streamed = bytes(operand, n, in, h, c.in_begin, c.in_end, used(up, c)) +
                                   (s_.S * chip_.value_bits + 7) / 8;
          const auto pe = static_cast<int64_t>(task.operations.size()) % chip_.pes_per_group;
          task.operations.push_back({streamed, pe, chip_.row_start_cycles + macs});
          task.macs += macs;
        }
      }
    }
    return task;
  }

  void add_weight_tasks(const Block& b, std::vector<Task>* tasks) const {
    const int64_t entries = (b.k1 - b.k0) * s_.R;
    for (int64_t c = b.c0; c < b.c1; ++c)
      for (int64_t e = 0; e < entries; e += chip_.pes_per_group)
        tasks->push_back(weights(b, c, e, std::min(entries, e + chip_.pes_per_group)));
  }

  Task weights(const Block& b, int64_t c, int64_t first, int64_t last) const {
    const int64_t filters = s_.K / s_.groups, k0 = c / (s_.C / s_.groups) * filters + b.k0;
    Task task;
    task.drain =
        (chip_.pes_per_group * s_.S + chip_.ppu_values_per_cycle - 1) / chip_.ppu_values_per_cycle;
    for (int64_t row = b.row0; row < b.row1; ++row) {
      const int64_t n = row / s_.P(), p = row % s_.P();
      for (const Stretch& cut : stretches(false)) {
        std::set<int64_t> x_rows, dy_rows;  // streamed in this step
        for (int64_t e = first; e < last; ++e) {
          const int64_t r = e % s_.R, k = k0 + e / s_.R;
          const int64_t h = p * s_.stride_h + r * s_.dilation_h - s_.pad_h;
          if (h < 0 || h >= s_.H) continue;
          int64_t streamed = 0, macs = 0;
          if (x_rows.insert(r).second)
            streamed += bytes(t_.x, n, c, h, cut.in_begin, cut.in_end, used(false, cut));
          if (dy_rows.insert(k).second)
            streamed += bytes(t_.dy, n, k, p, cut.begin, cut.end, cut.end - cut.begin);
          for (int64_t q = cut.begin; q < cut.end; ++q)
            for (int64_t t = 0; t < s_.S; ++t)
              for (int64_t w = 0; w < s_.W; ++w)
                macs += lands(false, w, q, t) && set(t_.x, n, c, h, w) && set(t_.dy, n, k, p, q);
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
    std::vector<std::deque<std::pair<int64_t, int64_t>>> queues;  // by PE: bytes needed, cycles
    std::vector<int64_t> left;                                    // by PE: of its operation
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
    // At the start of a cycle: idle PEs take what has fully arrived.
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

  const ConvShape& s_;
  const Trace& t_;
  const Config& chip_;
};

}  // namespace sparsetrain::stepped
