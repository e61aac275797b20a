// The simulator of SRC and MSRC row operations (forward and grad_input).
#include <cmath>

#include "bits.h"
#include "simulator.h"

namespace sparsetrain::accel {
namespace {

class SrcSimulator {
 public:
  SrcSimulator(const Layer& layer, const Trace& trace, Pass pass, const Config& chip)
      : shape_(layer.shape),
        is_grad_input_(pass == Pass::kGradInput),
        pass_(pass),
        chip_(chip),
        operand_(is_grad_input_ ? trace.dy : trace.x),
        mask_(trace.mask ? *trace.mask : trace.x),
        segments_(segments(shape_, pass, chip)),
        queue_(chip.pes_per_group, chip.port_bytes_per_cycle),
        window_layout_(shape_.Q(), shape_.S),
        tap_layout_(is_grad_input_ ? 1 : shape_.W, shape_.S),
        planes_(static_cast<size_t>(window_layout_.size())) {
    channels_ = (is_grad_input_ ? shape_.K : shape_.C) / shape_.groups;
    outputs_ = (is_grad_input_ ? shape_.C : shape_.K) / shape_.groups;
    rows_ = is_grad_input_ ? shape_.H : shape_.P();
    images_ = operand_.images;
    measure_rows();
    if (!is_grad_input_) prepare_taps();
    // A forward task costs the same for all filters of a group. On a dense twin, a task costs the
    // same for all outputs. Each distinct cost is computed once.
    shared_ = !is_grad_input_ || !chip.skips_zeros;
    const int64_t kinds = shared_ ? (chip.skips_zeros ? shape_.groups : 1) : shape_.C;
    kinds_ = kinds;
    known_.assign(static_cast<size_t>(images_ * rows_ * std::ssize(segments_) * kinds),
                  TaskCost{-1});
  }

  void run(const Block& b, PassClock* clock) {
    clock->open(b);
    for_each_task(b, shape_, std::ssize(segments_), chip_.pes_per_group, [&](const Task& task) {
      const int64_t width = segments_[static_cast<size_t>(task.segment)].width();
      clock->run(cost(task), ceil_div(width, chip_.ppu_values_per_cycle));
    });
  }

 private:
  void prepare_taps() {
    for (const Segment& segment : segments_) {
      std::vector<uint64_t> planes(static_cast<size_t>(tap_layout_.size()), 0);
      for (int64_t w = segment.in_begin; w < segment.in_end; ++w) {
        const int64_t t = taps(shape_, pass_, w, segment.out_begin, segment.out_end);
        if (t) tap_layout_.set(planes.data(), w, t);
      }
      taps_.push_back(std::move(planes));
    }
  }

  const TaskCost& cost(const Task& t) {
    const int64_t group = t.out / outputs_, image = t.image % images_;
    const int64_t kind = shared_ ? (kinds_ == 1 ? 0 : group) : t.out;
    const int64_t index =
        ((image * rows_ + t.row) * std::ssize(segments_) + t.segment) * kinds_ + kind;
    TaskCost& known = known_[static_cast<size_t>(index)];
    if (known.cycles < 0) known = work(image, t.row, t.segment, group, t.out);
    return known;
  }

  TaskCost work(int64_t image, int64_t row, int64_t segment_index, int64_t group, int64_t out) {
    const Segment& segment = segments_[static_cast<size_t>(segment_index)];
    TaskCost cost;
    queue_.reset();
    const uint64_t* planes = planes_.data();
    if (is_grad_input_) {
      window_planes(shape_, mask_.row(image, out, row), segment.out_begin, segment.out_end,
                    window_layout_, planes_.data());
      if (chip_.skips_zeros) queue_.stream(ceil_div(segment.width(), 8));
    } else {
      planes = taps_[static_cast<size_t>(segment_index)].data();
    }
    const Planes& layout = is_grad_input_ ? window_layout_ : tap_layout_;
    valid_rows(shape_, pass_, row, &uses_);
    int64_t pe = 0;
    for (int64_t c = group * channels_; c < (group + 1) * channels_; ++c) {
      for (const RowUse& use : uses_) {
        const int64_t operand = (image * operand_.channels + c) * operand_.height + use.row;
        const Streamed& row =
            streamed_[static_cast<size_t>(operand * std::ssize(segments_) + segment_index)];
        const int64_t macs =
            layout.dot(operand_.words.data() + operand * operand_.row_words(), planes);
        queue_.stream(row.bytes);
        queue_.run(pe, chip_.row_start_cycles + macs);
        pe = pe + 1 == chip_.pes_per_group ? 0 : pe + 1;
        cost.ops += 1;
        cost.macs += macs;
        cost.elements += row.elements;
      }
    }
    cost.bytes = queue_.bytes();
    cost.cycles = queue_.end();
    return cost;
  }

  // What one operation streams: the columns of an operand row that a segment needs, and a kernel
  // row.
  struct Streamed {
    int32_t elements, bytes;
  };
  void measure_rows() {
    const int64_t rows = operand_.images * operand_.channels * operand_.height;
    const int64_t weight_bytes = ceil_div(shape_.S * chip_.value_bits, 8);
    streamed_.reserve(static_cast<size_t>(rows * std::ssize(segments_)));
    for (int64_t row = 0; row < rows; ++row) {
      const uint64_t* bits = operand_.words.data() + row * operand_.row_words();
      for (const Segment& segment : segments_) {
        const int64_t n =
            chip_.skips_zeros ? count_range(bits, segment.in_begin, segment.in_end) : segment.used;
        const double bytes =
            row_bytes(static_cast<double>(n), segment.used, segment.headers, chip_);
        streamed_.push_back(
            {static_cast<int32_t>(n + shape_.S),
             static_cast<int32_t>(static_cast<int64_t>(std::ceil(bytes)) + weight_bytes)});
      }
    }
  }

  const ConvShape& shape_;
  const bool is_grad_input_;
  const Pass pass_;
  const Config& chip_;
  const Bitmap &operand_, &mask_;
  const std::vector<Segment> segments_;
  GroupQueue queue_;
  const Planes window_layout_, tap_layout_;
  std::vector<uint64_t> planes_;
  std::vector<std::vector<uint64_t>> taps_;  // by segment
  std::vector<RowUse> uses_;
  std::vector<Streamed> streamed_;  // by operand row and segment
  std::vector<TaskCost> known_;     // by image, row, segment and kind of output; cycles -1: unknown
  int64_t channels_, outputs_, rows_, images_, kinds_;
  bool shared_;
};

}  // namespace

Counts simulate_src(const Block* begin, const Block* end, const Layer& layer, const Trace& trace,
                    const Config& chip) {
  PassClock clock(chip);
  SrcSimulator simulator(layer, trace, begin->pass, chip);
  for (const Block* b = begin; b != end; ++b) simulator.run(*b, &clock);
  const Footprint bytes = footprint(layer, chip);
  return clock.finish(std::llround(begin->pass == Pass::kForward ? bytes.y : bytes.dx), 0);
}

}  // namespace sparsetrain::accel
