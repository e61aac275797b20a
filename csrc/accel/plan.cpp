// The two loop orders of each pass, their DRAM bytes, and the choice between them.
#include "plan.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "rows.h"

namespace sparsetrain::accel {
namespace {

double tensor_bytes(int64_t rows, int64_t width, double density, const Config& chip) {
  return static_cast<double>(rows) *
         row_bytes(density * static_cast<double>(width), width, stored_segments(width, chip), chip);
}

int64_t pieces(double bytes, double room) {
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(bytes / room)));
}

int64_t fitting(double room, double bytes_each, int64_t most) {
  return static_cast<int64_t>(std::clamp(std::floor(room / bytes_each), 1.0, double(most)));
}

// Sizes and bytes of a forward or kGradInput pass. Tiles share `in`, except that a tile reads only
// the groups it touches. `per_tile` (masks) is divided among the tiles.
struct SrcBytes {
  // Outputs are filters (forward) or channels of x (kGradInput): all, of a group; number of groups.
  int64_t outputs, group_outputs, groups;
  int64_t rows;
  double w, in, per_tile, written;
};

void fill(const SrcBytes& g, int64_t tile, bool slab_resident, double half, Plan* p) {
  p->slab_resident = slab_resident;
  p->rows = g.rows;
  p->k_tile = p->c_tile = tile;
  p->tiles = ceil_div(g.outputs, tile);
  const double streamed = g.in + g.per_tile;
  if (slab_resident) {
    p->slabs = std::min(g.rows, pieces(streamed, half));
    p->rows_per_slab = ceil_div(g.rows, p->slabs);
  } else {
    p->rows_per_slab = fitting(half / 2, streamed / static_cast<double>(g.rows), g.rows);
  }
  p->slabs = ceil_div(g.rows, p->rows_per_slab);
  p->write_bytes = g.written;
  double shared = 0;  // sum over tiles of the share of `in` that a tile loads
  for (int64_t begin = 0; begin < g.outputs; begin += tile) {
    const int64_t end = std::min(g.outputs, begin + tile);
    shared += static_cast<double>(touched_groups(begin, end, g.group_outputs)) /
              static_cast<double>(g.groups);
  }
  const double slab = static_cast<double>(p->rows_per_slab) / static_cast<double>(g.rows);
  const double tile_share = static_cast<double>(tile) / static_cast<double>(g.outputs);
  const double first_in =
      static_cast<double>(touched_groups(0, tile, g.group_outputs)) / static_cast<double>(g.groups);
  p->read_bytes = slab_resident ? static_cast<double>(p->slabs) * g.w + streamed
                                : g.w + shared * g.in + g.per_tile;
  p->first_load_bytes =
      g.w * tile_share +
      slab * (slab_resident ? streamed : first_in * g.in + tile_share * g.per_tile);
}

Plan plan_src(const SrcBytes& g, double half) {
  Plan resident_tile{}, resident_slab{};
  fill(g, ceil_div(g.outputs, std::min(g.outputs, pieces(g.w, half))), false, half, &resident_tile);
  fill(g, ceil_div(g.outputs, std::min(g.outputs, pieces(g.w, half / 2))), true, half,
       &resident_slab);
  return resident_slab.read_bytes < resident_tile.read_bytes ? resident_slab : resident_tile;
}

// Channels of a tile if `most` channels fit: whole groups if at least one fits. Otherwise the dy of
// a group would be loaded for a fragment of its channels.
int64_t channel_tile(int64_t most, int64_t group_channels) {
  return most >= group_channels ? most / group_channels * group_channels : most;
}

Plan plan_osrc(const ConvShape& s, const Footprint& f, const Config& chip) {
  const double half = static_cast<double>(chip.buffer_bytes) / 2;
  const int64_t cg = s.C / s.groups, kg = s.K / s.groups;
  const double each = static_cast<double>(s.R * s.S * chip.value_bits) / 8;
  const auto c_tiles = [&](int64_t c_tile) {
    return c_tile < cg ? s.groups * ceil_div(cg, c_tile) : ceil_div(s.C, c_tile);
  };
  Plan tile{};
  tile.rows = s.N * s.P();
  tile.k_tile = fitting(std::sqrt(half / each), 1, kg);
  tile.c_tile = fitting(half / static_cast<double>(tile.k_tile), each, s.C);
  tile.k_tile = fitting(half / static_cast<double>(tile.c_tile), each, kg);
  tile.c_tile = channel_tile(tile.c_tile, cg);
  const double x_share = static_cast<double>(tile.c_tile) / static_cast<double>(s.C);
  const double dy_share = static_cast<double>(touched_groups(0, tile.c_tile, cg) * tile.k_tile) /
                          static_cast<double>(s.K);
  const double streamed = f.x * x_share + f.dy * dy_share;
  tile.rows_per_slab = fitting(half / 2, streamed / static_cast<double>(tile.rows), tile.rows);
  tile.slabs = ceil_div(tile.rows, tile.rows_per_slab);
  tile.tiles = c_tiles(tile.c_tile) * ceil_div(kg, tile.k_tile);
  tile.read_bytes = static_cast<double>(ceil_div(cg, tile.c_tile)) * f.dy +
                    static_cast<double>(ceil_div(kg, tile.k_tile)) * f.x;
  tile.write_bytes = f.w;
  tile.first_load_bytes =
      streamed * static_cast<double>(tile.rows_per_slab) / static_cast<double>(tile.rows);

  Plan slab = tile;
  slab.slab_resident = true;
  slab.slabs = std::min(slab.rows, pieces(f.x + f.dy, half));
  slab.rows_per_slab = ceil_div(slab.rows, slab.slabs);
  slab.slabs = ceil_div(slab.rows, slab.rows_per_slab);
  slab.k_tile = fitting(half / 2, each, kg);
  slab.c_tile = channel_tile(fitting(half / 2 / static_cast<double>(slab.k_tile), each, s.C), cg);
  slab.tiles = c_tiles(slab.c_tile) * ceil_div(kg, slab.k_tile);
  slab.read_bytes = f.x + f.dy + static_cast<double>(slab.slabs - 1) * f.w;
  slab.write_bytes = static_cast<double>(slab.slabs) * f.w;
  slab.first_load_bytes =
      (f.x + f.dy) * static_cast<double>(slab.rows_per_slab) / static_cast<double>(slab.rows);
  return slab.read_bytes + slab.write_bytes < tile.read_bytes + tile.write_bytes ? slab : tile;
}

void check_room(const Layer& layer, const Config& chip) {
  const ConvShape& s = layer.shape;
  const int64_t widest = std::max(s.W, s.Q());
  const double row =
      row_bytes(static_cast<double>(widest), widest, stored_segments(widest, chip), chip);
  const double weights = static_cast<double>(s.S * chip.value_bits) / 8;
  const double room = static_cast<double>(chip.buffer_bytes) / 4;
  if (row > room || weights > room) {
    throw std::invalid_argument("sparsetrain.accel: layer " + layer.name +
                                ": expected a quarter of the buffer to hold one row of " +
                                std::to_string(widest) + " values, got buffer_bytes " +
                                std::to_string(chip.buffer_bytes));
  }
}

}  // namespace

Footprint footprint(const Layer& layer, const Config& chip) {
  const ConvShape& s = layer.shape;
  const bool skips = chip.skips_zeros;
  const auto density = [&](double d) { return skips ? d : 1.0; };
  Footprint f{};
  f.x = tensor_bytes(s.N * s.C * s.H, s.W, density(layer.x_density), chip);
  f.dy = tensor_bytes(s.N * s.K * s.P(), s.Q(), density(layer.dy_density), chip);
  f.y = tensor_bytes(s.N * s.K * s.P(), s.Q(), density(layer.y_density), chip);
  f.dx = tensor_bytes(s.N * s.C * s.H, s.W, density(layer.dx_density), chip);
  const int64_t weights = s.K * (s.C / s.groups) * s.R * s.S;
  f.w = static_cast<double>(weights * chip.value_bits) / 8;
  f.mask = skips ? static_cast<double>(s.N * s.C * s.H * ceil_div(s.W, 8)) : 0;
  return f;
}

Plan plan(const Layer& layer, Pass pass, const Config& chip) {
  check_room(layer, chip);
  const ConvShape& s = layer.shape;
  const Footprint f = footprint(layer, chip);
  const double half = static_cast<double>(chip.buffer_bytes) / 2;
  switch (pass) {
    case Pass::kForward: {
      Plan p = plan_src({s.K, s.K / s.groups, s.groups, s.N * s.P(), f.w, f.x, 0, f.y}, half);
      p.c_tile = s.C / s.groups;
      return p;
    }
    case Pass::kGradInput: {
      Plan p = plan_src({s.C, s.C / s.groups, s.groups, s.N * s.H, f.w, f.dy, f.mask, f.dx}, half);
      p.k_tile = s.K / s.groups;
      return p;
    }
    case Pass::kGradWeight:
      break;
  }
  return plan_osrc(s, f, chip);
}

}  // namespace sparsetrain::accel
