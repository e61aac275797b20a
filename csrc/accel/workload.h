// What one training step must do: its convolutions in forward order and where their zeros are, as
// densities (nonzeros / elements), as counts over channels (Maps) or bit by bit (Trace).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../shape.h"

namespace sparsetrain::accel {

// One bit an element, set where it is not zero. Rows are padded to whole words; bit w % 64 of word
// w / 64 is column w; unused bits are 0.
struct Bitmap {
  int64_t images = 0, channels = 0, height = 0, width = 0;
  std::vector<uint64_t> words;  // images * channels * height * row_words()

  int64_t row_words() const { return (width + 63) / 64; }
  const uint64_t* row(int64_t n, int64_t c, int64_t h) const {
    return words.data() + ((n * channels + c) * height + h) * row_words();
  }
};

// Where the zeros of one layer are, for simulate(). mask: where grad_input may be nonzero; absent
// when it equals x != 0 (x came out of a ReLU, or of pooling or dropout after one).
struct Trace {
  Bitmap x, dy;  // [images,C,H,W], [images,K,P,Q]
  std::optional<Bitmap> mask;
};

// Counts of nonzeros over channels, for model(): enough to count multiplications exactly.
struct Maps {
  int64_t images = 0;
  std::vector<int32_t> x_map, dy_map;  // [images,H,W], [images,P,Q]: nonzero channels of a pixel
  std::vector<int64_t> x_channel_nnz, dy_channel_nnz;  // [C], [K]: over images and pixels
  // Mean over (image, row) of the variance over channels of a row's count of nonzeros.
  double x_row_nnz_var = 0, dy_row_nnz_var = 0;
  // Mean over (image, row, column) of the variance over channels of the set columns in a kernel
  // window, the window of output column q being x columns q * stride + s * dilation - pad.
  double window_var = 0;
};

struct Layer {
  std::string name;
  ConvShape shape;
  bool needs_grad_input = true;   // false for the first layer: no GTA
  bool needs_grad_weight = true;  // false for a frozen layer: no GTW
  double x_density = 1, dy_density = 1;
  double mask_density = 1;               // of x's elements whose gradient is wanted
  double y_density = 1, dx_density = 1;  // of the rows the PPU writes
  std::shared_ptr<const Maps> maps;      // optional; their sums must agree with the densities
  std::shared_ptr<const Trace>
      trace;  // optional; images may be fewer than shape.N: reused n % images
};

struct Workload {
  std::vector<Layer> layers;
};

// The same convolutions with every density 1 and neither maps nor traces.
Workload dense(const Workload& workload);

// Throws std::invalid_argument with one sentence that names the layer: no layers, an impossible
// shape, a density outside [0, 1], maps or traces whose sizes or sums disagree.
void check(const Workload& workload);

}  // namespace sparsetrain::accel
