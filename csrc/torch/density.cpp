// The slots of density.h, in pages that are kept for good: a CUDA kernel that is under way when its
// slot is freed still has somewhere to store. A late store may land in a reused slot. That is
// harmless: slots only influence which kernel runs.
#include "density.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <vector>

namespace sparsetrain {
namespace {

constexpr size_t kPageSlots = 512;  // 4 KiB

class Slots {
 public:
  double* take(AllocateSlots allocate) {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) {
      pages_.push_back(allocate(kPageSlots));
      for (size_t i = 0; i < kPageSlots; ++i) free_.push_back(pages_.back() + i);
    }
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
  std::mutex mutex_;
  std::vector<double*> pages_, free_;
};

// Never destroyed: the last tensor may outlive every static object.
Slots& slots(bool cuda) {
  static auto* const by_device = new Slots[2];
  return by_device[cuda];
}

double* allocate_on_host(size_t count) { return new double[count]; }

// Constant-initialized: the CUDA part sets it as it is loaded.
constinit AllocateSlots allocate_for_cuda = nullptr;

}  // namespace

void register_cuda_slot_memory(AllocateSlots allocate) { allocate_for_cuda = allocate; }

double density_in(const std::optional<at::Tensor>& density) {
  if (!density) return std::numeric_limits<double>::quiet_NaN();
  // A device, or a backward pass on another thread, may store at any time.
  auto* number = const_cast<double*>(density->const_data_ptr<double>());
  return std::atomic_ref(*number).load(std::memory_order_relaxed);
}

void store_density(double* slot, double density) {
  std::atomic_ref(*slot).store(density, std::memory_order_relaxed);
}

std::optional<at::Tensor> new_density_slot(c10::DeviceType device) {
  const bool cuda = device == c10::kCUDA;
  if (!cuda && device != c10::kCPU) return std::nullopt;
  const AllocateSlots allocate = cuda ? allocate_for_cuda : allocate_on_host;
  if (!allocate) return std::nullopt;
  Slots& all = slots(cuda);
  double* slot = all.take(allocate);
  return at::from_blob(
      slot, {}, [slot, &all](void*) { all.give_back(slot); },
      at::TensorOptions().dtype(at::kDouble));
}

double* slot_memory(const std::optional<at::Tensor>& density, c10::DeviceType device) {
  if (!density) return nullptr;
  const auto* number = density->const_data_ptr<double>();
  return slots(device == c10::kCUDA).holds(number) ? const_cast<double*>(number) : nullptr;
}

}  // namespace sparsetrain
