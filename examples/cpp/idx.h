// Readers of image data sets in the idx format of MNIST (http://yann.lecun.com/exdb/mnist),
// compressed with gzip; for train.cpp. Both functions throw std::runtime_error if a file cannot be
// read.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

// Returns the images of an idx file as uint8 [N,1,H,W].
at::Tensor read_images(const std::string& path);

// Returns the labels of an idx file as int64 [N].
at::Tensor read_labels(const std::string& path);
