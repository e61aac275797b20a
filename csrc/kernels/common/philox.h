// Philox4x32-10, the counter-based random number generator of pruning: equal bits on CPU and CUDA.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace sparsetrain {

// Four random 32-bit words.
struct PhiloxBlock {
  uint32_t word[4];
};

// The round keys that follow from a 64-bit key.
struct PhiloxKeys {
  uint32_t round[10][2];

  SPARSETRAIN_HOST_DEVICE explicit PhiloxKeys(uint64_t key) {
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (auto& keys : round) {
      keys[0] = k0;
      keys[1] = k1;
      k0 +=
          0x9E3779B9;  // fraction of the golden ratio; next, sqrt(3) - 1: the paper's key schedule
      k1 += 0xBB67AE85;
    }
  }
};

// Returns the four random words of a 128-bit counter, which is given as two halves.
SPARSETRAIN_HOST_DEVICE inline PhiloxBlock philox4x32_10(uint64_t counter_low,
                                                         uint64_t counter_high,
                                                         const PhiloxKeys& keys) {
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  for (const auto& key : keys.round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * c0;
    const uint64_t product1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key[0];
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key[1];
    c3 = static_cast<uint32_t>(product0);
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace sparsetrain
