// Everything that is written once over a vector type. The includer has opened a
// namespace of its own, inside a target region where the ISA needs one, and defined Vector.
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
