// Checks of arguments, which every operator makes before it computes. A message is one sentence
// that names operator, argument, expectation and value.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/StringUtil.h>

#include <optional>

#include "../choice/cpu_costs.h"

namespace sparsetrain {

// sparsetrain::<op>: expected <what> to be <wanted>, got <actual>[. <what to do>]
// The message is only built if the condition fails.
#define SPARSETRAIN_CHECK(condition, error, op, what, wanted, ...)                               \
  if (C10_UNLIKELY(!(condition))) {                                                              \
    C10_THROW_ERROR(error, c10::str("sparsetrain::", op, ": expected ", what, " to be ", wanted, \
                                    ", got ", __VA_ARGS__));                                     \
  }

// cpu_setting(), or ValueError if SPARSETRAIN_ISA names no instruction set.
const CpuSetting& checked_cpu_setting(const char* op);

// Whether t is of a type that kernels take.
bool has_kernels(const at::Tensor& t);
void check_floating(const char* op, const char* what, const at::Tensor& t);

// A density of density.h, or none. It may be on the meta device only if `operand` is.
void check_density(const char* op, const char* what, const std::optional<at::Tensor>& density,
                   const at::Tensor& operand);

// kernels/common/state_slots.h names the slots of a state.
void check_prune(const at::Tensor& grad, const at::Tensor& threshold, const at::Tensor& rng);
void check_prune_step(const at::Tensor& grad, const at::Tensor& state,
                      const std::optional<at::Tensor>& density);
void check_count_nonzeros(const at::Tensor& input, const at::Tensor& state, int64_t every,
                          const std::optional<at::Tensor>& density);

}  // namespace sparsetrain
