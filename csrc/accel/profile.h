// Profile: a layer's counts of nonzeros by row, as the closed form uses them. They are exact if the
// layer has maps, and expected values from the densities otherwise.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"
#include "rows.h"
#include "workload.h"

namespace sparsetrain::accel {

// On a dense twin (chip.skips_zeros false) every element counts as nonzero.
class Profile {
 public:
  Profile(const Layer& layer, const Config& chip);

  const ConvShape& shape() const { return shape_; }
  // Without maps all images are alike. images() is then 1, and repeats() is the batch size.
  bool mapped() const { return maps_ != nullptr; }
  int64_t images() const { return mapped() ? maps_->images : 1; }
  double repeats() const { return static_cast<double>(shape_.N) / static_cast<double>(images()); }

  double x_density() const { return x_density_; }
  double dy_density() const { return dy_density_; }
  double mask_density() const { return mask_density_; }

  // Nonzeros of row (n, h) of x or (n, p) of dy in columns [begin, end), summed over channels.
  double x_row(int64_t n, int64_t h, int64_t begin, int64_t end) const;
  double dy_row(int64_t n, int64_t p, int64_t begin, int64_t end) const;
  // Nonzeros of row (n, h) of x, each counted with weight[column - begin], summed over channels.
  double x_row(int64_t n, int64_t h, int64_t begin, const std::vector<double>& weight) const;
  // Writes the window counts of row (n, h) to `window`, one for each output column in [begin, end):
  // the number of nonzeros of x (mask false) or of set bits of the gradient mask (mask true) in the
  // kernel window, summed over channels. Only columns in [in_begin, in_end) count.
  void windows(int64_t n, int64_t h, bool mask, int64_t begin, int64_t end, int64_t in_begin,
               int64_t in_end, std::vector<double>* window) const;
  // Pairs of nonzeros of row (n, p) of dy and of x: the sum over columns q of dy's count at q times
  // window[q - begin].
  double pairs(int64_t n, int64_t p, int64_t begin, const std::vector<double>& window) const;

  // Variance over channels of a row's number of nonzeros, and of a window count of x.
  double x_row_var() const;
  double dy_row_var() const;
  double window_var() const;
  // The part of a row variance that the means of the channels do not explain. PEs that work on the
  // same channels differ only by this part.
  double x_row_residual() const;
  double dy_row_residual() const;
  // The residual variance divided by that of independent zeros, at least 1. It exceeds 1 if zeros
  // come in clusters.
  double x_clustering() const;
  double dy_clustering() const;
  // The residual variance of a row of the gradient mask, divided by its squared mean.
  double mask_row_residual() const;

  // Sorts the channels by nonzeros and cuts them into `count` parts (a channel each if there are
  // fewer). Returns the mean of each part relative to the mean of all channels.
  std::vector<double> x_quantiles(bool mask, int count) const;
  std::vector<double> dy_quantiles(int count) const;

 private:
  ConvShape shape_;
  double x_density_, dy_density_, mask_density_;
  const Maps* maps_;
};

}  // namespace sparsetrain::accel
