// Reading of densities, and who makes their slots.
#include "density.h"

#include <limits>

namespace sparsetrain {
namespace {

at::Tensor (*make_slot)() = nullptr;

}  // namespace

double density_in(const std::optional<at::Tensor>& slot) {
  if (!slot) return std::numeric_limits<double>::quiet_NaN();
  return *static_cast<const volatile double*>(slot->const_data_ptr<double>());
}

std::optional<at::Tensor> new_density_slot() {
  if (!make_slot) return std::nullopt;
  return make_slot();
}

void set_density_slots(at::Tensor (*make)()) { make_slot = make; }

}  // namespace sparsetrain
