// The kernels for AVX2, FMA and F16C. Tables for dispatch.cpp and prune.cpp.
//
// The target is set by pragmas around the kernels, never by build flags. With -mavx2 for this file
// the linker could keep an AVX2 copy of a shared inline function for the whole program. Headers
// with inline functions are therefore included before the target region.
#include "prune_table.h"
#include "tables.h"

#if defined(__x86_64__)

// GCC 12 warns about undefined pass-through operands inside its own intrinsics (GCC bug 105593).
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <algorithm>
#include <type_traits>

#include "inline.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt,lzcnt"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,popcnt,lzcnt")
#endif

namespace sparsetrain::avx2 {
// clang-format off: in this order
#include "unroll.inl"
#include "vector_avx2.inl"
#include "all.inl"
#include "prune.inl"
// clang-format on
}  // namespace sparsetrain::avx2

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace sparsetrain {

const PruneTable kAvx2Prune = {avx2::prune_chunks_of<float>, avx2::prune_chunks_of<BFloat16>,
                               avx2::prune_chunks_of<Half>};
const Kernels<float> kAvx2Float = avx2::make_table<float>("avx2");
const Kernels<BFloat16> kAvx2BFloat16 = avx2::make_table<BFloat16>("avx2");
const Kernels<Half> kAvx2Half = avx2::make_table<Half>("avx2");

}  // namespace sparsetrain

#endif
