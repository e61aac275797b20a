// The derivatives: convolutions whose backward is sparsetrain::conv2d_backward, identities whose
// backward prunes or observes, and the straight-through rule of pruning itself.
#include "autograd.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/_convolution_double_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "checks.h"
#include "ops.h"
#include "plain_conv.h"

namespace sparsetrain {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Everything of a convolution that is not a tensor.
struct Arguments {
  c10::SymIntArrayRef stride, padding, dilation;
  c10::SymInt groups;
  std::string_view backend;
  bool check_finite;
  std::optional<at::Tensor> input_density, grad_density;  // of density.h
};

// A density that waits for the backward, where there is one.
void save_if_there(AutogradContext* ctx, const char* name, const std::optional<at::Tensor>& t) {
  if (t) ctx->saved_data[name] = *t;
}
std::optional<at::Tensor> saved(AutogradContext* ctx, const char* name) {
  const auto found = ctx->saved_data.find(name);
  if (found == ctx->saved_data.end()) return std::nullopt;
  return found->second.toTensor();
}

// The same, kept for the backward, in few entries: each costs an allocation or two.
class SavedArguments {
 public:
  // After the call with `a` was accepted: its lists are pairs then.
  static void save(AutogradContext* ctx, const Arguments& a) {
    c10::SymDimVector numbers;
    for (const auto pair : {a.stride, a.padding, a.dilation}) {
      numbers.append(pair.begin(), pair.end());
    }
    numbers.push_back(a.groups);
    numbers.push_back(a.check_finite);
    ctx->saved_data["numbers"] = c10::SymIntArrayRef(numbers);
    ctx->saved_data["backend"] = std::string(a.backend);
    save_if_there(ctx, "grad_density", a.grad_density);
  }

  explicit SavedArguments(AutogradContext* ctx)
      : numbers_(ctx->saved_data["numbers"].toSymIntVector()),
        backend_(ctx->saved_data["backend"].toStringRef()),
        grad_density_(saved(ctx, "grad_density")) {}

  // Valid as long as this object.
  Arguments view() const {
    const c10::SymIntArrayRef all(numbers_);
    return {all.slice(0, 2), all.slice(2, 2), all.slice(4, 2), all[6],
            backend_,        all[7] != 0,     std::nullopt,    grad_density_};
  }

 private:
  std::vector<c10::SymInt> numbers_;
  std::string backend_;
  std::optional<at::Tensor> grad_density_;
};

// Whether a derivative, of either mode, is to pass through a call with this operand. Where none
// does, the node that would carry it is not made.
bool differentiable(const at::Tensor& t) {
  return t.defined() &&
         ((at::GradMode::is_enabled() && t.requires_grad()) || t._fw_grad(/*level=*/0).defined());
}

at::Tensor defined_or(const at::Tensor& t, bool wanted) { return wanted ? t : at::Tensor(); }

// t for ATen's double backward, whose convolutions on the CPU are those of aten_conv.cpp without
// its care: in one format, with that format's strides where a size of 1 lets them be anything.
at::Tensor plain(const at::Tensor& t) {
  const bool fine = !t.defined() || !t.is_cpu() || (t.is_contiguous() && t.sym_size(1) > 1);
  return fine ? t : t.clone(at::MemoryFormat::Contiguous);
}

struct ConvBackward : Function<ConvBackward> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& grad_output,
                               const at::Tensor& input, const at::Tensor& weight,
                               const Arguments& a, std::array<bool, 3> mask) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [dx, dw, db] =
        ops::conv2d_backward(grad_output, input, weight, a.stride, a.padding, a.dilation, a.groups,
                             mask, a.backend, a.check_finite, a.grad_density);
    ctx->save_for_backward({grad_output, input, weight});
    SavedArguments::save(ctx, a);
    ctx->saved_data["mask"] = std::vector<bool>(mask.begin(), mask.end());
    const variable_list results{dx, dw, db};
    variable_list unwanted;  // of two calls only the second would count
    for (size_t i = 0; i < 3; ++i) {
      if (!mask[i]) unwanted.push_back(results[i]);
    }
    ctx->mark_non_differentiable(unwanted);
    return results;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const SavedArguments arguments(ctx);
    const Arguments a = arguments.view();
    const bool batched = saved[1].dim() == 4;  // ATen's double backward takes batched operands only
    const auto batch = [&](const at::Tensor& t) {
      return t.defined() && !batched ? plain(t.unsqueeze(0)) : plain(t);
    };
    const auto mask = ctx->saved_data["mask"].toBoolList();
    auto [ddy, dx, dw] = at::_convolution_double_backward_symint(
        batch(defined_or(grads[0], mask[0])), plain(defined_or(grads[1], mask[1])),
        defined_or(grads[2], mask[2]), batch(saved[0]), plain(saved[2]), batch(saved[1]), a.stride,
        a.padding, a.dilation, /*transposed=*/false, c10::SymIntArrayRef({0, 0}), a.groups,
        {ctx->needs_input_grad(0), ctx->needs_input_grad(1), ctx->needs_input_grad(2)});
    const auto unbatch = [&](const at::Tensor& t) {
      return t.defined() && !batched ? t.squeeze(0) : t;
    };
    return {unbatch(ddy), unbatch(dx), dw, {}, {}};
  }
};

struct Conv : Function<Conv> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const Arguments& a) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto y = ops::conv2d(input, weight, bias, a.stride, a.padding, a.dilation, a.groups, a.backend,
                         a.check_finite, a.input_density, a.grad_density);
    ctx->save_for_backward({input, weight});
    SavedArguments::save(ctx, a);
    ctx->saved_data["bias"] = bias.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const SavedArguments arguments(ctx);
    const Arguments a = arguments.view();
    // Without a bias there is no input 2 to ask about.
    const std::array<bool, 3> mask{ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                   ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)};
    const auto [dx, dw, db] =
        ops::conv2d_backward(grads[0], saved[0], saved[1], a.stride, a.padding, a.dilation,
                             a.groups, mask, a.backend, a.check_finite, a.grad_density);
    return {defined_or(dx, mask[0]), defined_or(dw, mask[1]), defined_or(db, mask[2]), {}};
  }
};

}  // namespace

at::Tensor differentiable_conv2d(const at::Tensor& input, const at::Tensor& weight,
                                 const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                                 c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                                 c10::SymInt groups, std::string_view backend, bool check_finite,
                                 const std::optional<at::Tensor>& input_density,
                                 const std::optional<at::Tensor>& grad_density) {
  check_density("conv2d", "input_density", input_density, input);
  check_density("conv2d", "grad_density", grad_density, input);
  if (auto y = torch_conv2d(input, weight, bias, stride, padding, dilation, groups, backend)) {
    return *y;
  }
  if (!differentiable(input) && !differentiable(weight) && !(bias && differentiable(*bias))) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return ops::conv2d(input, weight, bias, stride, padding, dilation, std::move(groups), backend,
                       check_finite, input_density, grad_density);
  }
  return Conv::apply(input, weight, bias,
                     Arguments{stride, padding, dilation, std::move(groups), backend, check_finite,
                               input_density, grad_density});
}

namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    c10::SymInt groups, std::array<bool, 3> output_mask, std::string_view backend,
    bool check_finite, const std::optional<at::Tensor>& grad_density) {
  if (!differentiable(grad_output) && !differentiable(input) && !differentiable(weight)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return ops::conv2d_backward(grad_output, input, weight, stride, padding, dilation,
                                std::move(groups), output_mask, backend, check_finite,
                                grad_density);
  }
  auto out = ConvBackward::apply(grad_output, input, weight,
                                 Arguments{stride, padding, dilation, std::move(groups), backend,
                                           check_finite, std::nullopt, grad_density},
                                 output_mask);
  return {out[0], out[1], out[2]};
}

// Pruning is unbiased, E[prune(g)] = g, so the derivative of its expectation is the identity.
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
  auto out = Prune::apply(grad, threshold, rng);
  return {out[0], out[1]};
}

at::Tensor prune_step(const at::Tensor& grad, const at::Tensor& state,
                      const std::optional<at::Tensor>& density) {
  return PruneStep::apply(grad, state, density);
}

// The state rides in saved_data, not in save_for_backward: prune_step changes it between two
// backward passes through one forward, which is legal and must not be taken for a stale saved
// tensor. An identity returns input.detach(): the same storage and version counter, but no view of
// the input, which an activation behind it could not change in place.
struct PruneGrad : Function<PruneGrad> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& state,
                            const std::optional<at::Tensor>& density) {
    ctx->saved_data["state"] = state;
    save_if_there(ctx, "density", density);
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
    save_if_there(ctx, "density", density);
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

// As torch's convolution: every floating operand in autocast's lower precision.
template <c10::DeviceType device>
at::Tensor conv2d_autocast(const at::Tensor& input, const at::Tensor& weight,
                           const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                           c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                           c10::SymInt groups, std::string_view backend, bool check_finite,
                           const std::optional<at::Tensor>& input_density,
                           const std::optional<at::Tensor>& grad_density) {
  c10::impl::ExcludeDispatchKeyGuard guard(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  const auto type = at::autocast::get_autocast_dtype(device);
  return ops::conv2d(at::autocast::cached_cast(type, input, device),
                     at::autocast::cached_cast(type, weight, device),
                     at::autocast::cached_cast(type, bias, device), stride, padding, dilation,
                     std::move(groups), backend, check_finite, input_density, grad_density);
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, Autograd, m) {
  m.impl("conv2d", sparsetrain::differentiable_conv2d);
  m.impl("conv2d_backward", sparsetrain::conv2d_backward);
  m.impl("prune", sparsetrain::prune);
  m.impl("prune_step", sparsetrain::prune_step);
}

TORCH_LIBRARY_IMPL(sparsetrain, CompositeImplicitAutograd, m) {
  m.impl("prune_grad", sparsetrain::prune_grad);
  m.impl("count_grad_nonzeros", sparsetrain::count_grad_nonzeros);
}

TORCH_LIBRARY_IMPL(sparsetrain, AutocastCPU, m) {
  m.impl("conv2d", sparsetrain::conv2d_autocast<c10::DeviceType::CPU>);
}

TORCH_LIBRARY_IMPL(sparsetrain, AutocastCUDA, m) {
  m.impl("conv2d", sparsetrain::conv2d_autocast<c10::DeviceType::CUDA>);
}
