// The convolution on the CPU: sparse where choose() says so, else ATen's.
#include <ATen/ops/aminmax.h>
#include <ATen/ops/as_strided.h>
#include <ATen/ops/convolution.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/library.h>

#include <cmath>
#include <initializer_list>

#include "../checks.h"
#include "../conv_call.h"
#include "../memory.h"
#include "../plain_conv.h"
#include "aten_conv.h"
#include "sparse_conv.h"

namespace sparsetrain {
namespace {

// Share of nonzeros in about 128 runs of 32 elements, evenly spread over the tensor's storage:
// cheap, and the same for the same tensor.
template <class T>
double sampled_density(const T* data, int64_t n) {
  constexpr int64_t kRuns = 128, kRun = 32;
  // Odd, so that the runs do not fall on the same channels or columns of every image.
  const int64_t step = std::max<int64_t>(n / kRuns, kRun) | 1;
  int64_t seen = 0, nonzeros = 0;
  for (int64_t begin = 0; begin < n; begin += step) {
    const int64_t end = std::min(begin + kRun, n);
    int found = 0;  // narrow, so that the loop fills vectors
    for (int64_t i = begin; i < end; ++i) found += Storage<T>::load(data[i]) != 0;
    nonzeros += found;
    seen += end - begin;
  }
  return seen ? static_cast<double>(nonzeros) / static_cast<double>(seen) : 0;
}

double estimate_density(const at::Tensor& t) {
  const at::Tensor dense = dense_storage(t);
  double density = 0;
  for_storage(dense, [&](auto storage) {
    using T = decltype(storage);
    density = sampled_density(static_cast<const T*>(dense.const_data_ptr()), dense.numel());
  });
  return density;
}

// The density of a tensor, estimated when first asked for.
class Density {
 public:
  explicit Density(const at::Tensor& t) : tensor_(t) {}
  double operator()() {
    if (!known_) known_ = estimate_density(tensor_);
    return *known_;
  }

 private:
  const at::Tensor& tensor_;
  std::optional<double> known_;
};

// t in one piece of memory: each look at it and each pass would make a copy of its own.
at::Tensor in_one_piece(const at::Tensor& t) {
  return t.is_non_overlapping_and_dense() ? t : t.contiguous(t.suggest_memory_format());
}

// What to run. Operands are sampled only where their zeros could decide: not where a pass would be
// dense without a single nonzero, nor where it is sparse with the zeros of one operand only.
Choice decide(const ConvShape& shape, Pass pass, const at::Tensor& input, Backend wanted,
              Density& input_density, Density& grad_density) {
  const bool either = pass == Pass::kGradWeight && has_swapped_operands(shape);
  if (wanted == Backend::kDense || (wanted == Backend::kSparse && !either)) {
    return {.backend = wanted};
  }
  Call call{shape, pass, dtype_of(input), 0, 0};
  if (wanted == Backend::kAuto && unsuited(call, costs())) return {.backend = Backend::kDense};
  const Choice best = choose(call, wanted, costs());
  if (best.backend == Backend::kDense) return best;
  call.input_density = pass == Pass::kForward || either ? input_density() : 1;
  call.grad_density = pass == Pass::kForward ? 1 : grad_density();
  return choose(call, wanted, costs());
}

// One read a tensor: the extremes of one that holds an Inf or a NaN are not finite either.
bool all_finite(std::initializer_list<at::Tensor> operands) {
  for (const at::Tensor& operand : operands) {
    if (operand.numel() == 0) continue;
    const at::Tensor dense = dense_storage(operand);  // in memory order, which aminmax would copy
    const auto [low, high] =
        at::aminmax(at::as_strided(dense, {dense.numel()}, {1}, dense.storage_offset()));
    if (!std::isfinite(low.item<double>()) || !std::isfinite(high.item<double>())) return false;
  }
  return true;
}

// The dense one for a call that may not skip a zero that meets an Inf or a NaN.
Backend backend_for(Backend wanted, bool check_finite, std::initializer_list<at::Tensor> operands) {
  const bool dense = wanted == Backend::kDense || (check_finite && !all_finite(operands));
  return dense ? Backend::kDense : wanted;
}

at::Tensor conv2d_cpu(const at::Tensor& input, const at::Tensor& weight,
                      const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                      at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                      std::string_view backend, bool check_finite,
                      const std::optional<at::Tensor>& input_density,
                      const std::optional<at::Tensor>& grad_density) {
  const Backend asked = parse_cpu_backend("conv2d", backend);
  check_density("conv2d", "input_density", input_density, input);
  check_density("conv2d", "grad_density", grad_density, input);
  const ConvShape shape = accept_forward(input, weight, bias, stride, padding, dilation, groups);
  const auto format = output_format(input, weight);
  const bool looks = asked != Backend::kDense;
  const at::Tensor x = looks ? in_one_piece(batch(input)) : batch(input), w = weight;
  const Backend wanted = backend_for(asked, check_finite, {x, w});
  at::Tensor y;
  Density x_density(x);
  const Choice choice = decide(shape, Pass::kForward, x, wanted, x_density, x_density);
  if (choice.backend == Backend::kSparse) {
    y = sparse_forward(shape, x, w, bias, format);
  } else {
    y = dense_forward(shape, x, w, bias, input.dim() == 3);
  }
  return as_called(y, input, format);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward_cpu(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
    std::array<bool, 3> output_mask, std::string_view backend, bool check_finite,
    const std::optional<at::Tensor>& grad_density) {
  check_density("conv2d_backward", "grad_density", grad_density, input);
  const Backend asked = parse_cpu_backend("conv2d_backward", backend);
  const ConvShape shape =
      accept_backward(grad_output, input, weight, stride, padding, dilation, groups);
  const auto format = output_format(input, weight);
  const bool looks = asked != Backend::kDense;
  const auto operand = [&](const at::Tensor& t) {
    return looks ? in_one_piece(batch(t)) : batch(t);
  };
  const at::Tensor dy = operand(grad_output), x = operand(input), w = weight;
  const Backend wanted = backend_for(asked, check_finite, {dy, x, w});
  Density x_density(x), dy_density(dy);
  const auto decided = [&](Pass pass) {
    return decide(shape, pass, x, wanted, x_density, dy_density);
  };
  Wanted sparse{};
  sparse.input = output_mask[0] && decided(Pass::kGradInput).backend == Backend::kSparse;
  if (output_mask[1]) {
    const Choice choice = decided(Pass::kGradWeight);
    sparse.weight = choice.backend == Backend::kSparse;
    sparse.skips_input_zeros = choice.skips_input_zeros;
  }
  at::Tensor dx, dw, db;
  if (sparse.input || sparse.weight) {
    std::tie(dx, dw) = sparse_backward(shape, dy, x, w, sparse, format);
  }
  const bool dense_input = output_mask[0] && !sparse.input;
  const bool dense_weight = output_mask[1] && !sparse.weight;
  // ATen's own sum where only ATen runs, so that backend "dense" is torch's to the last bit.
  const bool any_sparse = wanted == Backend::kSparse || sparse.input || sparse.weight;
  const bool dense_bias = output_mask[2] && !any_sparse;
  if (dense_input || dense_weight || dense_bias) {
    const std::array<bool, 3> mask{dense_input, dense_weight, dense_bias};
    auto [dense_dx, dense_dw, dense_db] = dense_backward(shape, dy, x, w, mask, input.dim() == 3);
    if (dense_input) dx = dense_dx;
    if (dense_weight) dw = dense_dw;
    if (dense_bias) db = dense_db;
  }
  if (output_mask[2] && !dense_bias) db = sparse_bias_grad(dy);
  return as_called(dx, dw, db, input, format);
}

}  // namespace

std::optional<at::Tensor> torch_conv2d(const at::Tensor& input, const at::Tensor& weight,
                                       const std::optional<at::Tensor>& bias,
                                       c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                       c10::SymIntArrayRef dilation, const c10::SymInt& groups,
                                       std::string_view backend) {
  const auto on_cpu = [](const at::Tensor& t) {
    return t.device().is_cpu() && t.layout() == at::kStrided &&
           !t.key_set().has(c10::DispatchKey::Python);
  };
  if (!on_cpu(input) || !on_cpu(weight) || input.dim() != 4 || backend == "sparse" ||
      c10::impl::dispatch_mode_enabled()) {
    return std::nullopt;
  }
  const auto steps = C10_AS_INTARRAYREF_SLOW(stride), sides = C10_AS_INTARRAYREF_SLOW(padding);
  const auto reach = C10_AS_INTARRAYREF_SLOW(dilation);
  const int64_t g = groups.expect_int();
  const Backend wanted = parse_cpu_backend("conv2d", backend);
  const ConvShape shape = accept_forward(input, weight, bias, steps, sides, reach, g);
  if (!right_as_it_is(shape, input, weight)) return std::nullopt;
  const auto dense = [&](Pass pass) {
    return wanted == Backend::kDense ||
           unsuited({shape, pass, dtype_of(input), 0, 0}, costs()) != nullptr;
  };
  if (!dense(Pass::kForward) || !dense(Pass::kGradInput) || !dense(Pass::kGradWeight)) {
    return std::nullopt;
  }
  return at::convolution(input, weight, bias, steps, sides, reach, false, {0, 0}, g);
}

}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, CPU, m) {
  m.impl("conv2d", sparsetrain::conv2d_cpu);
  m.impl("conv2d_backward", sparsetrain::conv2d_backward_cpu);
}
