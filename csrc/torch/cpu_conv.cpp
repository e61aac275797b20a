// The convolution on the CPU: sparse where choose() says so, else ATen's.
#include <ATen/Parallel.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "../kernels/rows.h"
#include "checks.h"
#include "memory.h"

namespace sparsetrain {
namespace {

// One call's geometry, batched.
struct Geometry {
  ConvShape shape;
  at::IntArrayRef stride, padding, dilation;
};

Geometry geometry(const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef stride,
                  at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  const ConvShape s{.N = input.size(0),
                    .C = input.size(1),
                    .H = input.size(2),
                    .W = input.size(3),
                    .K = weight.size(0),
                    .R = weight.size(2),
                    .S = weight.size(3),
                    .stride_h = stride[0],
                    .stride_w = stride[1],
                    .pad_h = padding[0],
                    .pad_w = padding[1],
                    .dilation_h = dilation[0],
                    .dilation_w = dilation[1],
                    .groups = groups};
  return {s, stride, padding, dilation};
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

// Share of nonzeros in up to 128 runs of 64 elements, evenly spread over the tensor's storage:
// cheap, and the same for the same tensor.
double estimate_density(const at::Tensor& t) {
  constexpr int64_t kRuns = 128, kRun = 64;
  const at::Tensor dense = dense_storage(t);
  const int64_t n = dense.numel();
  if (n == 0) return 0;
  const auto* data = dense.const_data_ptr<float>();
  const int64_t step = std::max<int64_t>(n / kRuns, kRun);
  int64_t seen = 0, nonzeros = 0;
  for (int64_t begin = 0; begin < n; begin += step) {
    const int64_t end = std::min(begin + kRun, n);
    for (int64_t i = begin; i < end; ++i) nonzeros += data[i] != 0;
    seen += end - begin;
  }
  return static_cast<double>(nonzeros) / static_cast<double>(seen);
}

bool run_sparse(const Geometry& g, Pass pass, const at::Tensor& operand, Backend wanted) {
  if (wanted != Backend::kAuto) return wanted == Backend::kSparse;
  const DType dtype = dtype_of(operand);
  if (dtype != DType::kFloat32) return false;
  const bool channels_last = operand.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  const Call call{g.shape, pass, dtype, channels_last, estimate_density(operand)};
  return choose(call, wanted, kDefaultCosts).backend == Backend::kSparse;
}

// What ATen's CPU convolutions can be given. torch 2.15 returns wrong gradients, or writes out of
// bounds, for grouped channels_last weights and for channels_last 1x1 kernels with unequal strides.
bool aten_needs_contiguous(const Geometry& g) {
  const ConvShape& s = g.shape;
  return s.groups > 1 || (s.R == 1 && s.S == 1 && s.stride_h != s.stride_w);
}

// The row kernels compute in float32 or float64.
at::Tensor computable(const at::Tensor& t) {
  return t.scalar_type() == at::kDouble ? t : t.to(at::kFloat);
}

template <class T>
Dense<T> view(const at::Tensor& t) {
  return {t.const_data_ptr<T>(), {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}};
}

// The compressed rows of a tensor [A,B,height,width] and the memory they lie in.
template <class T>
struct Compressed {
  at::Tensor value, column, count;
  Rows<T> rows;

  explicit Compressed(const at::Tensor& t)
      : value(at::empty({t.numel()}, t.options())),
        column(at::empty({t.numel()}, t.options().dtype(at::kInt))),
        count(
            at::empty({t.numel() / std::max<int64_t>(t.size(3), 1)}, t.options().dtype(at::kInt))),
        rows{value.mutable_data_ptr<T>(), column.mutable_data_ptr<int32_t>(),
             count.mutable_data_ptr<int32_t>(), t.size(3)} {
    at::parallel_for(0, count.numel(), 16, [&](int64_t first, int64_t last) {
      compress_rows(view<T>(t), t.size(1), t.size(2), first, last, rows);
    });
  }
};

template <class F>
auto for_compute(const at::Tensor& t, F f) {
  return t.scalar_type() == at::kDouble ? f(double{}) : f(float{});
}

at::Tensor forward_sparse(const Geometry& g, const at::Tensor& input, const at::Tensor& weight,
                          const std::optional<at::Tensor>& bias) {
  const ConvShape& s = g.shape;
  const at::Tensor x = computable(input), w = computable(weight).contiguous();
  const at::Tensor b = bias ? computable(*bias).contiguous() : at::Tensor();
  at::Tensor y = at::empty({s.N, s.K, s.P(), s.Q()}, x.options());
  for_compute(x, [&](auto zero) {
    using T = decltype(zero);
    const Compressed<T> rows(x);
    at::parallel_for(0, s.N * s.K, 1, [&](int64_t first, int64_t last) {
      forward_rows(s, rows.rows, w.const_data_ptr<T>(),
                   b.defined() ? b.const_data_ptr<T>() : nullptr, first, last,
                   y.mutable_data_ptr<T>());
    });
  });
  return y.to(input.scalar_type());
}

// Both gradients from one compression of dy; an undefined tensor where none is wanted.
std::pair<at::Tensor, at::Tensor> backward_sparse(const Geometry& g, const at::Tensor& grad_output,
                                                  const at::Tensor& input, const at::Tensor& weight,
                                                  bool want_input, bool want_weight) {
  const ConvShape& s = g.shape;
  const at::Tensor dy = computable(grad_output), x = computable(input);
  const at::Tensor w = computable(weight).contiguous();
  at::Tensor dx, dw;
  for_compute(dy, [&](auto zero) {
    using T = decltype(zero);
    const Compressed<T> rows(dy);
    if (want_input) {
      dx = at::empty({s.N, s.C, s.H, s.W}, dy.options());
      at::parallel_for(0, s.N * s.C, 1, [&](int64_t first, int64_t last) {
        grad_input_rows(s, rows.rows, w.const_data_ptr<T>(), first, last, dx.mutable_data_ptr<T>());
      });
    }
    if (want_weight) {
      dw = at::empty({s.K, s.C / s.groups, s.R, s.S}, dy.options());
      at::parallel_for(0, s.K * (s.C / s.groups), 1, [&](int64_t first, int64_t last) {
        grad_weight_rows(s, rows.rows, view<T>(x), first, last, dw.mutable_data_ptr<T>());
      });
    }
  });
  const auto restore = [&](const at::Tensor& t) {
    return t.defined() ? t.to(input.scalar_type()) : t;
  };
  return {restore(dx), restore(dw)};
}

at::Tensor batch(const at::Tensor& t) { return t.dim() == 3 ? t.unsqueeze(0) : t; }

at::Tensor conv2d_cpu(const at::Tensor& input, const at::Tensor& weight,
                      const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                      at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                      std::string_view backend) {
  const Backend wanted = parse_backend("conv2d", backend);
  check_conv2d("conv2d", input, weight, c10::fromIntArrayRefSlow(stride),
               c10::fromIntArrayRefSlow(padding), c10::fromIntArrayRefSlow(dilation), groups);
  if (bias) check_bias(*bias, input, weight);
  output_size("conv2d", input, weight, c10::fromIntArrayRefSlow(stride),
              c10::fromIntArrayRefSlow(padding), c10::fromIntArrayRefSlow(dilation));
  const auto format = output_format(input, weight);
  at::Tensor x = batch(input), w = weight, y;
  const Geometry g = geometry(x, w, stride, padding, dilation, groups);
  if (run_sparse(g, Pass::kForward, x, wanted)) {
    y = forward_sparse(g, x, w, bias);
  } else {
    if (aten_needs_contiguous(g)) x = x.contiguous(), w = w.contiguous();
    y = at::convolution(x, w, bias, stride, padding, dilation, false, {0, 0}, groups);
  }
  return input.dim() == 3 ? y.squeeze(0).contiguous() : y.contiguous(format);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_backward_cpu(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
    std::array<bool, 3> output_mask, std::string_view backend) {
  const Backend wanted = parse_backend("conv2d_backward", backend);
  const auto sym_stride = c10::fromIntArrayRefSlow(stride);
  const auto sym_padding = c10::fromIntArrayRefSlow(padding);
  const auto sym_dilation = c10::fromIntArrayRefSlow(dilation);
  check_conv2d("conv2d_backward", input, weight, sym_stride, sym_padding, sym_dilation, groups);
  check_grad_output(
      grad_output, input,
      output_size("conv2d_backward", input, weight, sym_stride, sym_padding, sym_dilation));
  const auto format = output_format(input, weight);
  at::Tensor dy = batch(grad_output), x = batch(input), w = weight;
  const Geometry g = geometry(x, w, stride, padding, dilation, groups);
  const bool sparse_input = output_mask[0] && run_sparse(g, Pass::kGradInput, dy, wanted);
  const bool sparse_weight = output_mask[1] && run_sparse(g, Pass::kGradWeight, dy, wanted);
  at::Tensor dx, dw, db;
  if (sparse_input || sparse_weight) {
    std::tie(dx, dw) = backward_sparse(g, dy, x, w, sparse_input, sparse_weight);
  }
  const bool dense_input = output_mask[0] && !sparse_input;
  const bool dense_weight = output_mask[1] && !sparse_weight;
  // ATen's own sum where ATen runs, so that backend "dense" is torch's convolution to the last bit.
  const bool dense_bias = output_mask[2] && !sparse_input && !sparse_weight;
  if (dense_input || dense_weight || dense_bias) {
    if (aten_needs_contiguous(g)) {
      dy = dy.contiguous(), x = x.contiguous(), w = w.contiguous();
    }
    const std::array<bool, 3> mask{dense_input, dense_weight, dense_bias};
    auto [dense_dx, dense_dw, dense_db] =
        at::convolution_backward(dy, x, w, at::IntArrayRef({g.shape.K}), stride, padding, dilation,
                                 false, {0, 0}, groups, mask);
    if (dense_input) dx = dense_dx;
    if (dense_weight) dw = dense_dw;
    if (dense_bias) db = dense_db;
  }
  if (output_mask[2] && !dense_bias) db = dy.sum({0, 2, 3});
  const auto none = [&] { return at::empty({0}, weight.options()); };
  if (dx.defined()) dx = input.dim() == 3 ? dx.squeeze(0).contiguous() : dx.contiguous(format);
  if (dw.defined()) dw = dw.contiguous(format);
  return {dx.defined() ? dx : none(), dw.defined() ? dw : none(), db.defined() ? db : none()};
}

}  // namespace
}  // namespace sparsetrain

TORCH_LIBRARY_IMPL(sparsetrain, CPU, m) {
  m.impl("conv2d", sparsetrain::conv2d_cpu);
  m.impl("conv2d_backward", sparsetrain::conv2d_backward_cpu);
}
