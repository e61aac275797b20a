// Counts of nonzeros by row, from maps or from densities. Densities alone imply independent zeros.
#include "profile.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace sparsetrain::accel {
namespace {

double sum(const std::vector<int32_t>& map, int64_t begin, int64_t end) {
  return static_cast<double>(std::accumulate(map.begin() + begin, map.begin() + end, int64_t{0}));
}

double binomial_var(double count, double density) { return count * density * (1 - density); }

// Variance over channels of a channel's mean number of nonzeros in a row.
double between_channels(const std::vector<int64_t>& nnz, int64_t rows) {
  double sum = 0, squares = 0;
  for (const int64_t count : nnz) {
    const double mean = static_cast<double>(count) / static_cast<double>(rows);
    sum += mean;
    squares += mean * mean;
  }
  const double channels = static_cast<double>(nnz.size());
  return std::max(0.0, squares / channels - sum / channels * sum / channels);
}

std::vector<double> quantiles(std::vector<int64_t> nnz, int count) {
  const auto channels = std::ssize(nnz);
  const double total = static_cast<double>(std::accumulate(nnz.begin(), nnz.end(), int64_t{0}));
  count = static_cast<int>(std::min<int64_t>(count, channels));
  if (total == 0 || count <= 1) return {1.0};
  std::sort(nnz.begin(), nnz.end(), std::greater<>());
  std::vector<double> means;
  for (int b = 0; b < count; ++b) {
    const int64_t begin = channels * b / count, end = channels * (b + 1) / count;
    const double part =
        static_cast<double>(std::accumulate(nnz.begin() + begin, nnz.begin() + end, int64_t{0}));
    means.push_back(part / total * static_cast<double>(channels) /
                    static_cast<double>(end - begin));
  }
  return means;
}

}  // namespace

Profile::Profile(const Layer& layer, const Config& chip)
    : shape_(layer.shape),
      x_density_(chip.skips_zeros ? layer.x_density : 1),
      dy_density_(chip.skips_zeros ? layer.dy_density : 1),
      mask_density_(chip.skips_zeros ? layer.mask_density : 1),
      maps_(chip.skips_zeros ? layer.maps.get() : nullptr) {}

double Profile::x_row(int64_t n, int64_t h, int64_t begin, int64_t end) const {
  if (!mapped()) return x_density_ * static_cast<double>(shape_.C * (end - begin));
  const int64_t row = (n * shape_.H + h) * shape_.W;
  return sum(maps_->x_map, row + begin, row + end);
}

double Profile::dy_row(int64_t n, int64_t p, int64_t begin, int64_t end) const {
  if (!mapped()) return dy_density_ * static_cast<double>(shape_.K * (end - begin));
  const int64_t row = (n * shape_.P() + p) * shape_.Q();
  return sum(maps_->dy_map, row + begin, row + end);
}

double Profile::x_row(int64_t n, int64_t h, int64_t begin,
                      const std::vector<double>& weight) const {
  if (!mapped()) {
    return x_density_ * static_cast<double>(shape_.C) *
           std::accumulate(weight.begin(), weight.end(), 0.0);
  }
  const int32_t* row = maps_->x_map.data() + (n * shape_.H + h) * shape_.W + begin;
  double total = 0;
  for (size_t i = 0; i < weight.size(); ++i) total += weight[i] * row[i];
  return total;
}

void Profile::windows(int64_t n, int64_t h, bool mask, int64_t begin, int64_t end, int64_t in_begin,
                      int64_t in_end, std::vector<double>* window) const {
  const ConvShape& s = shape_;
  // A mask with the density of x is taken to be x != 0; any other mask is taken as independent of
  // x.
  const bool constant = !mapped() || (mask && mask_density_ != x_density_);
  const double each = (mask ? mask_density_ : x_density_) * static_cast<double>(s.C);
  const int32_t* row = constant ? nullptr : maps_->x_map.data() + (n * s.H + h) * s.W;
  window->assign(static_cast<size_t>(end - begin), 0.0);
  for (int64_t t = 0; t < s.S; ++t) {
    const int64_t shift = t * s.dilation_w - s.pad_w;
    for (int64_t q = begin; q < end; ++q) {
      const int64_t w = q * s.stride_w + shift;
      if (w < in_begin || w >= in_end) continue;
      (*window)[static_cast<size_t>(q - begin)] += constant ? each : row[w];
    }
  }
}

double Profile::pairs(int64_t n, int64_t p, int64_t begin,
                      const std::vector<double>& window) const {
  if (!mapped()) {
    return dy_density_ * static_cast<double>(shape_.K) *
           std::accumulate(window.begin(), window.end(), 0.0);
  }
  const int32_t* row = maps_->dy_map.data() + (n * shape_.P() + p) * shape_.Q() + begin;
  double total = 0;
  for (size_t i = 0; i < window.size(); ++i) total += window[i] * row[i];
  return total;
}

double Profile::x_row_var() const {
  return mapped() ? maps_->x_row_nnz_var : binomial_var(static_cast<double>(shape_.W), x_density_);
}

double Profile::dy_row_var() const {
  return mapped() ? maps_->dy_row_nnz_var
                  : binomial_var(static_cast<double>(shape_.Q()), dy_density_);
}

double Profile::window_var() const {
  return mapped() ? maps_->window_var : binomial_var(static_cast<double>(shape_.S), x_density_);
}

double Profile::x_row_residual() const {
  if (!mapped()) return x_row_var();
  const double between = between_channels(maps_->x_channel_nnz, maps_->images * shape_.H);
  return std::max(0.0, maps_->x_row_nnz_var - between);
}

double Profile::dy_row_residual() const {
  if (!mapped()) return dy_row_var();
  const double between = between_channels(maps_->dy_channel_nnz, maps_->images * shape_.P());
  return std::max(0.0, maps_->dy_row_nnz_var - between);
}

double Profile::x_clustering() const {
  const double independent = binomial_var(static_cast<double>(shape_.W), x_density_);
  return mapped() && independent > 0 ? std::max(1.0, x_row_residual() / independent) : 1.0;
}

double Profile::dy_clustering() const {
  const double independent = binomial_var(static_cast<double>(shape_.Q()), dy_density_);
  return mapped() && independent > 0 ? std::max(1.0, dy_row_residual() / independent) : 1.0;
}

double Profile::mask_row_residual() const {
  const double width = static_cast<double>(shape_.W);
  if (mask_density_ < 1e-9) return 0;  // almost no multiplications, so no variation of them
  if (!mapped() || mask_density_ != x_density_)
    return (1 - mask_density_) / (mask_density_ * width);
  const double mean = mask_density_ * width;
  double between = 0;
  for (const double q : x_quantiles(true, 8)) between += (q - 1) * (q - 1) / 8;
  return std::max(0.0, maps_->x_row_nnz_var / (mean * mean) - between);
}

std::vector<double> Profile::x_quantiles(bool mask, int count) const {
  if (!mapped() || (mask && mask_density_ != x_density_)) return {1.0};
  return quantiles(maps_->x_channel_nnz, count);
}

std::vector<double> Profile::dy_quantiles(int count) const {
  return mapped() ? quantiles(maps_->dy_channel_nnz, count) : std::vector<double>{1.0};
}

}  // namespace sparsetrain::accel
