// The emulator's version of PyTorch's current stream, for torch_cusparse.cpp: a null stream.
#pragma once

#include <c10/util/Exception.h>

#include "cuda_runtime_api.h"

#define C10_CUDA_CHECK(call) TORCH_CHECK((call) == cudaSuccess, #call)

namespace c10::cuda {

inline cudaStream_t getCurrentCUDAStream() { return nullptr; }

}  // namespace c10::cuda
