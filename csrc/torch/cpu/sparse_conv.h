// The sparse CPU convolutions on tensors: memory and threads for the kernels of csrc/kernels/cpu.
// cpu/conv.cpp calls them with plans that it made to choose.
#pragma once

#include "../passes.h"

namespace sparsetrain {

// Each function computes results of `passes` in the call's memory format, of operands with any
// strides. Any floating type.

// y, skipping the zeros of x.
void sparse_forward(Passes& passes, const ScatterPlan& plan, const CpuSetting& setting);

// dx if there is a plan for it, skipping the zeros of dy; dw if there is one for it, skipping the
// zeros of x if the plan is swapped, else of dy.
//
// Each gradient compresses dy into lists of its own, per pixel and per channel. One compression for
// both was slower: channel lists made from pixel lists take an append per nonzero, 3.5 to 7 ns
// each, while block transposes of the dense tensor make them at .28 ns per element (Zen 4), even at
// density .1.
void sparse_backward(Passes& passes, const ScatterPlan* input_plan,
                     const GradWeightPlan* weight_plan, const CpuSetting& setting);

// The gradient of the bias [K]: the sums of dy's channels, each in one order. The order of at::sum
// depends on the number of threads.
void sparse_grad_bias(Passes& passes, const CpuSetting& setting);

}  // namespace sparsetrain
