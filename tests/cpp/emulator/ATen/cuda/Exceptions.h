// PyTorch's check of what cuSPARSE answers, on a CPU.
#pragma once

#include <c10/util/Exception.h>

#define TORCH_CUDASPARSE_CHECK(call) TORCH_CHECK((call) == CUSPARSE_STATUS_SUCCESS, #call)
