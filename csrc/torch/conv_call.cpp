#include "conv_call.h"

#include <ATen/ops/empty.h>

#include "checks.h"

namespace sparsetrain {

c10::SymDimVector check_forward(const at::Tensor& input, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
                                c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                                const c10::SymInt& groups) {
  check_conv2d("conv2d", input, weight, stride, padding, dilation, groups);
  if (bias) check_bias(*bias, input, weight);
  return output_size("conv2d", input, weight, stride, padding, dilation);
}

void check_backward(const at::Tensor& grad_output, const at::Tensor& input,
                    const at::Tensor& weight, c10::SymIntArrayRef stride,
                    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                    const c10::SymInt& groups) {
  check_conv2d("conv2d_backward", input, weight, stride, padding, dilation, groups);
  check_grad_output(grad_output, input,
                    output_size("conv2d_backward", input, weight, stride, padding, dilation));
}

ConvShape accept_forward(const at::Tensor& input, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                         at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  check_forward(input, weight, bias, c10::fromIntArrayRefSlow(stride),
                c10::fromIntArrayRefSlow(padding), c10::fromIntArrayRefSlow(dilation), groups);
  return shape_of(batch(input), weight, stride, padding, dilation, groups);
}

ConvShape accept_backward(const at::Tensor& grad_output, const at::Tensor& input,
                          const at::Tensor& weight, at::IntArrayRef stride, at::IntArrayRef padding,
                          at::IntArrayRef dilation, int64_t groups) {
  check_backward(grad_output, input, weight, c10::fromIntArrayRefSlow(stride),
                 c10::fromIntArrayRefSlow(padding), c10::fromIntArrayRefSlow(dilation), groups);
  return shape_of(batch(input), weight, stride, padding, dilation, groups);
}

at::Tensor as_called(const at::Tensor& result, const at::Tensor& input, at::MemoryFormat format) {
  return input.dim() == 3 ? result.squeeze(0).contiguous() : result.contiguous(format);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> as_called(const at::Tensor& dx, const at::Tensor& dw,
                                                         const at::Tensor& db,
                                                         const at::Tensor& input,
                                                         at::MemoryFormat format) {
  const auto none = [&] { return at::empty({0}, input.options()); };
  return {dx.defined() ? as_called(dx, input, format) : none(),
          dw.defined() ? dw.contiguous(format) : none(), db.defined() ? db : none()};
}

}  // namespace sparsetrain
