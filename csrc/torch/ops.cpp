// The operators' schemas, and the Meta kernels that say shape, dtype and memory format of each
// result.
#include "ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "checks.h"
#include "conv_call.h"
#include "memory.h"

TORCH_LIBRARY(sparsetrain, m) {
  m.def("prune(Tensor grad, Tensor threshold, Tensor rng) -> (Tensor out, Tensor stats)");
  // What a device stores into a density is not declared: it happens behind torch's back, and what
  // is declared would be handed a copy where torch.compile makes programs functional.
  m.def("prune_step(Tensor grad, Tensor(a!) state, Tensor? density=None) -> Tensor");
  m.def("prune_grad(Tensor input, Tensor state, Tensor? density=None) -> Tensor");
  m.def("count_nonzeros(Tensor input, Tensor(a!) state, int every, Tensor? density=None) -> ()");
  m.def(
      "count_grad_nonzeros(Tensor input, Tensor state, int every, Tensor? density=None) -> Tensor");
  m.def(
      "conv2d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, "
      "SymInt[2] padding=0, SymInt[2] dilation=1, SymInt groups=1, str backend='auto', "
      "bool check_finite=False, Tensor? input_density=None, Tensor? grad_density=None) -> Tensor");
  m.def(
      "conv2d_backward(Tensor grad_output, Tensor input, Tensor weight, SymInt[2] stride, "
      "SymInt[2] padding, SymInt[2] dilation, SymInt groups, bool[3] output_mask, "
      "str backend='auto', bool check_finite=False, Tensor? grad_density=None) -> "
      "(Tensor grad_input, Tensor grad_weight, Tensor grad_bias)");
}

namespace sparsetrain {
namespace {

template <class Function>
auto typed_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
}

at::Tensor conv2d_meta(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                       c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                       c10::SymInt groups, std::string_view backend, bool,
                       const std::optional<at::Tensor>& input_density,
                       const std::optional<at::Tensor>& grad_density) {
  parse_backend("conv2d", backend);
  check_density("conv2d", "input_density", input_density, input);
  check_density("conv2d", "grad_density", grad_density, input);
  const auto size = check_forward(input, weight, bias, stride, padding, dilation, groups);
  return at::empty_symint(size, input.options(), output_format(input, weight));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward_meta(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    c10::SymInt groups, std::array<bool, 3> output_mask, std::string_view backend, bool,
    const std::optional<at::Tensor>& grad_density) {
  parse_backend("conv2d_backward", backend);
  check_density("conv2d_backward", "grad_density", grad_density, input);
  check_backward(grad_output, input, weight, stride, padding, dilation, groups);
  const auto format = output_format(input, weight);
  const auto like = [&](bool wanted, const at::Tensor& t) {
    return wanted ? at::empty_symint(t.sym_sizes(), t.options(), format_for(t, format))
                  : at::empty({0}, t.options());
  };
  return {like(output_mask[0], input), like(output_mask[1], weight),
          output_mask[2] ? at::empty_symint({weight.sym_size(0)}, weight.options())
                         : at::empty({0}, weight.options())};
}

std::tuple<at::Tensor, at::Tensor> prune_meta(const at::Tensor& grad, const at::Tensor& threshold,
                                              const at::Tensor& rng) {
  check_prune(grad, threshold, rng);
  return {empty_in_order_of(grad), at::empty({3}, grad.options().dtype(at::kDouble))};
}

at::Tensor prune_step_meta(const at::Tensor& grad, const at::Tensor& state,
                           const std::optional<at::Tensor>& density) {
  check_prune_step(grad, state, density);
  return empty_in_order_of(grad);
}

void count_nonzeros_meta(const at::Tensor& input, const at::Tensor& state, int64_t every,
                         const std::optional<at::Tensor>& density) {
  check_count_nonzeros(input, state, every, density);
}

}  // namespace

namespace ops {

at::Tensor conv2d(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                  c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, c10::SymInt groups,
                  std::string_view backend, bool check_finite,
                  const std::optional<at::Tensor>& input_density,
                  const std::optional<at::Tensor>& grad_density) {
  static auto op = typed_operator<decltype(conv2d)>("sparsetrain::conv2d");
  return op.call(input, weight, bias, stride, padding, dilation, std::move(groups), backend,
                 check_finite, input_density, grad_density);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    c10::SymInt groups, std::array<bool, 3> output_mask, std::string_view backend,
    bool check_finite, const std::optional<at::Tensor>& grad_density) {
  static auto op = typed_operator<decltype(conv2d_backward)>("sparsetrain::conv2d_backward");
  return op.call(grad_output, input, weight, stride, padding, dilation, std::move(groups),
                 output_mask, backend, check_finite, grad_density);
}

std::tuple<at::Tensor, at::Tensor> prune(const at::Tensor& grad, const at::Tensor& threshold,
                                         const at::Tensor& rng) {
  static auto op = typed_operator<decltype(prune)>("sparsetrain::prune");
  return op.call(grad, threshold, rng);
}

at::Tensor prune_step(const at::Tensor& grad, const at::Tensor& state,
                      const std::optional<at::Tensor>& density) {
  static auto op = typed_operator<decltype(prune_step)>("sparsetrain::prune_step");
  return op.call(grad, state, density);
}

at::Tensor prune_grad(const at::Tensor& input, const at::Tensor& state,
                      const std::optional<at::Tensor>& density) {
  static auto op = typed_operator<decltype(prune_grad)>("sparsetrain::prune_grad");
  return op.call(input, state, density);
}

void count_nonzeros(const at::Tensor& input, const at::Tensor& state, int64_t every,
                    const std::optional<at::Tensor>& density) {
  static auto op = typed_operator<decltype(count_nonzeros)>("sparsetrain::count_nonzeros");
  op.call(input, state, every, density);
}

}  // namespace ops
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, Meta, m) {
  m.impl("conv2d", sparsetrain::conv2d_meta);
  m.impl("conv2d_backward", sparsetrain::conv2d_backward_meta);
  m.impl("prune", sparsetrain::prune_meta);
  m.impl("prune_step", sparsetrain::prune_step_meta);
  m.impl("count_nonzeros", sparsetrain::count_nonzeros_meta);
}
