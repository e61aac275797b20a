// Chooses the instruction set at run time (see api.h): the best one that processor and operating
// system support, or a lower one that SPARSETRAIN_ISA names.
#include <cstdlib>
#include <cstring>

#include "tables.h"

namespace sparsetrain {
namespace {

constexpr const char* kNames[] = {"scalar", "avx2", "avx512"};  // in the order of Isa

}  // namespace

Isa best_isa() {
  if (supported(Isa::kAvx512)) return Isa::kAvx512;
  return supported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kScalar;
}

// __builtin_cpu_supports() also checks, by XGETBV, that the operating system saves the registers.
bool supported(Isa isa) {
#if defined(__x86_64__)
#ifdef __clang__
  const bool f16c = true;  // clang 14 cannot test for F16C; every processor with AVX2 has it
#else
  const bool f16c = __builtin_cpu_supports("f16c");
#endif
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c &&
                    __builtin_cpu_supports("bmi2");
  if (isa == Isa::kAvx2) return avx2;
  if (isa == Isa::kAvx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  }
#endif
  return isa == Isa::kScalar;
}

Isa current_isa(const char** unknown) {
  const Isa best = best_isa();
  const char* name = std::getenv("SPARSETRAIN_ISA");
  if (!name || !*name) return best;
  for (int i = 0; i < 3; ++i) {
    if (std::strcmp(name, kNames[i]) == 0) {
      const Isa isa = static_cast<Isa>(i);
      return static_cast<int>(isa) < static_cast<int>(best) ? isa : best;
    }
  }
  if (unknown) *unknown = name;
  return best;
}

template <>
const Kernels<float>& kernels<float>(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kAvx512Float;
  if (isa == Isa::kAvx2) return kAvx2Float;
#endif
  return kScalarFloat;
}

template <>
const Kernels<BFloat16>& kernels<BFloat16>(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kAvx512BFloat16;
  if (isa == Isa::kAvx2) return kAvx2BFloat16;
#endif
  return kScalarBFloat16;
}

template <>
const Kernels<Half>& kernels<Half>(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kAvx512Half;
  if (isa == Isa::kAvx2) return kAvx2Half;
#endif
  return kScalarHalf;
}

template <>
const Kernels<double>& kernels<double>(Isa) {
  return kScalarDouble;
}

}  // namespace sparsetrain
