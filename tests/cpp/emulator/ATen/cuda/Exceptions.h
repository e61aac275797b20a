// The emulator's version of PyTorch's check of cuSPARSE statuses, for
// csrc/torch/cuda/cusparse_conv.cpp.
#pragma once

#include <c10/util/Exception.h>

#define TORCH_CUDASPARSE_CHECK(call) TORCH_CHECK((call) == CUSPARSE_STATUS_SUCCESS, #call)
