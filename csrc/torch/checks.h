// Checks at the border to PyTorch: one sentence that names operator, argument, expectation and
// value.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/StringUtil.h>

#include <optional>
#include <string_view>

#include "../choice/choose.h"
#include "../shape.h"

namespace sparsetrain {

// sparsetrain::<op>: expected <what> to be <wanted>, got <actual>[. <what to do>]
#define SPARSETRAIN_CHECK(condition, error, op, what, wanted, ...)                               \
  if (C10_UNLIKELY(!(condition))) {                                                              \
    C10_THROW_ERROR(error, c10::str("sparsetrain::", op, ": expected ", what, " to be ", wanted, \
                                    ", got ", __VA_ARGS__));                                     \
  }

// current_isa(), or a refusal of a name that there is not.
Isa isa_in_force(const char* op);

Backend parse_backend(const char* op, std::string_view name);
Backend parse_cpu_backend(const char* op, std::string_view name);  // refuses 'cusparse'

// Whether t is of a type that kernels take.
bool has_kernels(const at::Tensor& t);
void check_floating(const char* op, const char* what, const at::Tensor& t);

// What conv2d and conv2d_backward have in common. input [N,C,H,W] or [C,H,W], weight
// [K,C/groups,R,S].
void check_conv2d(const char* op, const at::Tensor& input, const at::Tensor& weight,
                  c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                  c10::SymIntArrayRef dilation, const c10::SymInt& groups);

// The sizes of y, [N,K,P,Q] or [K,P,Q] as input has them; checked to be >= 0.
c10::SymDimVector output_size(const char* op, const at::Tensor& input, const at::Tensor& weight,
                              c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                              c10::SymIntArrayRef dilation);

void check_bias(const at::Tensor& bias, const at::Tensor& input, const at::Tensor& weight);

void check_grad_output(const at::Tensor& grad_output, const at::Tensor& input,
                       c10::SymIntArrayRef expected);

// A slot of csrc/torch/density.h, or a density that the caller knows. On meta only where `operand`
// is, which alone decides what runs.
void check_density(const char* op, const char* what, const std::optional<at::Tensor>& density,
                   const at::Tensor& operand);

// What prune, prune_step and observe ask of threshold and state, whose slots kernels/state.h names.
void check_prune(const at::Tensor& grad, const at::Tensor& threshold, const at::Tensor& rng);
void check_prune_step(const at::Tensor& grad, const at::Tensor& state,
                      const std::optional<at::Tensor>& density);
void check_count_nonzeros(const at::Tensor& input, const at::Tensor& state, int64_t every,
                          const std::optional<at::Tensor>& density);

}  // namespace sparsetrain
