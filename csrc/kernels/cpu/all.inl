// The kernels that are written once for every vector type. The including file defines Vector
// before, in a namespace of its own and, for SIMD instruction sets, inside a target region.
using Scalar = Vector::Scalar;
using Reg = Vector::Reg;

// clang-format off: in order of use
#include "copy.inl"
#include "compress.inl"
#include "pack_weights.inl"
#include "scatter.inl"
#include "grad_weight.inl"
#include "bias_grad.inl"
#include "table.inl"
// clang-format on
