// The driver of passes.h.
#include "passes.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

namespace sparsetrain {
namespace {

// Constant-initialized: static objects of other files fill it in any order.
constinit const ConvDevice* cpu_device = nullptr;
constinit const ConvDevice* cuda_device = nullptr;

// Runs the implementations in order. An empty batch has nothing to compute.
void run(Passes& passes, const ConvDevice& device) {
  if (passes.shape.N == 0) return passes.fill_empty();
  for (const Implementation implementation : device.implementations) {
    if (implementation) implementation(passes);
  }
}

// y or grad_input as the caller gets it: with the rank of the input, in the call's format.
at::Tensor as_input(const at::Tensor& result, const Passes& passes) {
  return passes.unbatched ? result.squeeze(0).contiguous() : result.contiguous(passes.format);
}

}  // namespace

Passes::Passes(const ConvCall& call, bool forward, const at::Tensor& grad_output,
               std::array<bool, 3> output_mask)
    : call(call),
      shape(call.shape()),
      format(call.format()),
      unbatched(call.input.dim() == 3),
      x(batch(call.input)),
      w(call.weight),
      dy(forward ? grad_output : batch(grad_output)),
      asked_{forward, output_mask[0], output_mask[1]},
      asked_bias_(output_mask[2]) {
  if (!x.is_cpu()) guard_.reset_device(x.device());
}

void Passes::fill_empty() {
  const ConvShape& s = shape;
  const auto options = x.options().memory_format(format);
  if (pending(Pass::kForward)) {
    result(Pass::kForward) = at::empty({0, s.K, s.P(), s.Q()}, options);
  }
  if (pending(Pass::kGradInput)) result(Pass::kGradInput) = at::empty(x.sizes(), options);
  if (pending(Pass::kGradWeight)) {
    result(Pass::kGradWeight) = at::empty(w.sizes(), options).zero_();
  }
  if (grad_bias_pending()) grad_bias = at::zeros({s.K}, x.options());
}

void run_dense(Passes& p, DenseForward forward, DenseBackward backward) {
  if (p.pending(Pass::kForward)) {
    p.result(Pass::kForward) = forward(p.shape, p.x, p.w, p.call.bias, p.unbatched);
  }
  const std::array<bool, 3> mask{p.pending(Pass::kGradInput), p.pending(Pass::kGradWeight),
                                 p.grad_bias_pending()};
  if (!mask[0] && !mask[1] && !mask[2]) return;
  auto [dx, dw, db] = backward(p.shape, p.dy, p.x, p.w, mask, p.unbatched);
  if (mask[0]) p.result(Pass::kGradInput) = dx;
  if (mask[1]) p.result(Pass::kGradWeight) = dw;
  if (mask[2]) p.grad_bias = db;
}

void register_conv_device(c10::DeviceType type, const ConvDevice* device) {
  (type == c10::DeviceType::CUDA ? cuda_device : cpu_device) = device;
}

const ConvDevice* conv_device(c10::DispatchKeySet keys) {
  switch (below_autograd(keys).highestPriorityTypeId()) {
    case c10::DispatchKey::CPU:
      return cpu_device;
    case c10::DispatchKey::CUDA:
      return cuda_device;
    default:
      return nullptr;
  }
}

at::Tensor run_conv2d(const ConvCall& call, const ConvDevice& device) {
  Passes passes(call, true, {}, {});
  run(passes, device);
  return as_input(passes.result(Pass::kForward), passes);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> run_conv2d_backward(const ConvBackwardCall& call,
                                                                   const ConvDevice& device) {
  Passes passes(call, false, call.grad_output, call.output_mask);
  run(passes, device);
  const auto& dx = passes.result(Pass::kGradInput);
  const auto& dw = passes.result(Pass::kGradWeight);
  const auto& db = passes.grad_bias;
  // The dispatcher returns no undefined tensors.
  const auto none = [&] { return at::empty({0}, call.input.options()); };
  return {dx.defined() ? as_input(dx, passes) : none(),
          dw.defined() ? dw.contiguous(passes.format) : none(), db.defined() ? db : none()};
}

}  // namespace sparsetrain
