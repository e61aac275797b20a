// The arguments of one call of conv2d or conv2d_backward. The kernel that the dispatcher calls
// first builds and checks them once; everything below it takes them by const reference.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>

#include "../choice/choose.h"

namespace sparsetrain {

// Arguments that conv2d and conv2d_backward share. The members refer to the caller's values, which
// outlive the call. Sizes may be symbolic (torch.compile).
struct ConvCall {
  const at::Tensor& input;                        // [N,C,H,W] or [C,H,W]
  const at::Tensor& weight;                       // [K,C/groups,R,S]
  const std::optional<at::Tensor>& bias;          // [K]; none in conv2d_backward
  c10::SymIntArrayRef stride, padding, dilation;  // two numbers each
  const c10::SymInt& groups;
  std::string_view backend_name;
  bool check_finite;
  const std::optional<at::Tensor>& input_density;  // see density.h; none in conv2d_backward
  const std::optional<at::Tensor>& grad_density;

  // check() sets these two.
  Backend backend = Backend::kAuto;
  c10::SymDimVector output_size = {};  // of y and dy: [N,K,P,Q], or [K,P,Q] if input has no N

  // Raises ValueError or TypeError unless the arguments describe a convolution.
  void check(const char* op = "conv2d");

  // The shape, with N = 1 for a single image. Sizes must be concrete or become guards.
  ConvShape shape() const;
  // torch's rule for the memory format of results: channels_last if either operand is. An input
  // without N has no format.
  at::MemoryFormat format() const;
};

struct ConvBackwardCall : ConvCall {
  const at::Tensor& grad_output;
  std::array<bool, 3> output_mask;  // which gradients are asked for: of input, weight and bias

  void check();
};

// For the reference members of a ConvCall that conv2d_backward has no argument for.
inline const std::optional<at::Tensor> kNoTensor;

// f(call, keys) as a kernel for the dispatcher, under the schema of conv2d: the only place where
// its arguments become a ConvCall. `checked`: whether the call is checked before f gets it.
// Autocast does not check, because it changes the operands first.
template <auto f, bool checked = true>
struct Conv2dKernel {
  static at::Tensor call(c10::DispatchKeySet keys, const at::Tensor& input,
                         const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                         c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                         c10::SymIntArrayRef dilation, c10::SymInt groups, std::string_view backend,
                         bool check_finite, const std::optional<at::Tensor>& input_density,
                         const std::optional<at::Tensor>& grad_density) {
    ConvCall call{input,  weight,  bias,         stride,        padding,     dilation,
                  groups, backend, check_finite, input_density, grad_density};
    if constexpr (checked) call.check();
    return f(call, keys);
  }
};

// f(call, keys) under the schema of conv2d_backward, always checked.
template <auto f>
struct Conv2dBackwardKernel {
  static std::tuple<at::Tensor, at::Tensor, at::Tensor> call(
      c10::DispatchKeySet keys, const at::Tensor& grad_output, const at::Tensor& input,
      const at::Tensor& weight, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
      c10::SymIntArrayRef dilation, c10::SymInt groups, std::array<bool, 3> output_mask,
      std::string_view backend, bool check_finite, const std::optional<at::Tensor>& grad_density) {
    ConvBackwardCall call{{input, weight, kNoTensor, stride, padding, dilation, groups, backend,
                           check_finite, kNoTensor, grad_density},
                          grad_output,
                          output_mask};
    call.check();
    return f(call, keys);
  }
};

// The kernels' name for the type of a tensor. A type that no operator takes counts as float32.
DType dtype_of(const at::Tensor& t);

// The name of a backend, as callers give it.
std::string_view name_of(Backend backend);

// A single image as a batch of one.
inline at::Tensor batch(const at::Tensor& t) { return t.dim() == 3 ? t.unsqueeze(0) : t; }

}  // namespace sparsetrain
