// The checks of pruning and counting, and those that all operators share. conv_call.cpp has the
// convolution's.
#include "checks.h"

#include "../kernels/common/state_slots.h"

namespace sparsetrain {

const CpuSetting& checked_cpu_setting(const char* op) {
  const CpuSetting& setting = cpu_setting();
  SPARSETRAIN_CHECK(setting.unknown_isa.empty(), ValueError, op, "SPARSETRAIN_ISA",
                    "scalar, avx2 or avx512", setting.unknown_isa);
  return setting;
}

bool has_kernels(const at::Tensor& t) {
  const auto type = t.scalar_type();
  return type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf;
}

void check_floating(const char* op, const char* what, const at::Tensor& t) {
  SPARSETRAIN_CHECK(has_kernels(t), TypeError, op, what, "float32, float64, bfloat16 or float16",
                    t.scalar_type());
}

void check_density(const char* op, const char* what, const std::optional<at::Tensor>& density,
                   const at::Tensor& operand) {
  if (!density) return;
  SPARSETRAIN_CHECK(
      density->scalar_type() == at::kDouble && density->dim() == 0 &&
          (density->is_cpu() || (density->is_meta() && operand.is_meta())),
      ValueError, op, what, "one float64 number of no dimension on the CPU",
      c10::str(density->scalar_type(), " ", density->sym_sizes(), " on ", density->device()));
}

void check_prune(const at::Tensor& grad, const at::Tensor& threshold, const at::Tensor& rng) {
  check_floating("prune", "grad", grad);
  check_floating("prune", "threshold", threshold);
  SPARSETRAIN_CHECK(threshold.sym_numel() == 1, ValueError, "prune", "threshold", "one number",
                    c10::str("a tensor of size ", threshold.sym_sizes()));
  SPARSETRAIN_CHECK(rng.scalar_type() == at::kLong && rng.dim() == 1 && rng.sym_size(0) == 2,
                    ValueError, "prune", "rng", "int64 [2] (seed, offset)",
                    c10::str(rng.scalar_type(), " ", rng.sym_sizes()));
  for (const auto& [what, t] : {std::pair("threshold", &threshold), std::pair("rng", &rng)}) {
    SPARSETRAIN_CHECK(t->is_cpu() || t->device() == grad.device(), ValueError, "prune", what,
                      c10::str("on the CPU, or where grad is, on ", grad.device()), t->device());
  }
}

void check_prune_step(const at::Tensor& grad, const at::Tensor& s,
                      const std::optional<at::Tensor>& density) {
  check_density("prune_step", "density", density, grad);
  check_floating("prune_step", "grad", grad);
  SPARSETRAIN_CHECK(s.scalar_type() == at::kDouble && s.dim() == 1 &&
                        s.sym_size(0) >= int64_t{state::kFifo} && s.is_contiguous(),
                    ValueError, "prune_step", "state",
                    c10::str("contiguous float64 [", int64_t{state::kFifo}, " + history]"),
                    c10::str(s.scalar_type(), " ", s.sym_sizes()));
  SPARSETRAIN_CHECK(s.device() == grad.device(), ValueError, "prune_step", "state",
                    c10::str("on ", grad.device(), " like grad"), s.device());
}

void check_count_nonzeros(const at::Tensor& input, const at::Tensor& s, int64_t every,
                          const std::optional<at::Tensor>& density) {
  const char* op = "count_nonzeros";
  check_density(op, "density", density, input);
  SPARSETRAIN_CHECK(s.scalar_type() == at::kDouble && s.dim() == 1 &&
                        s.sym_size(0) == int64_t{state::kCounterSlots} && s.is_contiguous(),
                    ValueError, op, "state",
                    c10::str("contiguous float64 [", int64_t{state::kCounterSlots}, "]"),
                    c10::str(s.scalar_type(), " ", s.sym_sizes()));
  SPARSETRAIN_CHECK(s.device() == input.device(), ValueError, op, "state",
                    c10::str("on ", input.device(), " like input"), s.device());
  SPARSETRAIN_CHECK(every >= 1, ValueError, op, "every", "at least 1", every);
}

}  // namespace sparsetrain
