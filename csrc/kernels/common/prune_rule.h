// The rule that defines every bit of a pruned tensor: the rounded threshold, the random word of an
// element, the comparison, and the order of the sum of |g|. Used by cpu/prune.cpp and
// cuda/prune.cu; cpu/prune.h states the rule in words, and the vector code of cpu/prune.inl
// reproduces it.
#pragma once

#include <cmath>
#include <limits>

#include "philox.h"
#include "storage.h"

namespace sparsetrain {

// The order of the sum of |g|, so that it has equal bits everywhere. A chunk is kChunk consecutive
// elements. Element i of a chunk is added to lane sum i % kChunkLanes, in type Storage<T>::Compute;
// then the lane sums are added pairwise: lane l += lane l + width for width = kChunkLanes / 2,
// ..., 1. The sum of chunk i is added, in double, to lane sum i % kReduceLanes; these are added
// pairwise too.
constexpr int64_t kChunk = 2048;
constexpr int kChunkLanes = 256;
constexpr int kReduceLanes = 1024;

// Statistics of one chunk or of a whole tensor.
struct PruneStats {
  double abs_sum = 0;           // sum of |g| before pruning; not finite if some g is not
  int64_t nonzeros_before = 0;  // before pruning
  int64_t nonzeros = 0;         // after pruning
};

// The number of chunks of a tensor; the last one may be partial.
SPARSETRAIN_HOST_DEVICE inline int64_t prune_chunks(int64_t elements) {
  return (elements + kChunk - 1) / kChunk;
}

// Rounds the threshold to the storage type: then +-threshold can be stored exactly, and pruning
// stays unbiased. Returns 0 (no pruning) if the rounded value is not finite or not positive.
template <class T>
SPARSETRAIN_HOST_DEVICE T rounded_threshold(double threshold) {
  using Compute = typename Storage<T>::Compute;
  const T rounded = Storage<T>::store(static_cast<Compute>(threshold));
  const Compute value = Storage<T>::load(rounded);
  return value > 0 && value <= std::numeric_limits<Compute>::max() ? rounded : T{};
}

// Returns the random words of elements [i, i + 4); i is a multiple of 4. offset: the Philox counter
// of element 0.
SPARSETRAIN_HOST_DEVICE inline PhiloxBlock words_of(int64_t i, const PhiloxKeys& keys,
                                                    uint64_t offset) {
  return philox4x32_10(offset + static_cast<uint64_t>(i) / 4, 0, keys);
}

// The pruning rule for one threshold, which is finite and at least 0.
template <class T>
class PruneRule {
 public:
  using Compute = typename Storage<T>::Compute;

  SPARSETRAIN_HOST_DEVICE explicit PruneRule(T threshold)
      : threshold_(threshold), t_(Storage<T>::load(threshold)), step_(t_ * Compute(0x1p-24)) {}

  // Whether an element g with |g| = magnitude and this random word is kept. NaN is kept.
  SPARSETRAIN_HOST_DEVICE bool keeps(Compute magnitude, uint32_t word) const {
    return !(magnitude <= static_cast<Compute>(word & 0xffffff) * step_);
  }
  // The value that a kept element g with |g| = magnitude is stored as.
  SPARSETRAIN_HOST_DEVICE T kept(T g, Compute magnitude) const {
    return magnitude < t_ ? Storage<T>::copy_sign(threshold_, g) : g;
  }

 private:
  T threshold_;
  Compute t_;     // the threshold
  Compute step_;  // threshold / 2^24: the bound of |g| for one step of a 24-bit random number
};

}  // namespace sparsetrain
