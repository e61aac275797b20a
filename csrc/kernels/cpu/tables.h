// The tables of functions of each instruction set (scalar.cpp, avx2.cpp, avx512.cpp), from which
// dispatch.cpp chooses.
#pragma once

#include "api.h"

namespace sparsetrain {

extern const Kernels<float> kScalarFloat;
extern const Kernels<BFloat16> kScalarBFloat16;
extern const Kernels<Half> kScalarHalf;
extern const Kernels<double> kScalarDouble;

#if defined(__x86_64__)
extern const Kernels<float> kAvx2Float, kAvx512Float;
extern const Kernels<BFloat16> kAvx2BFloat16, kAvx512BFloat16;
extern const Kernels<Half> kAvx2Half, kAvx512Half;
#endif

}  // namespace sparsetrain
