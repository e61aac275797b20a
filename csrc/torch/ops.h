// The operators of library `sparsetrain` as the rest of this room calls them: through the
// dispatcher.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>

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

}  // namespace sparsetrain::ops
