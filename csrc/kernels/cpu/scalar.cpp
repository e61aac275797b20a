// The kernels for processors without AVX2, and for double on all processors. Tables for
// dispatch.cpp.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "inline.h"
#include "tables.h"

namespace sparsetrain::scalar_float {
using Number = float;
// clang-format off: in this order
#include "unroll.inl"
#include "vector_scalar.inl"
#include "all.inl"
// clang-format on
}  // namespace sparsetrain::scalar_float

namespace sparsetrain::scalar_double {
using Number = double;
// clang-format off: in this order
#include "unroll.inl"
#include "vector_scalar.inl"
#include "all.inl"
// clang-format on
}  // namespace sparsetrain::scalar_double

namespace sparsetrain {

const Kernels<float> kScalarFloat = scalar_float::make_table<float>("scalar");
const Kernels<BFloat16> kScalarBFloat16 = scalar_float::make_table<BFloat16>("scalar");
const Kernels<Half> kScalarHalf = scalar_float::make_table<Half>("scalar");
const Kernels<double> kScalarDouble = scalar_double::make_table<double>("scalar");

}  // namespace sparsetrain
