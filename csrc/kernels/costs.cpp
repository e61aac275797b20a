// The read-only cost table: one row per instruction set. Fitted (non-negative least squares of
// relative errors, one thread of a Zen 4 at 3.7 GHz) to 16 shapes that no benchmark contains: 1x1,
// 3x3 and 5x5, strides 1 and 2, 32 to 384 channels, densities .05 to .7, both formats, oneDNN held
// to the same instruction set. What decides is the ratio of sparse to dense costs; it travels
// better than either.
#include "choose.h"

namespace sparsetrain {
namespace {

//                    dense: mac     element  sparse: vector  visit  list  copy
constexpr Costs kScalar{{4, 16, 4},
                        {0.0454, 0.00, 0.254, 2.04, 0.00, 0.98},
                        {0.0505, 0.00, 0.272, 5.19, 2.11, 0.33},
                        {0.0517, 0.00, 0.726, 5.42, 0.48, 2.17}};
constexpr Costs kAvx2{{8, 16, 4},
                      {0.0186, 0.40, 0.197, 0.66, 0.68, 1.05},
                      {0.0185, 0.63, 0.192, 0.08, 0.99, 1.35},
                      {0.0245, 0.12, 0.219, 3.68, 0.82, 0.29}};
constexpr Costs kAvx512{{16, 32, 4},
                        {0.0167, 0.47, 0.362, 1.58, 0.373, 0.298},
                        {0.0175, 0.36, 0.371, 1.98, 0.444, 0.128},
                        {0.0207, 0.16, 0.392, 0.71, 0.545, 0.158}};

}  // namespace

const Costs& default_costs(Isa isa) {
  if (isa == Isa::kAvx512) return kAvx512;
  return isa == Isa::kAvx2 ? kAvx2 : kScalar;
}

}  // namespace sparsetrain
