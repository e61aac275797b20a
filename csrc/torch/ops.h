// The operators of library `sparsetrain`, called through the dispatcher. For C++ programs, for the
// Python bindings, and for derivatives that call another operator.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>

namespace sparsetrain {

struct ConvCall;
struct ConvBackwardCall;

}  // namespace sparsetrain

namespace sparsetrain::ops {

at::Tensor conv2d(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                  c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, c10::SymInt groups,
                  std::string_view backend, bool check_finite,
                  const std::optional<at::Tensor>& input_density = {},
                  const std::optional<at::Tensor>& grad_density = {});

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    c10::SymInt groups, std::array<bool, 3> output_mask, std::string_view backend,
    bool check_finite, const std::optional<at::Tensor>& grad_density = {});

std::tuple<at::Tensor, at::Tensor> prune(const at::Tensor& grad, const at::Tensor& threshold,
                                         const at::Tensor& rng);
at::Tensor prune_step(const at::Tensor& grad, const at::Tensor& state,
                      const std::optional<at::Tensor>& density = {});
at::Tensor prune_grad(const at::Tensor& input, const at::Tensor& state,
                      const std::optional<at::Tensor>& density = {});
void count_nonzeros(const at::Tensor& input, const at::Tensor& state, int64_t every,
                    const std::optional<at::Tensor>& density = {});
at::Tensor count_grad_nonzeros(const at::Tensor& input, const at::Tensor& state, int64_t every,
                               const std::optional<at::Tensor>& density = {});

// Calls the next kernel of conv2d or conv2d_backward, the one for the highest of `keys`. For
// kernels that have other keys than the operator was called with.
at::Tensor redispatch(const ConvCall& call, c10::DispatchKeySet keys);
std::tuple<at::Tensor, at::Tensor, at::Tensor> redispatch(const ConvBackwardCall& call,
                                                          c10::DispatchKeySet keys);

}  // namespace sparsetrain::ops
