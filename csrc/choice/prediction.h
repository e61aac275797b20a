// What the predictions for both devices share: products of counts, and their margin.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace sparsetrain {

// A sparse pass is chosen if its predicted time is below this share of the dense one's. Predictions
// may be off by that much, and a dense pass is the safe side.
constexpr double kMargin = 0.85;

// In double, because products of sizes may exceed 64 bits.
inline double product(std::initializer_list<int64_t> factors) {
  double result = 1;
  for (const int64_t factor : factors) result *= static_cast<double>(factor);
  return result;
}

}  // namespace sparsetrain
