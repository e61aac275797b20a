// The derivatives: convolutions whose backward is sparsetrain::conv2d_backward, identities whose
// backward prunes or counts, and the straight-through rule of pruning itself. Also autocast.
#include <ATen/autocast_mode.h>
#include <ATen/ops/_convolution_double_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "checks.h"
#include "conv_call.h"
#include "memory.h"
#include "ops.h"
#include "passes.h"
#include "plain_conv.h"

namespace sparsetrain {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// Keeps an optional tensor in saved_data, which is not checked for changes in place.
void save_if_any(AutogradContext* ctx, const char* name, const std::optional<at::Tensor>& t) {
  if (t) ctx->saved_data[name] = *t;
}
std::optional<at::Tensor> saved(AutogradContext* ctx, const char* name) {
  const auto found = ctx->saved_data.find(name);
  if (found == ctx->saved_data.end()) return std::nullopt;
  return found->second.toTensor();
}

// The arguments of a call that are no tensors, for its backward.
//
// They are packed into one saved_data entry, because every entry costs one or two allocations. The
// entry lists stride, padding, dilation, groups, check_finite, backend and, for each of the three
// gradients, whether it can be asked for.
class SavedCall {
 public:
  static void save(AutogradContext* ctx, const ConvCall& call, std::array<bool, 3> mask) {
    c10::SymDimVector numbers;
    for (const auto pair : {call.stride, call.padding, call.dilation}) {
      numbers.append(pair.begin(), pair.end());
    }
    numbers.push_back(call.groups);
    numbers.push_back(call.check_finite);
    numbers.push_back(static_cast<int64_t>(call.backend));
    for (const bool asked : mask) numbers.push_back(asked);
    ctx->saved_data["call"] = c10::SymIntArrayRef(numbers);
    save_if_any(ctx, "grad_density", call.grad_density);
  }

  explicit SavedCall(AutogradContext* ctx)
      : grad_density(sparsetrain::saved(ctx, "grad_density")),
        numbers_(ctx->saved_data["call"].toSymIntVector()) {}

  // Valid as long as this object.
  c10::SymIntArrayRef stride() const { return all().slice(0, 2); }
  c10::SymIntArrayRef padding() const { return all().slice(2, 2); }
  c10::SymIntArrayRef dilation() const { return all().slice(4, 2); }
  const c10::SymInt& groups() const { return numbers_[6]; }
  bool check_finite() const { return numbers_[7] != 0; }
  std::string_view backend() const {
    return name_of(static_cast<Backend>(numbers_[8].expect_int()));
  }
  bool asked(int result) const { return numbers_[9 + result] != 0; }

  std::optional<at::Tensor> grad_density;

 private:
  c10::SymIntArrayRef all() const { return numbers_; }

  std::vector<c10::SymInt> numbers_;
};

// Whether a derivative, of either mode, passes through a call with this operand. If none does, no
// node is recorded for the call.
bool differentiable(const at::Tensor& t) {
  return t.defined() &&
         ((at::GradMode::is_enabled() && t.requires_grad()) || t._fw_grad(/*level=*/0).defined());
}

at::Tensor if_asked(bool asked, const at::Tensor& t) { return asked ? t : at::Tensor(); }

// The operators below autograd. If nothing but the device follows in the dispatcher, its driver is
// called without another dispatch: it would build and check the same call again.
at::Tensor compute(const ConvCall& call, c10::DispatchKeySet keys) {
  at::AutoDispatchBelowADInplaceOrView guard;
  const ConvDevice* device = conv_device(keys);
  return device ? run_conv2d(call, *device) : ops::redispatch(call, below_autograd(keys));
}
Gradients compute(const ConvBackwardCall& call, c10::DispatchKeySet keys) {
  at::AutoDispatchBelowADInplaceOrView guard;
  const ConvDevice* device = conv_device(keys);
  return device ? run_conv2d_backward(call, *device) : ops::redispatch(call, below_autograd(keys));
}

// An operand for ATen's double backward. On the CPU it runs convolutions without the protection of
// aten_conv.h, which contiguous operands with exact strides do not need.
at::Tensor for_double_backward(const at::Tensor& t) {
  return t.defined() && t.is_cpu() ? with_exact_strides(t, at::MemoryFormat::Contiguous) : t;
}

struct ConvBackward : Function<ConvBackward> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& grad_output,
                               const at::Tensor& input, const at::Tensor& weight,
                               const ConvBackwardCall& call, c10::DispatchKeySet keys) {
    auto [dx, dw, db] = compute(call, keys);
    ctx->save_for_backward({grad_output, input, weight});
    SavedCall::save(ctx, call, call.output_mask);
    const variable_list results{dx, dw, db};
    // Collected first, because mark_non_differentiable() keeps only its last call.
    variable_list without_derivative;
    for (size_t i = 0; i < 3; ++i) {
      if (!call.output_mask[i]) without_derivative.push_back(results[i]);
    }
    ctx->mark_non_differentiable(without_derivative);
    return results;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto operands = ctx->get_saved_variables();
    const SavedCall call(ctx);
    const bool batched = operands[1].dim() == 4;  // ATen's double backward needs batches
    const auto images = [&](const at::Tensor& t) {
      return for_double_backward(t.defined() && !batched ? t.unsqueeze(0) : t);
    };
    auto [ddy, dx, dw] = at::_convolution_double_backward_symint(
        images(if_asked(call.asked(0), grads[0])),
        for_double_backward(if_asked(call.asked(1), grads[1])), if_asked(call.asked(2), grads[2]),
        images(operands[0]), for_double_backward(operands[2]), images(operands[1]), call.stride(),
        call.padding(), call.dilation(), /*transposed=*/false, c10::SymIntArrayRef({0, 0}),
        call.groups(),
        {ctx->needs_input_grad(0), ctx->needs_input_grad(1), ctx->needs_input_grad(2)});
    const auto as_called = [&](const at::Tensor& t) {
      return t.defined() && !batched ? t.squeeze(0) : t;
    };
    return {as_called(ddy), as_called(dx), dw, {}, {}};
  }
};

struct Conv : Function<Conv> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const ConvCall& call,
                            c10::DispatchKeySet keys) {
    auto y = compute(call, keys);
    ctx->save_for_backward({input, weight});
    SavedCall::save(ctx, call, {true, true, bias.has_value()});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto operands = ctx->get_saved_variables();
    const SavedCall call(ctx);
    // If there is no bias, the node has no input 2 to ask about.
    const std::array<bool, 3> mask{ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                   call.asked(2) && ctx->needs_input_grad(2)};
    const auto [dx, dw, db] = ops::conv2d_backward(
        grads[0], operands[0], operands[1], call.stride(), call.padding(), call.dilation(),
        call.groups(), mask, call.backend(), call.check_finite(), call.grad_density);
    return {if_asked(mask[0], dx), if_asked(mask[1], dw), if_asked(mask[2], db), {}, {}};
  }
};

at::Tensor conv2d(const ConvCall& call, c10::DispatchKeySet keys) {
  if (auto y = plain_conv2d(call, keys)) return *y;
  if (!differentiable(call.input) && !differentiable(call.weight) &&
      !(call.bias && differentiable(*call.bias))) {
    return compute(call, keys);
  }
  return Conv::apply(call.input, call.weight, call.bias, call, keys);
}

Gradients conv2d_backward(const ConvBackwardCall& call, c10::DispatchKeySet keys) {
  if (!differentiable(call.grad_output) && !differentiable(call.input) &&
      !differentiable(call.weight)) {
    return compute(call, keys);
  }
  auto out = ConvBackward::apply(call.grad_output, call.input, call.weight, call, keys);
  return {out[0], out[1], out[2]};
}

// Pruning is unbiased, E[prune(g)] = g, so that the derivative of its expectation is the identity.
struct Prune : Function<Prune> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& grad,
                               const at::Tensor& threshold, const at::Tensor& rng) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [out, stats] = ops::prune(grad, threshold, rng);
    ctx->mark_non_differentiable({stats});
    return {out, stats};
  }
  static variable_list backward(AutogradContext*, variable_list grads) {
    return {grads[0], {}, {}};
  }
};

struct PruneStep : Function<PruneStep> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& grad, const at::Tensor& state,
                            const std::optional<at::Tensor>& density) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return ops::prune_step(grad, state, density);
  }
  static variable_list backward(AutogradContext*, variable_list grads) {
    return {grads[0], {}, {}};
  }
};

std::tuple<at::Tensor, at::Tensor> prune(const at::Tensor& grad, const at::Tensor& threshold,
                                         const at::Tensor& rng) {
  if (!differentiable(grad)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return ops::prune(grad, threshold, rng);
  }
  auto out = Prune::apply(grad, threshold, rng);
  return {out[0], out[1]};
}

at::Tensor prune_step(const at::Tensor& grad, const at::Tensor& state,
                      const std::optional<at::Tensor>& density) {
  if (!differentiable(grad)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return ops::prune_step(grad, state, density);
  }
  return PruneStep::apply(grad, state, density);
}

// The state is kept in saved_data instead of save_for_backward, because prune_step changes it
// between two backward passes through one forward. That is legal here, but save_for_backward would
// report it as a change in place. forward returns input.detach(), which shares storage and version
// counter but is no view of the input. A view that a Function returned cannot be changed in place,
// which an activation after the identity may do.
struct PruneGrad : Function<PruneGrad> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& state,
                            const std::optional<at::Tensor>& density) {
    ctx->saved_data["state"] = state;
    save_if_any(ctx, "density", density);
    return input.detach();
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return {ops::prune_step(grads[0], ctx->saved_data["state"].toTensor(), saved(ctx, "density")),
            {},
            {}};
  }
};

struct CountGradNonzeros : Function<CountGradNonzeros> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& state,
                            int64_t every, const std::optional<at::Tensor>& density) {
    ctx->saved_data["state"] = state;
    ctx->saved_data["every"] = every;
    save_if_any(ctx, "density", density);
    return input.detach();
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    ops::count_nonzeros(grads[0], ctx->saved_data["state"].toTensor(),
                        ctx->saved_data["every"].toInt(), saved(ctx, "density"));
    return {grads[0], {}, {}, {}};
  }
};

at::Tensor prune_grad(const at::Tensor& input, const at::Tensor& state,
                      const std::optional<at::Tensor>& density) {
  return PruneGrad::apply(input, state, density);
}

at::Tensor count_grad_nonzeros(const at::Tensor& input, const at::Tensor& state, int64_t every,
                               const std::optional<at::Tensor>& density) {
  return CountGradNonzeros::apply(input, state, every, density);
}

// Casts every floating operand to autocast's lower precision, as torch does for its convolutions.
template <c10::DeviceType device>
at::Tensor conv2d_autocast(const ConvCall& call, c10::DispatchKeySet) {
  c10::impl::ExcludeDispatchKeyGuard guard(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  const auto type = at::autocast::get_autocast_dtype(device);
  const auto cast = [&](const auto& t) { return at::autocast::cached_cast(type, t, device); };
  return ops::conv2d(cast(call.input), cast(call.weight), cast(call.bias), call.stride,
                     call.padding, call.dilation, call.groups, call.backend_name, call.check_finite,
                     call.input_density, call.grad_density);
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, Autograd, m) {
  using namespace sparsetrain;
  m.impl("conv2d", Conv2dKernel<conv2d>::call);
  m.impl("conv2d_backward", Conv2dBackwardKernel<conv2d_backward>::call);
  m.impl("prune", prune);
  m.impl("prune_step", prune_step);
}

TORCH_LIBRARY_IMPL(sparsetrain, CompositeImplicitAutograd, m) {
  m.impl("prune_grad", sparsetrain::prune_grad);
  m.impl("count_grad_nonzeros", sparsetrain::count_grad_nonzeros);
}

TORCH_LIBRARY_IMPL(sparsetrain, AutocastCPU, m) {
  using namespace sparsetrain;
  m.impl("conv2d", Conv2dKernel<conv2d_autocast<c10::DeviceType::CPU>, false>::call);
}

TORCH_LIBRARY_IMPL(sparsetrain, AutocastCUDA, m) {
  using namespace sparsetrain;
  m.impl("conv2d", Conv2dKernel<conv2d_autocast<c10::DeviceType::CUDA>, false>::call);
}
