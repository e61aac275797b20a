// The schemas of the operators, calls through the dispatcher, and the Meta kernels, which give
// torch.compile the shape, type and memory format of each result.
#include "ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "checks.h"
#include "conv_call.h"
#include "memory.h"

TORCH_LIBRARY(sparsetrain, m) {
  m.def("prune(Tensor grad, Tensor threshold, Tensor rng) -> (Tensor out, Tensor stats)");
  // Stores into a density are not declared. torch.compile would pass a copy in place of a declared
  // argument, and the store would be lost.
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

at::Tensor conv2d_meta(const ConvCall& call, c10::DispatchKeySet) {
  return at::empty_symint(call.output_size, call.input.options(), call.format());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward_meta(const ConvBackwardCall& call,
                                                                    c10::DispatchKeySet) {
  const auto none = [&] { return at::empty({0}, call.input.options()); };
  const auto like = [&](bool asked, const at::Tensor& t) {
    return asked ? at::empty_symint(t.sym_sizes(), t.options(), call.format()) : none();
  };
  const at::Tensor& weight = call.weight;
  return {like(call.output_mask[0], call.input), like(call.output_mask[1], weight),
          call.output_mask[2] ? at::empty_symint({weight.sym_size(0)}, weight.options()) : none()};
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

namespace {

auto& conv2d_operator() {
  static auto op = typed_operator<decltype(conv2d)>("sparsetrain::conv2d");
  return op;
}
auto& conv2d_backward_operator() {
  static auto op = typed_operator<decltype(conv2d_backward)>("sparsetrain::conv2d_backward");
  return op;
}

}  // namespace

at::Tensor conv2d(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                  c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, c10::SymInt groups,
                  std::string_view backend, bool check_finite,
                  const std::optional<at::Tensor>& input_density,
                  const std::optional<at::Tensor>& grad_density) {
  return conv2d_operator().call(input, weight, bias, stride, padding, dilation, std::move(groups),
                                backend, check_finite, input_density, grad_density);
}

at::Tensor redispatch(const ConvCall& c, c10::DispatchKeySet keys) {
  return conv2d_operator().redispatch(keys, c.input, c.weight, c.bias, c.stride, c.padding,
                                      c.dilation, c.groups, c.backend_name, c.check_finite,
                                      c.input_density, c.grad_density);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    c10::SymInt groups, std::array<bool, 3> output_mask, std::string_view backend,
    bool check_finite, const std::optional<at::Tensor>& grad_density) {
  return conv2d_backward_operator().call(grad_output, input, weight, stride, padding, dilation,
                                         std::move(groups), output_mask, backend, check_finite,
                                         grad_density);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> redispatch(const ConvBackwardCall& c,
                                                          c10::DispatchKeySet keys) {
  return conv2d_backward_operator().redispatch(keys, c.grad_output, c.input, c.weight, c.stride,
                                               c.padding, c.dilation, c.groups, c.output_mask,
                                               c.backend_name, c.check_finite, c.grad_density);
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

at::Tensor count_grad_nonzeros(const at::Tensor& input, const at::Tensor& state, int64_t every,
                               const std::optional<at::Tensor>& density) {
  static auto op =
      typed_operator<decltype(count_grad_nonzeros)>("sparsetrain::count_grad_nonzeros");
  return op.call(input, state, every, density);
}

}  // namespace ops
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, Meta, m) {
  using namespace sparsetrain;
  m.impl("conv2d", Conv2dKernel<conv2d_meta>::call);
  m.impl("conv2d_backward", Conv2dBackwardKernel<conv2d_backward_meta>::call);
  m.impl("prune", prune_meta);
  m.impl("prune_step", prune_step_meta);
  m.impl("count_nonzeros", count_nonzeros_meta);
}
