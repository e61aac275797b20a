// The dense copy of a workload, and the checks of its layers.
#include "workload.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace sparsetrain::accel {
namespace {

[[noreturn]] void fail(const Layer& layer, const std::string& sentence) {
  throw std::invalid_argument("sparsetrain.accel: layer " + layer.name + ": " + sentence);
}

void check_shape(const Layer& layer) {
  const ConvShape& s = layer.shape;
  constexpr int64_t kMost = 1 << 24;
  for (int64_t size : {s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.stride_h, s.stride_w, s.dilation_h,
                       s.dilation_w, s.groups}) {
    if (size < 1 || size > kMost) {
      fail(layer, "expected sizes, strides, dilations and groups to be in [1, 2^24], got " +
                      std::to_string(size));
    }
  }
  if (s.pad_h < 0 || s.pad_w < 0 || s.pad_h > kMost || s.pad_w > kMost) {
    fail(layer, "expected padding to be in [0, 2^24], got " + std::to_string(s.pad_h) + " and " +
                    std::to_string(s.pad_w));
  }
  if (s.C % s.groups != 0 || s.K % s.groups != 0) {
    fail(layer, "expected groups to divide channels " + std::to_string(s.C) + " and filters " +
                    std::to_string(s.K) + ", got " + std::to_string(s.groups));
  }
  if (s.H + 2 * s.pad_h < s.dilation_h * (s.R - 1) + 1 ||
      s.W + 2 * s.pad_w < s.dilation_w * (s.S - 1) + 1) {
    fail(layer, "expected the kernel to fit into the padded input, got no output");
  }
  double products = 1;
  for (int64_t size : {s.N, s.K, s.P(), s.Q(), s.C / s.groups, s.R, s.S})
    products *= static_cast<double>(size);
  if (products > 1e18) {  // sums of such counts over layers must fit in int64
    fail(layer, "expected a pass to have at most 1e18 multiplications, got " +
                    std::to_string(products / 1e18) + "e18");
  }
}

void check_density(const Layer& layer, const char* what, double density) {
  if (!(density >= 0 && density <= 1)) {
    fail(layer,
         "expected " + std::string(what) + " to be in [0, 1], got " + std::to_string(density));
  }
}

void check_map(const Layer& layer, const char* what, const std::vector<int32_t>& map,
               const std::vector<int64_t>& channels, int64_t images, int64_t pixels, int64_t depth,
               double density) {
  if (images < 1 || std::ssize(map) != images * pixels || std::ssize(channels) != depth) {
    fail(layer, "expected the " + std::string(what) + " map to have " + std::to_string(pixels) +
                    " pixels an image and " + std::to_string(depth) + " channels, got " +
                    std::to_string(map.size()) + " pixels of " + std::to_string(images) +
                    " images and " + std::to_string(channels.size()) + " channels");
  }
  for (int32_t count : map) {
    if (count < 0 || count > depth) {
      fail(layer, "expected the " + std::string(what) + " map's counts to be in [0, " +
                      std::to_string(depth) + "], got " + std::to_string(count));
    }
  }
  const int64_t sum = std::accumulate(map.begin(), map.end(), int64_t{0});
  if (sum != std::accumulate(channels.begin(), channels.end(), int64_t{0})) {
    fail(layer, "expected the " + std::string(what) +
                    " map's sum to equal its sum over channels, got " + std::to_string(sum));
  }
  const double measured = static_cast<double>(sum) /
                          (static_cast<double>(images * pixels) * static_cast<double>(depth));
  if (std::abs(measured - density) > 1e-6) {
    fail(layer, "expected the " + std::string(what) + " map to agree with density " +
                    std::to_string(density) + ", got " + std::to_string(measured));
  }
}

void check_bitmap(const Layer& layer, const char* what, const Bitmap& bits, int64_t images,
                  int64_t channels, int64_t height, int64_t width) {
  if (images < 1 || bits.images != images || bits.channels != channels || bits.height != height ||
      bits.width != width ||
      std::ssize(bits.words) != images * channels * height * bits.row_words()) {
    fail(layer, "expected the trace of " + std::string(what) + " to be [" + std::to_string(images) +
                    ", " + std::to_string(channels) + ", " + std::to_string(height) + ", " +
                    std::to_string(width) + "], got [" + std::to_string(bits.images) + ", " +
                    std::to_string(bits.channels) + ", " + std::to_string(bits.height) + ", " +
                    std::to_string(bits.width) + "]");
  }
}

void check_layer(const Layer& layer) {
  check_shape(layer);
  const ConvShape& s = layer.shape;
  check_density(layer, "x_density", layer.x_density);
  check_density(layer, "dy_density", layer.dy_density);
  check_density(layer, "mask_density", layer.mask_density);
  check_density(layer, "y_density", layer.y_density);
  check_density(layer, "dx_density", layer.dx_density);
  if (const Maps* m = layer.maps.get()) {
    check_map(layer, "x", m->x_map, m->x_channel_nnz, m->images, s.H * s.W, s.C, layer.x_density);
    check_map(layer, "dy", m->dy_map, m->dy_channel_nnz, m->images, s.P() * s.Q(), s.K,
              layer.dy_density);
  }
  if (const Trace* t = layer.trace.get()) {
    check_bitmap(layer, "x", t->x, t->x.images, s.C, s.H, s.W);
    check_bitmap(layer, "dy", t->dy, t->x.images, s.K, s.P(), s.Q());
    if (t->mask) check_bitmap(layer, "mask", *t->mask, t->x.images, s.C, s.H, s.W);
  }
}

}  // namespace

Workload dense(const Workload& workload) {
  Workload result = workload;
  for (Layer& layer : result.layers) {
    layer.x_density = layer.dy_density = layer.mask_density = 1;
    layer.y_density = layer.dx_density = 1;
    layer.maps = nullptr;
    layer.trace = nullptr;
  }
  return result;
}

void check(const Workload& workload) {
  if (workload.layers.empty()) {
    throw std::invalid_argument(
        "sparsetrain.accel: expected a workload to have at least one convolution, got none");
  }
  for (const Layer& layer : workload.layers) check_layer(layer);
}

}  // namespace sparsetrain::accel
