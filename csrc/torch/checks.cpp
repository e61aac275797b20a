// The sentences of every refusal.
#include "checks.h"

#include <cstdlib>

#include "../kernels/common/state_slots.h"

namespace sparsetrain {

Isa isa_in_force(const char* op) {
  bool unknown = false;
  const Isa isa = current_isa(&unknown);
  SPARSETRAIN_CHECK(!unknown, ValueError, op, "SPARSETRAIN_ISA", "scalar, avx2 or avx512",
                    std::getenv("SPARSETRAIN_ISA"));
  return isa;
}

Backend parse_backend(const char* op, std::string_view name) {
  if (name == "auto") return Backend::kAuto;
  if (name == "sparse") return Backend::kSparse;
  if (name == "dense") return Backend::kDense;
  if (name == "cusparse") return Backend::kCusparse;
  SPARSETRAIN_CHECK(false, ValueError, op, "backend",
                    "one of 'auto', 'sparse', 'dense', 'cusparse'", "'", name, "'");
}

Backend parse_cpu_backend(const char* op, std::string_view name) {
  const Backend backend = parse_backend(op, name);
  SPARSETRAIN_CHECK(backend != Backend::kCusparse, ValueError, op, "backend",
                    "one of 'auto', 'sparse', 'dense' on the CPU", "'cusparse'",
                    ". It is for CUDA tensors");
  return backend;
}

bool has_kernels(const at::Tensor& t) {
  const auto type = t.scalar_type();
  return type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf;
}

void check_floating(const char* op, const char* what, const at::Tensor& t) {
  SPARSETRAIN_CHECK(has_kernels(t), TypeError, op, what, "float32, float64, bfloat16 or float16",
                    t.scalar_type());
}

namespace {

// Below 2^31 they may be multiplied with each other without leaving 64 bits.
void check_pair(const char* op, const char* what, c10::SymIntArrayRef pair, int64_t least) {
  constexpr int64_t kLimit = int64_t{1} << 31;
  SPARSETRAIN_CHECK(pair.size() == 2 && pair[0] >= least && pair[1] >= least && pair[0] < kLimit &&
                        pair[1] < kLimit,
                    ValueError, op, what,
                    c10::str("two integers of at least ", least, " and below 2^31"), pair);
}

}  // namespace

void check_conv2d(const char* op, const at::Tensor& input, const at::Tensor& weight,
                  c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                  c10::SymIntArrayRef dilation, const c10::SymInt& groups) {
  check_floating(op, "input", input);
  SPARSETRAIN_CHECK(input.dim() == 3 || input.dim() == 4, ValueError, op, "input",
                    "[N, C, H, W] or [C, H, W]", input.sym_sizes());
  SPARSETRAIN_CHECK(weight.dim() == 4, ValueError, op, "weight", "[K, C/groups, R, S]",
                    weight.sym_sizes());
  SPARSETRAIN_CHECK(weight.scalar_type() == input.scalar_type(), TypeError, op, "weight",
                    c10::str(input.scalar_type(), " like input"), weight.scalar_type());
  SPARSETRAIN_CHECK(weight.device() == input.device(), ValueError, op, "weight",
                    c10::str("on ", input.device(), " like input"), weight.device());
  check_pair(op, "stride", stride, 1);
  check_pair(op, "padding", padding, 0);
  check_pair(op, "dilation", dilation, 1);
  SPARSETRAIN_CHECK(groups >= 1, ValueError, op, "groups", "at least 1", groups);
  const auto channels = input.sym_size(-3);
  SPARSETRAIN_CHECK(channels % groups == 0, ValueError, op, "groups",
                    c10::str("a divisor of the ", channels, " input channels"), groups);
  SPARSETRAIN_CHECK(weight.sym_size(0) % groups == 0, ValueError, op, "groups",
                    c10::str("a divisor of the ", weight.sym_size(0), " output channels"), groups);
  SPARSETRAIN_CHECK(weight.sym_size(1) == channels / groups, ValueError, op, "weight",
                    c10::str("[K, ", channels / groups, ", R, S] (input channels / groups)"),
                    weight.sym_sizes());
  SPARSETRAIN_CHECK(weight.sym_size(0) >= 1 && weight.sym_size(1) >= 1 && weight.sym_size(2) >= 1 &&
                        weight.sym_size(3) >= 1,
                    ValueError, op, "weight", "without an empty dimension", weight.sym_sizes());
  check_pair(op, "the kernel", weight.sym_sizes().slice(2), 1);
}

c10::SymDimVector output_size(const char* op, const at::Tensor& input, const at::Tensor& weight,
                              c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                              c10::SymIntArrayRef dilation) {
  c10::SymDimVector size(input.sym_sizes().begin(), input.sym_sizes().end());
  size[size.size() - 3] = weight.sym_size(0);
  for (int64_t i = 0; i < 2; ++i) {
    const auto padded = input.sym_size(i - 2) + padding[i] * 2;
    const auto kernel = dilation[i] * (weight.sym_size(i + 2) - 1) + 1;
    SPARSETRAIN_CHECK(input.sym_size(i - 2) >= 1 && padded >= kernel, ValueError, op,
                      i == 0 ? "the height of input" : "the width of input",
                      c10::str("at least the kernel's ", kernel, " after padding"),
                      c10::str(input.sym_size(i - 2), " + 2 * ", padding[i]));
    size[size.size() - 2 + i] = (padded - kernel) / stride[i] + 1;
  }
  return size;
}

void check_bias(const at::Tensor& bias, const at::Tensor& input, const at::Tensor& weight) {
  SPARSETRAIN_CHECK(bias.dim() == 1 && bias.sym_size(0) == weight.sym_size(0), ValueError, "conv2d",
                    "bias", c10::str("[", weight.sym_size(0), "]"), bias.sym_sizes());
  SPARSETRAIN_CHECK(bias.scalar_type() == input.scalar_type(), TypeError, "conv2d", "bias",
                    c10::str(input.scalar_type(), " like input"), bias.scalar_type());
  SPARSETRAIN_CHECK(bias.device() == input.device(), ValueError, "conv2d", "bias",
                    c10::str("on ", input.device(), " like input"), bias.device());
}

void check_grad_output(const at::Tensor& grad_output, const at::Tensor& input,
                       c10::SymIntArrayRef expected) {
  SPARSETRAIN_CHECK(grad_output.sym_sizes() == expected, ValueError, "conv2d_backward",
                    "grad_output", expected, grad_output.sym_sizes());
  SPARSETRAIN_CHECK(grad_output.scalar_type() == input.scalar_type(), TypeError, "conv2d_backward",
                    "grad_output", c10::str(input.scalar_type(), " like input"),
                    grad_output.scalar_type());
  SPARSETRAIN_CHECK(grad_output.device() == input.device(), ValueError, "conv2d_backward",
                    "grad_output", c10::str("on ", input.device(), " like input"),
                    grad_output.device());
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
