// What a dense convolution on CUDA computes in. For the choice on CUDA and for explain().
#pragma once

#include <ATen/Context.h>

#include "../choice/choose.h"

namespace sparsetrain {

// By torch's flags as they are now: cuDNN's flag for TF32 decides for float32.
inline Precision dense_precision(DType dtype) {
  const bool tf32 =
      dtype == DType::kFloat32 && at::globalContext().allowTF32CuDNN(at::Float32Op::CONV);
  return precision_of(dtype, tf32);
}

}  // namespace sparsetrain
