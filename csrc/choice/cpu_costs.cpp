// The cost tables that ship, one for each instruction set, and the setting in force.
//
// `python -m sparsetrain tune` fitted the tables: on one thread of a Zen 4 at 3.7 GHz, oneDNN held
// to the same instruction set, to shapes that no benchmark contains. The table for processors with
// AMX was fitted in the same way on one thread of an Emerald Rapids Xeon. A choice depends on the
// ratio of sparse to dense costs, which differs less between processors than the costs do.
// A dense call was fitted with AVX-512 only, minus the 6 us that calls of `tune` take themselves.
// Bfloat16 with AMX was fitted to the shapes that `tune` has today, all else to shapes whose
// numbers of channels lie between the powers of two.
#include "cpu_costs.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sparsetrain {
namespace {

//                dense: mac   element  call  sparse: vector  visit  list  copy
constexpr Costs kScalar{{{0.0454, 0.00, 30e3, 0.254, 2.04, 0.00, 0.98},
                         {0.0505, 0.00, 34e3, 0.272, 5.19, 2.11, 0.33},
                         {0.0517, 0.00, 48e3, 0.726, 5.42, 0.48, 2.17}}};
constexpr Costs kAvx2{{{0.0178, 0.37, 30e3, 0.203, 0.00, 0.41, 0.94},
                       {0.0184, 0.24, 34e3, 0.200, 0.00, 0.91, 0.76},
                       {0.0247, 0.04, 48e3, 0.227, 1.01, 0.47, 0.31}}};
constexpr Costs kAvx512{{{0.0167, 0.28, 30e3, 0.357, 1.61, 0.24, 0.22},
                         {0.0168, 0.33, 34e3, 0.353, 0.45, 0.43, 0.36},
                         {0.0196, 0.06, 48e3, 0.368, 0.67, 0.26, 0.20}}};
constexpr Costs kAvx512BFloat16{{{0.0086, 0.09, 30e3, 0.355, 0.86, 0.21, 0.33},
                                 {0.0089, 0.07, 34e3, 0.351, 1.31, 0.28, 0.21},
                                 {0.0105, 0.08, 48e3, 0.362, 0.88, 0.22, 0.18}}};
constexpr Costs kAmx{{{0.0146, 0.58, 45e3, 0.374, 3.35, 1.00, 0.10},
                      {0.0145, 0.66, 38e3, 0.350, 5.48, 0.37, 0.34},
                      {0.0175, 0.27, 57e3, 0.345, 1.60, 0.49, 0.49}}};
constexpr Costs kAmxBFloat16{{{0.0021, 0.07, 52e3, 0.344, 5.20, 0.30, 0.03},
                              {0.0019, 0.09, 52e3, 0.316, 5.82, 0.53, 0.00},
                              {0.0064, 0.00, 60e3, 0.333, 2.43, 0.47, 0.10}}};

// A dense grad_weight takes 500 times as long in float16 as in float32, 8.7 ns per multiply-add.
// The sparse kernels are faster at any density.
constexpr Costs kAmxFloat16{{{0.0280, 0.48, 111e3, 0.417, 1.93, 0.73, 0.65},
                             {0.0293, 0.36, 121e3, 0.392, 3.16, 0.35, 0.75},
                             {8.7, 0.00, 101e3, 0.387, 1.09, 0.47, 0.51}}};

// Dense 16-bit convolutions either have instructions of their own or convert to float32 and back.
// The first three tables assume instructions for bfloat16 and float16 besides AVX-512, and
// conversion at no cost besides AVX2. On other processors `auto` runs dense too often until `tune`
// has been run.
constexpr CostTable kTables[] = {{kScalar, kScalar, kScalar},
                                 {kAvx2, kAvx2, kAvx2},
                                 {kAvx512, kAvx512BFloat16, kAvx512BFloat16}};
constexpr CostTable kAmxTable{kAmx, kAmxBFloat16, kAmxFloat16};

// Whether oneDNN multiplies bfloat16 by tiles: leaf 7 of CPUID has the instructions, and XCR0 says
// that the operating system saves their registers. Call it only where AVX-512 runs, because XGETBV
// exists there. The asm statement is for clang 14, which has no intrinsic for XGETBV.
bool has_amx() {
#if defined(__x86_64__)
  constexpr unsigned kMultiplies = 1u << 22 | 1u << 24;  // AMX-BF16 and AMX-TILE
  constexpr unsigned kSaved = 1u << 17 | 1u << 18;       // TILECFG and TILEDATA of XCR0
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kMultiplies) != kMultiplies) return false;
  asm("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (a & kSaved) == kSaved;
#else
  return false;
#endif
}

// Null until the first call of cpu_setting(). Settings that were replaced are never freed, because
// a call on another thread may still read them.
std::atomic<const CpuSetting*> in_force{nullptr};
std::mutex writers;
bool has_own_costs = false;  // guarded by writers

CpuSetting shipped_setting(Isa isa) {
  return {isa, kernels<float>(isa).vector, default_costs(isa), {}};
}

// The functions below need the lock on writers.

const CpuSetting& replace(const CpuSetting& setting) {
  const auto* added = new CpuSetting(setting);
  in_force.store(added, std::memory_order_release);
  return *added;
}

// The setting in force. Reads SPARSETRAIN_ISA if there is none, and if the name was unknown when it
// was last read: the caller may have corrected it since.
const CpuSetting& current_setting() {
  const CpuSetting* setting = in_force.load(std::memory_order_relaxed);
  if (setting && setting->unknown_isa.empty()) return *setting;
  const char* unknown = nullptr;
  CpuSetting next = shipped_setting(current_isa(&unknown));
  if (unknown) next.unknown_isa = unknown;
  if (setting && setting->unknown_isa == next.unknown_isa) return *setting;
  if (has_own_costs) next.costs = setting->costs;
  return replace(next);
}

}  // namespace

const CpuSetting& cpu_setting() {
  const auto* setting = in_force.load(std::memory_order_acquire);
  if (setting && setting->unknown_isa.empty()) return *setting;
  const std::lock_guard lock(writers);
  return current_setting();
}

const CostTable& default_costs(Isa isa) {
  if (isa == Isa::kAvx512) {
    static const bool amx = has_amx();
    if (amx) return kAmxTable;
  }
  return kTables[static_cast<int>(isa)];
}

void set_costs(const CostTable& table) {
  const std::lock_guard lock(writers);
  CpuSetting setting = current_setting();
  setting.costs = table;
  has_own_costs = true;
  replace(setting);
}

void set_isa(Isa isa) {
  const std::lock_guard lock(writers);
  CpuSetting setting = shipped_setting(std::min(isa, best_isa()));
  if (has_own_costs) setting.costs = current_setting().costs;
  replace(setting);
}

}  // namespace sparsetrain
