// The kernels for AVX-512 (F, DQ, BW, VL). Tables for dispatch.cpp and prune.cpp.
//
// The target is set by pragmas around the kernels, never by build flags. With -mavx512f for this
// file the linker could keep an AVX-512 copy of a shared inline function for the whole program.
// Headers with inline functions are therefore included before the target region.
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
#pragma clang attribute push(                                                               \
    __attribute__((                                                                         \
        target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c,bmi,bmi2,popcnt,lzcnt"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c,bmi,bmi2,popcnt,lzcnt")
#endif

namespace sparsetrain::avx512 {
// clang-format off: in this order
#include "unroll.inl"
#include "vector_avx512.inl"
#include "all.inl"
#include "prune.inl"
// clang-format on
}  // namespace sparsetrain::avx512

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace sparsetrain {

const PruneTable kAvx512Prune = {avx512::prune_chunks_of<float>, avx512::prune_chunks_of<BFloat16>,
                                 avx512::prune_chunks_of<Half>};
const Kernels<float> kAvx512Float = avx512::make_table<float>("avx512");
const Kernels<BFloat16> kAvx512BFloat16 = avx512::make_table<BFloat16>("avx512");
const Kernels<Half> kAvx512Half = avx512::make_table<Half>("avx512");

}  // namespace sparsetrain

#endif
