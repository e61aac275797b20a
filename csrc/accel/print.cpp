// A program as text. Densities are not printed, because they belong to the workload.
#include <algorithm>
#include <sstream>

#include "program.h"

namespace sparsetrain::accel {
namespace {

std::string range(int64_t begin, int64_t end) {
  return end == begin + 1 ? std::to_string(begin)
                          : std::to_string(begin) + ":" + std::to_string(end);
}

template <class... T>
std::string list(T... numbers) {
  std::string text;
  ((text += (text.empty() ? "" : ",") + std::to_string(numbers)), ...);
  return "[" + text + "]";
}

class Printer {
 public:
  Printer(const Workload& workload, const Config& chip, Detail detail, int64_t most)
      : workload_(workload), chip_(chip), detail_(detail), most_(most) {}

  std::string run(const Program& program) {
    size_t i = 0;
    while (i < program.blocks.size()) {
      size_t end = i;
      while (end < program.blocks.size() && program.blocks[end].layer == program.blocks[i].layer &&
             program.blocks[end].pass == program.blocks[i].pass)
        ++end;
      head(program.blocks[i]);
      const auto count = static_cast<int64_t>(end - i);
      for (int64_t b = 0; b < std::min(most_, count); ++b)
        block(b, program.blocks[i + static_cast<size_t>(b)]);
      rest(count, "block", "");
      i = end;
    }
    return out_.str();
  }

 private:
  void head(const Block& b) {
    const Layer& layer = workload_.layers[static_cast<size_t>(b.layer)];
    const ConvShape& s = shape_ = layer.shape;
    segments_ = segments(s, b.pass, chip_);
    const Plan p = plan(layer, b.pass, chip_);
    out_ << "pass " << pass_name(b.pass) << " " << layer.name << " x" << list(s.N, s.C, s.H, s.W)
         << " w" << list(s.K, s.C / s.groups, s.R, s.S) << " y" << list(s.N, s.K, s.P(), s.Q())
         << " stride " << s.stride_h << "," << s.stride_w << " pad " << s.pad_h << "," << s.pad_w;
    if (s.dilation_h != 1 || s.dilation_w != 1)
      out_ << " dilation " << s.dilation_h << "," << s.dilation_w;
    if (s.groups != 1) out_ << " groups " << s.groups;
    const char* tile = b.pass == Pass::kGradWeight ? "dw" : "w";
    out_ << " resident " << (p.slab_resident ? "rows" : tile) << " tiles " << p.tiles << " slabs "
         << p.slabs << "\n";
  }

  std::string row_name(int64_t row, bool forward) const {
    const int64_t rows = forward ? shape_.P() : shape_.H;
    return "n" + std::to_string(row / rows) + (forward ? ".p" : ".h") + std::to_string(row % rows);
  }

  void block(int64_t number, const Block& b) {
    const bool forward = b.pass != Pass::kGradInput;
    int64_t tasks = 0;
    for_each_task(b, shape_, std::ssize(segments_), chip_.pes_per_group,
                  [&](const Task&) { ++tasks; });
    out_ << "block " << number << "  ";
    if (b.pass != Pass::kForward) out_ << "c " << b.c0 << ":" << b.c1 << " ";
    if (b.pass != Pass::kGradInput) out_ << "k " << b.k0 << ":" << b.k1 << " ";
    out_ << "rows " << row_name(b.row0, forward) << ":" << row_name(b.row1 - 1, forward)
         << "  load " << b.load_bytes << " B  store " << b.store_bytes << " B  tasks " << tasks
         << "\n";
    if (detail_ == Detail::kBlock) return;
    int64_t shown = 0;
    for_each_task(b, shape_, std::ssize(segments_), chip_.pes_per_group, [&](const Task& t) {
      if (shown++ < most_) b.pass == Pass::kGradWeight ? osrc_task(b, t) : src_task(b, t);
    });
    rest(tasks, "task", "  ");
  }

  void src_task(const Block& b, const Task& t) {
    const ConvShape& s = shape_;
    const bool forward = b.pass == Pass::kForward;
    const int64_t depth = (forward ? s.C : s.K) / s.groups;
    const int64_t first = t.out / ((forward ? s.K : s.C) / s.groups) * depth;
    std::vector<RowUse> uses;
    valid_rows(s, b.pass, t.row, &uses);
    const Segment& segment = segments_[static_cast<size_t>(t.segment)];
    const std::string columns =
        std::ssize(segments_) == 1 ? ":" : range(segment.out_begin, segment.out_end);
    const std::string channels = range(first, first + depth);
    int64_t low = 0, high = 0;
    for (const RowUse& use : uses) {
      low = high == 0 ? use.row : std::min(low, use.row);
      high = std::max(high, use.row + 1);
    }
    const std::string n = std::to_string(t.image), o = std::to_string(t.out);
    const std::string row = std::to_string(t.row), rows = range(low, std::max(high, low + 1));
    const std::string place = "[" + n + "," + o + "," + row + "," + columns + "]";
    if (forward)
      out_ << "  SRC  y" << place << " <- x[" << n << "," << channels << "," << rows << ",:] * w["
           << o << ",0:" << depth << ",:,:]";
    else
      out_ << "  MSRC dx" << place << " <- dy[" << n << "," << channels << "," << rows
           << ",:] * rot(w[" << channels << "," << t.out % (s.C / s.groups) << ",:,:]) where mask"
           << place;
    const int64_t ops = depth * std::ssize(uses);
    out_ << "  row_ops " << ops << "\n";
    if (detail_ != Detail::kOperation) return;
    int64_t i = 0;
    for (int64_t c = first; c < first + depth; ++c)
      for (const RowUse& use : uses)
        if (i++ < most_)
          out_ << "    pe " << (i - 1) % chip_.pes_per_group << "  " << (forward ? "x[" : "dy[")
               << n << "," << c << "," << use.row << ",:] * w[" << (forward ? t.out : c) << ","
               << (forward ? c - first : t.out % (s.C / s.groups)) << "," << use.r << ",:]\n";
    rest(ops, "row operation", "    ");
  }

  void osrc_task(const Block& b, const Task& t) {
    const ConvShape& s = shape_;
    const int64_t group = t.out / (s.C / s.groups), channel = t.out % (s.C / s.groups);
    int64_t ops = 0;
    std::vector<RowUse> uses;
    std::ostringstream lines;
    for (int64_t row = b.row0; row < b.row1; ++row) {
      valid_rows(s, b.pass, row % s.P(), &uses);
      for (int64_t g = 0; g < std::ssize(segments_); ++g)
        for (int64_t j = 0; j < t.entries; ++j)
          for (const RowUse& use : uses) {
            const int64_t e = t.entry + j, k = group * (s.K / s.groups) + b.k0 + e / s.R;
            if (use.r != e % s.R) continue;
            if (ops++ < most_)
              lines << "    pe " << j << "  dw[" << k << "," << channel << "," << use.r
                    << ",:] += x[" << row / s.P() << "," << t.out << "," << use.row << ",:] . dy["
                    << row / s.P() << "," << k << "," << row % s.P() << ",:]\n";
          }
    }
    out_ << "  OSRC";
    for (int64_t j = 0; j < t.entries; ++j)
      out_ << " dw[" << group * (s.K / s.groups) + b.k0 + (t.entry + j) / s.R << "," << channel
           << "," << (t.entry + j) % s.R << ",:]";
    out_ << " += x[:," << t.out << ",:,:] . dy rows " << row_name(b.row0, true) << ":"
         << row_name(b.row1 - 1, true) << "  row_ops " << ops << "\n";
    if (detail_ != Detail::kOperation) return;
    out_ << lines.str();
    rest(ops, "row operation", "    ");
  }

  void rest(int64_t count, const char* what, const char* indent) {
    if (count > most_) out_ << indent << "... " << count - most_ << " more " << what << "s\n";
  }

  const Workload& workload_;
  const Config& chip_;
  const Detail detail_;
  const int64_t most_;
  ConvShape shape_{};
  std::vector<Segment> segments_;
  std::ostringstream out_;
};

}  // namespace

const char* pass_name(Pass pass) {
  constexpr const char* kNames[] = {"forward", "grad_input", "grad_weight"};
  return kNames[static_cast<size_t>(pass)];
}

std::string print(const Program& program, const Workload& workload, const Config& chip,
                  Detail detail, int64_t most) {
  return Printer(workload, chip, detail, most).run(program);
}

}  // namespace sparsetrain::accel
