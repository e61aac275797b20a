// Where a layer's zeros are, as the closed form sees it: expected counts per row, summed over
// channels, from maps where there are maps and from densities otherwise.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"
#include "rows.h"
#include "workload.h"

namespace sparsetrain::accel {

class Profile {
 public:
  Profile(const Layer& layer, const Config& chip);

  const ConvShape& shape() const { return shape_; }
  // Without maps every row is like every other: images() is 1 and rows repeat.
  bool mapped() const { return maps_ != nullptr; }
  int64_t images() const { return mapped() ? maps_->images : 1; }
  double repeats() const { return static_cast<double>(shape_.N) / static_cast<double>(images()); }

  double x_density() const { return x_density_; }
  double dy_density() const { return dy_density_; }
  double mask_density() const { return mask_density_; }

  // Expected nonzeros of row (n, h) of x, or (n, p) of dy, in columns [begin, end), all channels.
  double x_row(int64_t n, int64_t h, int64_t begin, int64_t end) const;
  double dy_row(int64_t n, int64_t p, int64_t begin, int64_t end) const;
  // The same, each column weighted by weight[column - begin].
  double x_row(int64_t n, int64_t h, int64_t begin, const std::vector<double>& weight) const;
  // For output columns [begin, end) of row (n, h): set columns of x (mask false) or of the gradient
  // mask in the kernel window, all channels: box filter of the map. `window` has end - begin
  // entries. Only columns in [in_begin, in_end) count.
  void windows(int64_t n, int64_t h, bool mask, int64_t begin, int64_t end, int64_t in_begin,
               int64_t in_end, std::vector<double>* window) const;
  // Sum over columns [begin, begin + window.size()) of dy's map times the window count.
  double pairs(int64_t n, int64_t p, int64_t begin, const std::vector<double>& window) const;

  // Variance over channels of a row's nonzeros; of a window's set columns; and the part of the
  // variance of a mask row that its channel's mean does not explain, relative to the squared mean.
  double x_row_var() const;
  double dy_row_var() const;
  double window_var() const;
  // The part of the row variances that the channels' means do not explain: what differs between PEs
  // that work on the same channels.
  double x_row_residual() const;
  double dy_row_residual() const;
  // That part over what independent zeros would have, at least 1: zeros come in clusters.
  double x_clustering() const;
  double dy_clustering() const;
  double mask_row_residual() const;

  // Means of `count` groups of channels ordered by nonzeros, relative to the overall mean.
  std::vector<double> x_quantiles(bool mask, int count) const;
  std::vector<double> dy_quantiles(int count) const;

 private:
  ConvShape shape_;
  double x_density_, dy_density_, mask_density_;
  const Maps* maps_;
};

}  // namespace sparsetrain::accel
