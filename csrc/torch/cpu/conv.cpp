// The implementations of a convolution on the CPU, in order: the sparse kernels, then ATen.
#include <ATen/ops/aminmax.h>
#include <ATen/ops/as_strided.h>
#include <torch/library.h>

#include <cmath>
#include <initializer_list>

#include "../checks.h"
#include "../density.h"
#include "../memory.h"
#include "../passes.h"
#include "aten_conv.h"
#include "sparse_conv.h"

namespace sparsetrain {
namespace {

// The share of nonzeros in about 128 runs of 32 elements, which are evenly spread over the memory
// of the tensor. Equal tensors give equal shares.
template <class T>
double sampled_density(const T* data, int64_t n) {
  constexpr int64_t kRuns = 128, kRun = 32;
  // An odd step, so that runs do not meet the same channels or columns in every image.
  const int64_t step = std::max<int64_t>(n / kRuns, kRun) | 1;
  int64_t sampled = 0, nonzeros = 0;
  for (int64_t begin = 0; begin < n; begin += step) {
    const int64_t end = std::min(begin + kRun, n);
    int found = 0;  // 32 bits, so that the compiler uses vectors
    for (int64_t i = begin; i < end; ++i) found += Storage<T>::load(data[i]) != 0;
    nonzeros += found;
    sampled += end - begin;
  }
  return sampled ? static_cast<double>(nonzeros) / static_cast<double>(sampled) : 0;
}

// The density of an operand: the one that the caller knows, else a sample, taken when first needed.
class OperandDensity {
 public:
  OperandDensity(const at::Tensor& operand, const std::optional<at::Tensor>& known)
      : operand_(operand), density_(density_in(known)) {}

  double operator()() {
    if (!(density_ >= 0 && density_ <= 1)) density_ = sample();
    return density_;
  }

 private:
  double sample() const {
    const at::Tensor dense = in_one_piece(operand_);
    double density = 0;
    for_storage(dense, [&](auto storage) {
      using T = decltype(storage);
      density = sampled_density(static_cast<const T*>(dense.const_data_ptr()), dense.numel());
    });
    return density;
  }

  const at::Tensor& operand_;
  double density_;
};

// Whether no operand holds an Inf or a NaN: then the extremes of an operand are finite.
bool all_finite(std::initializer_list<at::Tensor> operands) {
  for (const at::Tensor& operand : operands) {
    if (!operand.defined() || operand.numel() == 0) continue;
    const at::Tensor dense = in_one_piece(operand);
    // One dimension in memory order, because aminmax copies other tensors.
    const auto [low, high] =
        at::aminmax(at::as_strided(dense, {dense.numel()}, {1}, dense.storage_offset()));
    if (!std::isfinite(low.item<double>()) || !std::isfinite(high.item<double>())) return false;
  }
  return true;
}

// Sets `plan` if the sparse kernels run the pass; *skips_input_zeros is as in Choice. Densities are
// asked for only where they decide. They do not if the pass is dense even without a nonzero, or if
// sparse is asked for and only the zeros of one operand can be skipped.
void decide(const Passes& passes, Pass pass, const CpuSetting& setting, OperandDensity& x_density,
            OperandDensity& dy_density, std::optional<PassPlan>& plan, bool* skips_input_zeros) {
  const Backend backend = passes.call.backend;
  const Call call{passes.shape, pass, dtype_of(passes.x)};
  if (backend == Backend::kAuto && unsuited(call, setting)) return;
  plan.emplace(call, setting);
  const bool either = plan->may_skip_input_zeros();
  if (backend == Backend::kSparse && !either) return;
  if (plan->choose(backend, {.input = 0, .grad = 0}).backend == Backend::kDense) {
    return plan.reset();
  }
  const bool forward = pass == Pass::kForward;
  const Choice choice = plan->choose(
      backend, {.input = forward || either ? x_density() : 1, .grad = forward ? 1 : dy_density()});
  if (choice.backend == Backend::kDense) return plan.reset();
  *skips_input_zeros = choice.skips_input_zeros;
}

// Accepts what is asked for or predicted to be faster, unless an Inf or a NaN forbids skipping
// zeros.
void run_sparse(Passes& p) {
  const ConvCall& call = p.call;
  if (call.backend == Backend::kDense) return;
  // Looking at densities and computing would otherwise copy such operands once each.
  for (at::Tensor* t : {&p.x, &p.dy}) {
    if (t->defined() && !t->is_non_overlapping_and_dense()) {
      *t = t->contiguous(t->suggest_memory_format());
    }
  }
  if (call.check_finite && !all_finite({p.dy, p.x, p.w})) return;
  const CpuSetting& setting = checked_cpu_setting("conv2d");
  OperandDensity x_density(p.x, call.input_density), dy_density(p.dy, call.grad_density);
  std::optional<PassPlan> forward, input, weight;
  bool skips_input_zeros = false;
  for (auto [pass, plan] : {std::pair(Pass::kForward, &forward),
                            {Pass::kGradInput, &input},
                            {Pass::kGradWeight, &weight}}) {
    if (p.pending(pass)) {
      decide(p, pass, setting, x_density, dy_density, *plan, &skips_input_zeros);
    }
  }
  if (forward) sparse_forward(p, forward->scatter(), setting);
  if (input || weight) {
    sparse_backward(p, input ? &input->scatter() : nullptr,
                    weight ? &weight->grad_weight(skips_input_zeros) : nullptr, setting);
  }
  // ATen sums the bias's gradient where only ATen runs, so that backend "dense" is torch's to the
  // last bit.
  if (p.grad_bias_pending() && (input || weight || call.backend == Backend::kSparse)) {
    sparse_grad_bias(p, setting);
  }
}

void run_aten(Passes& p) { run_dense(p, aten_forward, aten_backward); }

bool is_plain(const ConvCall& call, const ConvShape& shape) {
  if (!right_as_it_is(shape, call.input, call.weight)) return false;
  if (call.backend == Backend::kDense) return true;
  const CpuSetting& setting = cpu_setting();
  for (const Pass pass : {Pass::kForward, Pass::kGradInput, Pass::kGradWeight}) {
    if (!unsuited({shape, pass, dtype_of(call.input)}, setting)) return false;
  }
  return true;
}

const ConvDevice kCpu{{run_sparse, run_aten}, is_plain};
const bool registered = (register_conv_device(c10::kCPU, &kCpu), true);

at::Tensor conv2d(const ConvCall& call, c10::DispatchKeySet) { return run_conv2d(call, kCpu); }
std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward(const ConvBackwardCall& call,
                                                               c10::DispatchKeySet) {
  return run_conv2d_backward(call, kCpu);
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, CPU, m) {
  m.impl("conv2d", sparsetrain::Conv2dKernel<sparsetrain::conv2d>::call);
  m.impl("conv2d_backward", sparsetrain::Conv2dBackwardKernel<sparsetrain::conv2d_backward>::call);
}
