// Image sets in the idx format (http://yann.lecun.com/exdb/mnist), compressed with gzip.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

// Images [N,1,H,W], uint8, of an idx file. Throws std::runtime_error with one sentence.
at::Tensor read_images(const std::string& path);

// Labels [N], int64.
at::Tensor read_labels(const std::string& path);
