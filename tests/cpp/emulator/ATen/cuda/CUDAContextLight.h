// The emulator's version of PyTorch's cuSPARSE handle, for csrc/torch/cuda/cusparse_conv.cpp.
#pragma once

#include <cusparse.h>

namespace at::cuda {

inline cusparseHandle_t getCurrentCUDASparseHandle() {
  static cusparseContext context;
  return &context;
}

}  // namespace at::cuda
