// The compiler, Workload x Config -> Program: writes the plan of each pass out as blocks.
#include <algorithm>
#include <cmath>

#include "bits.h"
#include "program.h"

namespace sparsetrain::accel {
namespace {

// Running sums over rows (n, row) of the stored bytes of an operand, all channels together.
class RowSums {
 public:
  RowSums(int64_t images, int64_t rows, const std::vector<double>& bytes) : rows_(rows) {
    sums_.push_back(0);
    const auto known = std::ssize(bytes);
    for (int64_t i = 0; i < images * rows; ++i)
      sums_.push_back(sums_.back() + bytes[static_cast<size_t>(i % known)]);
  }
  double between(int64_t begin, int64_t end) const {
    return begin < end ? sums_[static_cast<size_t>(end)] - sums_[static_cast<size_t>(begin)] : 0;
  }
  int64_t rows() const { return rows_; }

 private:
  int64_t rows_;
  std::vector<double> sums_;
};

int64_t row_nonzeros(const Bitmap& bits, int64_t n, int64_t row) {
  int64_t count = 0;
  for (int64_t c = 0; c < bits.channels; ++c)
    for (int64_t i = 0; i < bits.row_words(); ++i) count += count_bits(bits.row(n, c, row)[i]);
  return count;
}

// An operand of a layer; `bits` or `map` is set if its zeros are known.
struct Operand {
  int64_t channels, rows, width;
  double density;
  const Bitmap* bits;
  const std::vector<int32_t>* map;
};

RowSums row_sums(const Operand& o, int64_t images, const Config& chip) {
  std::vector<double> bytes;
  const int64_t headers = o.channels * stored_segments(o.width, chip);
  const auto add = [&](double nonzeros) {
    bytes.push_back(row_bytes(nonzeros, o.channels * o.width, headers, chip));
  };
  if (o.bits) {
    for (int64_t i = 0; i < o.bits->images * o.rows; ++i)
      add(static_cast<double>(row_nonzeros(*o.bits, i / o.rows, i % o.rows)));
  } else if (o.map) {
    for (size_t i = 0; i < o.map->size(); i += static_cast<size_t>(o.width)) {
      double nonzeros = 0;
      for (int64_t w = 0; w < o.width; ++w) nonzeros += (*o.map)[i + static_cast<size_t>(w)];
      add(nonzeros);
    }
  } else {
    add(o.density * static_cast<double>(o.channels * o.width));
  }
  return {images, o.rows, bytes};
}

RowSums x_sums(const Layer& l, const Config& chip) {
  const bool skips = chip.skips_zeros;
  return row_sums(
      {l.shape.C, l.shape.H, l.shape.W, l.x_density, skips && l.trace ? &l.trace->x : nullptr,
       skips && l.maps ? &l.maps->x_map : nullptr},
      l.shape.N, chip);
}

RowSums dy_sums(const Layer& l, const Config& chip) {
  const bool skips = chip.skips_zeros;
  return row_sums(
      {l.shape.K, l.shape.P(), l.shape.Q(), l.dy_density, skips && l.trace ? &l.trace->dy : nullptr,
       skips && l.maps ? &l.maps->dy_map : nullptr},
      l.shape.N, chip);
}

class PassCompiler {
 public:
  PassCompiler(const Layer& layer, int32_t index, Pass pass, const Config& chip)
      : shape_(layer.shape),
        index_(index),
        pass_(pass),
        plan_(plan(layer, pass, chip)),
        bytes_(footprint(layer, chip)),
        x_(x_sums(layer, chip)),
        dy_(dy_sums(layer, chip)) {}

  void run(std::vector<Block>* blocks) {
    const auto tiles = make_tiles();
    const int64_t outer = plan_.slab_resident ? plan_.slabs : std::ssize(tiles);
    const int64_t inner = plan_.slab_resident ? std::ssize(tiles) : plan_.slabs;
    for (int64_t i = 0; i < outer; ++i) {
      for (int64_t j = 0; j < inner; ++j) {
        const int64_t slab = plan_.slab_resident ? i : j;
        Block b = tiles[static_cast<size_t>(plan_.slab_resident ? j : i)];
        b.row0 = slab * plan_.rows_per_slab;
        b.row1 = std::min(plan_.rows, b.row0 + plan_.rows_per_slab);
        fill(&b, slab, j == 0);
        blocks->push_back(b);
      }
    }
  }

 private:
  std::vector<Block> make_tiles() const {
    std::vector<Block> tiles;
    const int64_t cg = shape_.C / shape_.groups, kg = shape_.K / shape_.groups;
    const auto add = [&](int64_t k0, int64_t k1, int64_t c0, int64_t c1) {
      tiles.push_back({pass_, index_, static_cast<int32_t>(k0), static_cast<int32_t>(k1),
                       static_cast<int32_t>(c0), static_cast<int32_t>(c1), 0, 0, 0, 0, false});
    };
    if (pass_ == Pass::kForward) {
      for (int64_t k = 0; k < shape_.K; k += plan_.k_tile)
        add(k, std::min(shape_.K, k + plan_.k_tile), 0, cg);
    } else if (pass_ == Pass::kGradInput) {
      for (int64_t c = 0; c < shape_.C; c += plan_.c_tile)
        add(0, kg, c, std::min(shape_.C, c + plan_.c_tile));
    } else {
      // A tile with fewer channels than a group does not cross the end of the group.
      const int64_t span = plan_.c_tile < cg ? cg : shape_.C;
      for (int64_t first = 0; first < shape_.C; first += span)
        for (int64_t c = first; c < first + span; c += plan_.c_tile)
          for (int64_t k = 0; k < kg; k += plan_.k_tile)
            add(k, std::min(kg, k + plan_.k_tile), c, std::min(first + span, c + plan_.c_tile));
    }
    return tiles;
  }

  // Number of operand rows that the output rows before `row` need: rows of x (forward, kGradWeight)
  // or of dy (kGradInput).
  int64_t needed(int64_t row) const {
    const bool grad_input = pass_ == Pass::kGradInput;
    const int64_t per_image = grad_input ? shape_.H : shape_.P(),
                  in_rows = grad_input ? shape_.P() : shape_.H;
    const int64_t n = row / per_image, last = row % per_image - 1;
    if (last < 0) return n * in_rows;
    const int64_t reach =
        grad_input ? (last + shape_.pad_h) / shape_.stride_h
                   : last * shape_.stride_h + (shape_.R - 1) * shape_.dilation_h - shape_.pad_h;
    return n * in_rows + std::clamp<int64_t>(reach + 1, 0, in_rows);
  }

  void fill(Block* b, int64_t slab, bool first_inner) const {
    const double k = static_cast<double>(b->k1 - b->k0), c = static_cast<double>(b->c1 - b->c0);
    const double rows = static_cast<double>(b->row1 - b->row0) / static_cast<double>(plan_.rows);
    const RowSums& in = pass_ == Pass::kGradInput ? dy_ : x_;
    const double in_bytes = in.between(needed(b->row0), needed(b->row1));
    const bool streams = !plan_.slab_resident || first_inner;
    const bool new_tile = plan_.slab_resident || first_inner;
    double load = 0, store = 0;
    if (pass_ == Pass::kGradWeight) {
      const int64_t filters = shape_.K / shape_.groups;
      const double tile_w = bytes_.w * c * k / static_cast<double>(shape_.C * filters);
      const double x_share = plan_.slab_resident ? 1 : c / static_cast<double>(shape_.C);
      const double dy_share =
          plan_.slab_resident
              ? 1
              : static_cast<double>(touched_groups(b->c0, b->c1, shape_.C / shape_.groups)) * k /
                    static_cast<double>(shape_.K);
      if (streams) load = x_share * in_bytes + dy_share * dy_.between(b->row0, b->row1);
      b->reads_partial = slab > 0;
      if (plan_.slab_resident) {
        load += slab > 0 ? tile_w : 0;
        store = tile_w;
      } else if (slab == plan_.slabs - 1) {
        store = tile_w;
      }
    } else {
      const bool forward = pass_ == Pass::kForward;
      const double share =
          forward ? k / static_cast<double>(shape_.K) : c / static_cast<double>(shape_.C);
      const int64_t begin = forward ? b->k0 : b->c0, end = forward ? b->k1 : b->c1;
      const int64_t size = (forward ? shape_.K : shape_.C) / shape_.groups;
      const double in_share = plan_.slab_resident
                                  ? 1
                                  : static_cast<double>(touched_groups(begin, end, size)) /
                                        static_cast<double>(shape_.groups);
      const double masks = forward ? 0 : bytes_.mask * rows * (plan_.slab_resident ? 1 : share);
      if (streams) load = in_share * in_bytes + masks;
      if (new_tile) load += bytes_.w * share;
      store = (forward ? bytes_.y : bytes_.dx) * rows * share;
    }
    b->load_bytes = static_cast<int64_t>(std::ceil(load - 1e-6));
    b->store_bytes = static_cast<int64_t>(std::ceil(store - 1e-6));
  }

  const ConvShape& shape_;
  const int32_t index_;
  const Pass pass_;
  const Plan plan_;
  const Footprint bytes_;
  const RowSums x_, dy_;
};

}  // namespace

Program compile(const Workload& workload, const Config& chip) {
  check(chip);
  check(workload);
  Program program;
  for (size_t i = 0; i < workload.layers.size(); ++i) {
    const Layer& layer = workload.layers[i];
    for (const Pass pass : {Pass::kForward, Pass::kGradInput, Pass::kGradWeight}) {
      if (pass == Pass::kGradInput && !layer.needs_grad_input) continue;
      if (pass == Pass::kGradWeight && !layer.needs_grad_weight) continue;
      PassCompiler(layer, static_cast<int32_t>(i), pass, chip).run(&program.blocks);
    }
  }
  return program;
}

}  // namespace sparsetrain::accel
