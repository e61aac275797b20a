// Workload: the convolutions of one training step in forward order, and where their operands are
// zero. That is known as densities (nonzeros / elements), as counts over channels (Maps) or as one
// bit for each element (Trace). The compiler, the simulator and the closed form read it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../shape.h"

namespace sparsetrain::accel {

// One bit for each element of a tensor [images, channels, height, width], set where the element is
// not zero. Rows are padded to whole words: column w is bit w % 64 of word w / 64, and unused bits
// are 0.
struct Bitmap {
  int64_t images = 0, channels = 0, height = 0, width = 0;
  std::vector<uint64_t> words;  // images * channels * height * row_words()

  int64_t row_words() const { return (width + 63) / 64; }
  const uint64_t* row(int64_t n, int64_t c, int64_t h) const {
    return words.data() + ((n * channels + c) * height + h) * row_words();
  }
};

// Nonzero elements of one layer's operands, for simulate(). The mask is set where grad_input may be
// nonzero. It is absent if it equals x != 0, which holds if x is the output of a ReLU, or of
// pooling or dropout after a ReLU.
struct Trace {
  Bitmap x, dy;  // [images,C,H,W], [images,K,P,Q]
  std::optional<Bitmap> mask;
};

// Counts of nonzeros over channels, for model(). Without groups they suffice to count
// multiplications exactly.
struct Maps {
  int64_t images = 0;
  // [images,H,W] and [images,P,Q]: the number of channels that are nonzero at a pixel.
  std::vector<int32_t> x_map, dy_map;
  // [C] and [K]: the number of nonzeros of a channel, over images and pixels.
  std::vector<int64_t> x_channel_nnz, dy_channel_nnz;
  // Mean over (image, row) of the variance over channels of a row's number of nonzeros.
  double x_row_nnz_var = 0, dy_row_nnz_var = 0;
  // Mean over (image, row, output column) of the variance over channels of the window count: the
  // number of nonzeros of x among columns q * stride + s * dilation - pad.
  double window_var = 0;
};

// One convolution of a step. Densities are nonzeros / elements.
struct Layer {
  std::string name;
  ConvShape shape;
  bool needs_grad_input = true;   // false for the first layer
  bool needs_grad_weight = true;  // false for a frozen layer
  double x_density = 1, dy_density = 1;
  double mask_density = 1;               // of the gradient mask
  double y_density = 1, dx_density = 1;  // of the rows that the PPU writes
  // Optional. Their sums must agree with the densities.
  std::shared_ptr<const Maps> maps;
  // Optional. It may have fewer images than shape.N: image n is then image n % images of the trace.
  std::shared_ptr<const Trace> trace;
};

struct Workload {
  std::vector<Layer> layers;
};

// A copy of the workload with every density 1, without maps and traces.
Workload dense(const Workload& workload);

// Throws std::invalid_argument, naming the layer, if there are no layers, a shape has no output, a
// density is outside [0, 1], or the sizes or sums of maps or traces disagree with the layer.
void check(const Workload& workload);

}  // namespace sparsetrain::accel
