// What a pass costs on a CPU: nanoseconds for each unit of choose.h's Work, and the setting in
// force (instruction set and costs) that every call of the operators reads.
#pragma once

#include <string>

#include "../kernels/cpu/api.h"

namespace sparsetrain {

enum class DType { kFloat64, kFloat32, kBFloat16, kFloat16 };

// Nanoseconds that one thread takes for a unit of Work in one pass.
struct PassCosts {
  double dense_mac_ns, dense_element_ns, dense_call_ns;
  double vector_ns, visit_ns, list_ns, copy_ns;
};
struct Costs {
  PassCosts pass[3];  // in the order of Pass
};
// One entry for each storage type that has sparse costs.
struct CostTable {
  Costs float32, bfloat16, float16;

  const Costs* of(DType dtype) const {
    if (dtype == DType::kFloat32) return &float32;
    if (dtype == DType::kBFloat16) return &bfloat16;
    return dtype == DType::kFloat16 ? &float16 : nullptr;
  }
};

// What every pass on this CPU depends on besides its call.
struct CpuSetting {
  Isa isa;
  VectorShape vector;  // of isa for every storage type except float64
  CostTable costs;
  std::string unknown_isa;  // SPARSETRAIN_ISA if it names no instruction set; isa is then the best
};

// The setting in force: one atomic load. At first it is the instruction set that SPARSETRAIN_ISA
// names, else the best of this machine, with the costs that ship for it. The variable is read once,
// and again only after it named no instruction set. A reference stays valid for the life of the
// process.
const CpuSetting& cpu_setting();

// The costs that ship for an instruction set.
const CostTable& default_costs(Isa isa);

// Replaces the whole table, for every later call in the process.
void set_costs(const CostTable& table);

// Runs later calls with another instruction set, or with the best one if this machine lacks `isa`.
// Costs that set_costs() set stay in force. For tests that compare instruction sets.
void set_isa(Isa isa);

}  // namespace sparsetrain
