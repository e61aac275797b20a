// Trains a small network on Fashion-MNIST in C++, without Python. It has three convolutions that
// skip zeros, and the gradient of each output is pruned. At the end the program reports how many
// cycles the last step would take on the SparseTrain accelerator.
//
//   train FOLDER [STEPS]     prints loss, test accuracy and cycles
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/zeros.h>
#include <sparsetrain/accel/model.h>
#include <sparsetrain/kernels/common/state_slots.h>
#include <sparsetrain/torch/ops.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "idx.h"

namespace {

namespace accel = sparsetrain::accel;
namespace state = sparsetrain::state;
using at::Tensor;

constexpr double kRate = 0.9, kLearningRate = 0.05, kMomentum = 0.9;
constexpr int64_t kHistory = 4, kBatch = 64;
// threshold / mean of |g|, if g is normal and a share p = kRate of |g| is below the threshold. That
// is quantile((1 + p) / 2) * sqrt(pi / 2) = erfinv(p) * sqrt(pi). For p = 0.9, erfinv(p)
// is 1.1630872.
const double kFactor = 1.1630872 * std::sqrt(M_PI);

Tensor parameter(at::IntArrayRef sizes, double scale) {
  return (at::randn(sizes) * scale).set_requires_grad(true);
}

// A 3x3 convolution whose output's gradient is pruned. It keeps its last input for layer().
struct Conv {
  std::string name;
  Tensor weight, bias;
  Tensor pruner;  // the state of the pruner: see state_slots.h
  Tensor input;

  Conv(std::string name_, int64_t in, int64_t out, int64_t seed)
      : name(std::move(name_)),
        weight(parameter({out, in, 3, 3}, std::sqrt(2.0 / (9.0 * static_cast<double>(in))))),
        bias(parameter({out}, 0)),
        pruner(at::zeros({state::kFifo + kHistory}, at::kDouble)) {
    pruner[state::kSeed] = seed;
    pruner[state::kFactor] = kFactor;
  }

  Tensor operator()(const Tensor& x) {
    const std::vector<c10::SymInt> one{1, 1};
    input = x.detach();
    const Tensor y = sparsetrain::ops::conv2d(x, weight, bias, one, one, one, 1, "auto", false);
    return sparsetrain::ops::prune_grad(y, pruner);
  }

  // Describes the layer to the accelerator's model, with the densities of the last step. The first
  // layer needs no grad_input.
  accel::Layer layer(bool first) const {
    accel::Layer l;
    l.name = name;
    l.shape = {.N = input.size(0),
               .C = input.size(1),
               .H = input.size(2),
               .W = input.size(3),
               .K = weight.size(0),
               .R = 3,
               .S = 3,
               .pad_h = 1,
               .pad_w = 1};
    l.needs_grad_input = !first;
    l.x_density = input.count_nonzero().item<double>() / static_cast<double>(input.numel());
    l.dy_density = (pruner[state::kNonzeros] / pruner[state::kElements]).item<double>();
    l.mask_density = l.dx_density = l.x_density;
    return l;
  }
};

struct Net {
  Conv convs[3] = {{"conv1", 1, 16, 1}, {"conv2", 16, 32, 2}, {"conv3", 32, 64, 3}};
  Tensor weight = parameter({10, 64 * 9}, 0.04), bias = parameter({10}, 0);

  Tensor operator()(Tensor x) {
    for (Conv& conv : convs) x = at::max_pool2d(at::relu(conv(x)), 2);
    return at::linear(x.flatten(1), weight, bias);
  }
  std::vector<Tensor> parameters() {
    std::vector<Tensor> all{weight, bias};
    for (Conv& conv : convs) all.insert(all.end(), {conv.weight, conv.bias});
    return all;
  }
};

// Pixels in [0, 1], less their mean.
Tensor as_input(const Tensor& images) { return images.to(at::kFloat) / 255.0 - 0.286; }

double accuracy(Net& net, const Tensor& images, const Tensor& labels) {
  const at::NoGradGuard no_grad;
  return net(as_input(images)).argmax(1).eq(labels).to(at::kDouble).mean().item<double>();
}

// One step of gradient descent with momentum; clears the gradients.
void descend(std::vector<Tensor>& parameters, std::vector<Tensor>& momenta) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.size(); ++i) {
    momenta[i].mul_(kMomentum).add_(parameters[i].grad());
    parameters[i].sub_(momenta[i], kLearningRate);
    parameters[i].mutable_grad().reset();
  }
}

// Prints densities and cycles of the last step, on the accelerator and on its dense twin.
void report(const Net& net) {
  accel::Workload step;
  for (const Conv& conv : net.convs) step.layers.push_back(conv.layer(step.layers.empty()));
  const auto cycles = [&](const accel::Config& chip) {
    return static_cast<long long>(accel::model(step, chip).total().cycles);
  };
  for (const accel::Layer& l : step.layers) {
    std::printf("%s: density of x %.3f, of dy %.3f\n", l.name.c_str(), l.x_density, l.dy_density);
  }
  const long long sparse = cycles(accel::kSparseTrain168), dense = cycles(accel::kDenseTwin168);
  std::printf("cycles %lld, dense twin %lld: speedup %.2f\n", sparse, dense,
              static_cast<double>(dense) / static_cast<double>(sparse));
}

void train(const std::string& folder, int64_t steps) {
  const Tensor images = read_images(folder + "/train-images-idx3-ubyte.gz");
  const Tensor labels = read_labels(folder + "/train-labels-idx1-ubyte.gz");
  Net net;
  auto parameters = net.parameters();
  std::vector<Tensor> momenta;
  for (const Tensor& p : parameters) momenta.push_back(at::zeros(p.sizes()));
  for (int64_t step = 1; step <= steps; ++step) {
    const Tensor batch = at::randint(images.size(0), {kBatch}, at::kLong);
    const Tensor logits = net(as_input(images.index_select(0, batch)));
    const Tensor loss = at::cross_entropy_loss(logits, labels.index_select(0, batch));
    loss.backward();
    descend(parameters, momenta);
    if (step == 1 || step % 50 == 0 || step == steps) {
      std::printf("step %lld: loss %.4f\n", static_cast<long long>(step), loss.item<double>());
    }
  }
  report(net);
  std::printf("test accuracy %.3f\n",
              accuracy(net, read_images(folder + "/t10k-images-idx3-ubyte.gz"),
                       read_labels(folder + "/t10k-labels-idx1-ubyte.gz")));
}

}  // namespace

int main(int argc, char** argv) {
  const long steps = argc > 2 ? std::atol(argv[2]) : 300;
  if (argc < 2 || argc > 3 || steps < 1) {
    std::fprintf(stderr, "error: expected FOLDER [STEPS], STEPS at least 1\n");
    return 2;
  }
  try {
    train(argv[1], steps);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
