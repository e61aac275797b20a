// Slots of densities in pages of pinned memory that are mapped into every device's addresses. Pages
// are kept for good: a kernel that is under way when its slot is given back still has somewhere to
// store. What it stores then may greet the slot's next owner, whose choices it can only steer.
#include "density.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <vector>

#include "../density.h"

namespace sparsetrain {
namespace {

constexpr size_t kPageSlots = 512;  // 4 KiB

class Slots {
 public:
  double* take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) add_page();
    double* slot = free_.back();
    free_.pop_back();
    *slot = std::numeric_limits<double>::quiet_NaN();
    return slot;
  }

  void give_back(double* slot) {
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);
  }

  bool holds(const double* slot) {
    const std::lock_guard lock(mutex_);
    return std::any_of(pages_.begin(), pages_.end(), [&](const double* page) {
      return slot >= page && slot < page + kPageSlots;
    });
  }

 private:
  // A device that has a context already: cudaHostAlloc would make one on the current device.
  static std::optional<c10::Device> with_context() {
    const auto index = c10::cuda::getDeviceIndexWithPrimaryContext();
    if (!index) return std::nullopt;
    return c10::Device(c10::DeviceType::CUDA, *index);
  }

  // Under unified addressing, which 64 bits have, a device's address of it is the host's.
  void add_page() {
    const c10::OptionalDeviceGuard guard(with_context());
    void* page = nullptr;
    C10_CUDA_CHECK(cudaHostAlloc(&page, kPageSlots * sizeof(double),
                                 cudaHostAllocPortable | cudaHostAllocMapped));
    pages_.push_back(static_cast<double*>(page));
    for (size_t i = 0; i < kPageSlots; ++i) free_.push_back(pages_.back() + i);
  }

  std::mutex mutex_;
  std::vector<double*> pages_, free_;
};

// Never destroyed: the last tensor may outlive every static object.
Slots& slots() {
  static auto* all = new Slots;
  return *all;
}

at::Tensor make_slot() {
  double* slot = slots().take();
  return at::from_blob(
      slot, {}, [slot](void*) { slots().give_back(slot); }, at::TensorOptions().dtype(at::kDouble));
}

const bool registered = (set_density_slots(make_slot), true);

}  // namespace

double* device_slot(const std::optional<at::Tensor>& slot) {
  if (!slot) return nullptr;
  const auto* number = slot->const_data_ptr<double>();
  return slots().holds(number) ? const_cast<double*>(number) : nullptr;
}

}  // namespace sparsetrain
