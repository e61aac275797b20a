// The read-only cost table that ships: one row per instruction set, fitted by `python -m
// sparsetrain tune` (one thread of a Zen 4 at 3.7 GHz, oneDNN held to the same instruction set) to
// shapes that no benchmark contains. What decides is the ratio of sparse to dense costs; it travels
// better than either. A dense call was fitted with AVX-512 only, less the 6 us of tune's own calls.
#include <array>
#include <atomic>

#include "choose.h"

namespace sparsetrain {
namespace {

//                dense: mac   element  call  sparse: vector  visit  list  copy
constexpr Costs kScalar{{4, 16, 4},
                        {{0.0454, 0.00, 30e3, 0.254, 2.04, 0.00, 0.98},
                         {0.0505, 0.00, 34e3, 0.272, 5.19, 2.11, 0.33},
                         {0.0517, 0.00, 48e3, 0.726, 5.42, 0.48, 2.17}}};
constexpr Costs kAvx2{{8, 16, 4},
                      {{0.0178, 0.37, 30e3, 0.203, 0.00, 0.41, 0.94},
                       {0.0184, 0.24, 34e3, 0.200, 0.00, 0.91, 0.76},
                       {0.0247, 0.04, 48e3, 0.227, 1.01, 0.47, 0.31}}};
constexpr Costs kAvx512{{16, 32, 4},
                        {{0.0167, 0.28, 30e3, 0.357, 1.61, 0.24, 0.22},
                         {0.0168, 0.33, 34e3, 0.353, 0.45, 0.43, 0.36},
                         {0.0196, 0.06, 48e3, 0.368, 0.67, 0.26, 0.20}}};
constexpr Costs kAvx512BFloat16{{16, 32, 4},
                                {{0.0086, 0.09, 30e3, 0.355, 0.86, 0.21, 0.33},
                                 {0.0089, 0.07, 34e3, 0.351, 1.31, 0.28, 0.21},
                                 {0.0105, 0.08, 48e3, 0.362, 0.88, 0.22, 0.18}}};

// Dense 16-bit convolutions are fast or emulated by turns, and these tables say nothing of the
// processor: they assume that it has bfloat16 and float16 beside AVX-512, and converts at no cost
// beside AVX2. Where it does not, `auto` runs dense too often until `tune` has been run.
constexpr CostTable kTables[] = {{kScalar, kScalar, kScalar},
                                 {kAvx2, kAvx2, kAvx2},
                                 {kAvx512, kAvx512BFloat16, kAvx512BFloat16}};

std::atomic<const std::array<CostTable, 3>*> in_force{nullptr};  // in the order of Isa

}  // namespace

const CostTable& default_costs(Isa isa) { return kTables[static_cast<int>(isa)]; }

const CostTable& costs() {
  const Isa isa = current_isa(nullptr);
  const auto* tables = in_force.load(std::memory_order_acquire);
  return tables ? (*tables)[static_cast<int>(isa)] : default_costs(isa);
}

// One table for each instruction set, with its vectors. Those before are kept: a call on another
// thread may be reading them.
void set_costs(const CostTable& table) {
  auto* tables = new std::array<CostTable, 3>;
  for (int isa = 0; isa < 3; ++isa) {
    (*tables)[isa] = table;
    for (const auto storage : {&CostTable::float32, &CostTable::bfloat16, &CostTable::float16}) {
      ((*tables)[isa].*storage).vector = (kTables[isa].*storage).vector;
    }
  }
  in_force.store(tables, std::memory_order_release);
}

}  // namespace sparsetrain
