// The checks of a convolution call, and what follows from its arguments.
#include "conv_call.h"

#include "checks.h"

namespace sparsetrain {
namespace {

// Numbers below 2^31 can be multiplied with each other in 64 bits.
void check_pair(const char* op, const char* what, c10::SymIntArrayRef pair, int64_t least) {
  constexpr int64_t kLimit = int64_t{1} << 31;
  SPARSETRAIN_CHECK(pair.size() == 2 && pair[0] >= least && pair[1] >= least && pair[0] < kLimit &&
                        pair[1] < kLimit,
                    ValueError, op, what,
                    c10::str("two integers of at least ", least, " and below 2^31"), pair);
}

Backend parse_backend(const char* op, std::string_view name, const at::Tensor& input) {
  if (name == "auto") return Backend::kAuto;
  if (name == "sparse") return Backend::kSparse;
  if (name == "dense") return Backend::kDense;
  SPARSETRAIN_CHECK(name == "cusparse", ValueError, op, "backend",
                    "one of 'auto', 'sparse', 'dense', 'cusparse'", "'", name, "'");
  SPARSETRAIN_CHECK(!input.is_cpu(), ValueError, op, "backend",
                    "one of 'auto', 'sparse', 'dense' on the CPU", "'cusparse'",
                    ". It is for CUDA tensors");
  return Backend::kCusparse;
}

// bias or grad_output: type and device are those of input.
void check_like_input(const char* op, const char* what, const at::Tensor& t,
                      const at::Tensor& input) {
  SPARSETRAIN_CHECK(t.scalar_type() == input.scalar_type(), TypeError, op, what,
                    c10::str(input.scalar_type(), " like input"), t.scalar_type());
  SPARSETRAIN_CHECK(t.device() == input.device(), ValueError, op, what,
                    c10::str("on ", input.device(), " like input"), t.device());
}

void check_operands(const char* op, const ConvCall& c) {
  const at::Tensor &input = c.input, &weight = c.weight;
  check_floating(op, "input", input);
  SPARSETRAIN_CHECK(input.dim() == 3 || input.dim() == 4, ValueError, op, "input",
                    "[N, C, H, W] or [C, H, W]", input.sym_sizes());
  SPARSETRAIN_CHECK(weight.dim() == 4, ValueError, op, "weight", "[K, C/groups, R, S]",
                    weight.sym_sizes());
  check_like_input(op, "weight", weight, input);
  check_pair(op, "stride", c.stride, 1);
  check_pair(op, "padding", c.padding, 0);
  check_pair(op, "dilation", c.dilation, 1);
  const auto sizes = weight.sym_sizes();
  const auto channels = input.sym_size(-3);
  SPARSETRAIN_CHECK(c.groups >= 1, ValueError, op, "groups", "at least 1", c.groups);
  SPARSETRAIN_CHECK(channels % c.groups == 0, ValueError, op, "groups",
                    c10::str("a divisor of the ", channels, " input channels"), c.groups);
  SPARSETRAIN_CHECK(sizes[0] % c.groups == 0, ValueError, op, "groups",
                    c10::str("a divisor of the ", sizes[0], " output channels"), c.groups);
  SPARSETRAIN_CHECK(sizes[1] == channels / c.groups, ValueError, op, "weight",
                    c10::str("[K, ", channels / c.groups, ", R, S] (input channels / groups)"),
                    sizes);
  SPARSETRAIN_CHECK(sizes[0] >= 1 && sizes[1] >= 1 && sizes[2] >= 1 && sizes[3] >= 1, ValueError,
                    op, "weight", "without an empty dimension", sizes);
  check_pair(op, "the kernel", sizes.slice(2), 1);
}

// The sizes of y, of operands that passed check_operands().
c10::SymDimVector checked_output_size(const char* op, const ConvCall& c) {
  const auto sizes = c.input.sym_sizes();
  c10::SymDimVector output(sizes.begin(), sizes.end());
  const size_t rank = output.size();
  output[rank - 3] = c.weight.sym_size(0);
  for (size_t i = 0; i < 2; ++i) {
    const auto& extent = sizes[rank - 2 + i];
    const auto padded = extent + c.padding[i] * 2;
    const auto kernel = c.dilation[i] * (c.weight.sym_sizes()[2 + i] - 1) + 1;
    SPARSETRAIN_CHECK(extent >= 1 && padded >= kernel, ValueError, op,
                      i == 0 ? "the height of input" : "the width of input",
                      c10::str("at least the kernel's ", kernel, " after padding"),
                      c10::str(extent, " + 2 * ", c.padding[i]));
    output[rank - 2 + i] = (padded - kernel) / c.stride[i] + 1;
  }
  return output;
}

}  // namespace

void ConvCall::check(const char* op) {
  backend = parse_backend(op, backend_name, input);
  check_density(op, "input_density", input_density, input);
  check_density(op, "grad_density", grad_density, input);
  check_operands(op, *this);
  if (bias) {
    const auto channels = weight.sym_size(0);
    SPARSETRAIN_CHECK(bias->dim() == 1 && bias->sym_size(0) == channels, ValueError, op, "bias",
                      c10::str("[", channels, "]"), bias->sym_sizes());
    check_like_input(op, "bias", *bias, input);
  }
  output_size = checked_output_size(op, *this);
}

void ConvBackwardCall::check() {
  constexpr const char* op = "conv2d_backward";
  ConvCall::check(op);
  SPARSETRAIN_CHECK(grad_output.sym_sizes() == output_size, ValueError, op, "grad_output",
                    c10::SymIntArrayRef(output_size), grad_output.sym_sizes());
  check_like_input(op, "grad_output", grad_output, input);
}

ConvShape ConvCall::shape() const {
  const auto number = [](const c10::SymInt& n) { return n.guard_int(__FILE__, __LINE__); };
  const auto x = C10_AS_INTARRAYREF_SLOW(input.sym_sizes());
  const auto w = C10_AS_INTARRAYREF_SLOW(weight.sym_sizes());
  const size_t rank = x.size();
  return {.N = rank == 4 ? x[0] : 1,
          .C = x[rank - 3],
          .H = x[rank - 2],
          .W = x[rank - 1],
          .K = w[0],
          .R = w[2],
          .S = w[3],
          .stride_h = number(stride[0]),
          .stride_w = number(stride[1]),
          .pad_h = number(padding[0]),
          .pad_w = number(padding[1]),
          .dilation_h = number(dilation[0]),
          .dilation_w = number(dilation[1]),
          .groups = number(groups)};
}

at::MemoryFormat ConvCall::format() const {
  const bool channels_last =
      input.dim() == 4 && (input.suggest_memory_format() == at::MemoryFormat::ChannelsLast ||
                           weight.suggest_memory_format() == at::MemoryFormat::ChannelsLast);
  return channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

std::string_view name_of(Backend backend) {
  constexpr std::string_view kNames[] = {"auto", "sparse", "dense", "cusparse"};
  return kNames[static_cast<int>(backend)];
}

DType dtype_of(const at::Tensor& t) {
  switch (t.scalar_type()) {
    case at::kDouble:
      return DType::kFloat64;
    case at::kBFloat16:
      return DType::kBFloat16;
    case at::kHalf:
      return DType::kFloat16;
    default:
      return DType::kFloat32;
  }
}

}  // namespace sparsetrain
