// The handle that csrc/torch/cuda_cusparse.cpp asks PyTorch for, on a CPU.
#pragma once

#include <cusparse.h>

namespace at::cuda {

inline cusparseHandle_t getCurrentCUDASparseHandle() {
  static cusparseContext context;
  return &context;
}

}  // namespace at::cuda
