// What decides every bit of pruning, written once for the CPU's plain version and for CUDA: the
// rounded threshold, the comparison, the random word of an element and the order of the sum.
// prune.h has it in words.
#pragma once

#include <cmath>
#include <limits>

#include "philox.h"
#include "storage.h"

namespace sparsetrain {

constexpr int64_t kChunk = 2048;    // elements whose |g| are added in one float tree
constexpr int kChunkLanes = 256;    // element i of a chunk is added to lane i % 256, lanes pairwise
constexpr int kReduceLanes = 1024;  // chunk i is added to lane i % 1024 in double, lanes pairwise

struct PruneStats {
  double abs_sum = 0;  // sum of |g| before pruning, not finite if any g is not
  int64_t nonzeros_before = 0;
  int64_t nonzeros = 0;  // after pruning
};

SPARSETRAIN_HOST_DEVICE inline int64_t prune_chunks(int64_t elements) {
  return (elements + kChunk - 1) / kChunk;
}

// The threshold in the storage type, so that +-threshold is exact and the result unbiased. One that
// is not finite or not positive there counts as 0.
template <class T>
SPARSETRAIN_HOST_DEVICE T rounded_threshold(double threshold) {
  using Compute = typename Storage<T>::Compute;
  const T rounded = Storage<T>::store(static_cast<Compute>(threshold));
  const Compute value = Storage<T>::load(rounded);
  return value > 0 && value <= std::numeric_limits<Compute>::max() ? rounded : T{};
}

// The words of elements [i, i + 4), i a multiple of 4.
SPARSETRAIN_HOST_DEVICE inline PhiloxBlock words_of(int64_t i, const PhiloxKeys& keys,
                                                    uint64_t offset) {
  return philox4x32_10(offset + static_cast<uint64_t>(i) / 4, 0, keys);
}

// The rule for one threshold, finite and >= 0.
template <class T>
class PruneRule {
 public:
  using Compute = typename Storage<T>::Compute;

  SPARSETRAIN_HOST_DEVICE explicit PruneRule(T threshold)
      : threshold_(threshold), t_(Storage<T>::load(threshold)), step_(t_ * Compute(0x1p-24)) {}

  SPARSETRAIN_HOST_DEVICE bool keeps(Compute magnitude, uint32_t word) const {
    return !(magnitude <= static_cast<Compute>(word & 0xffffff) * step_);
  }
  // What a kept g of this magnitude becomes.
  SPARSETRAIN_HOST_DEVICE T kept(T g, Compute magnitude) const {
    return magnitude < t_ ? Storage<T>::copy_sign(threshold_, g) : g;
  }

 private:
  T threshold_;
  Compute t_, step_;
};

}  // namespace sparsetrain
