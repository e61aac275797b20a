// Readers of gzip-compressed idx files (see idx.h).
#include "idx.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

namespace {

// Returns the decompressed contents of a file, by running `gzip -dc`.
std::vector<uint8_t> unzip(const std::string& path) {
  if (path.find('\'') != std::string::npos)
    throw std::runtime_error("expected a path without quotes, got " + path);
  const std::string command = "gzip -dc '" + path + "'";
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) throw std::runtime_error("gzip could not be started");
  std::vector<uint8_t> bytes;
  uint8_t buffer[1 << 16];
  while (const size_t n = fread(buffer, 1, sizeof(buffer), pipe)) {
    bytes.insert(bytes.end(), buffer, buffer + n);
  }
  if (pclose(pipe) != 0) throw std::runtime_error("expected " + path + " to be a whole gzip file");
  return bytes;
}

// Returns the uint8 array of an idx file. The format: two zero bytes, the type (8 is uint8), the
// rank, the sizes as big-endian int32, and the values.
at::Tensor read(const std::string& path, size_t rank) {
  const auto bytes = unzip(path);
  const size_t header = 4 + 4 * rank;
  const auto refuse = [&] {
    return std::runtime_error("expected " + path + " to be an idx file of rank " +
                              std::to_string(rank));
  };
  if (bytes.size() < header || bytes[2] != 8 || bytes[3] != rank) throw refuse();
  std::vector<int64_t> sizes;
  int64_t elements = 1;
  for (size_t i = 4; i < header; i += 4) {
    sizes.push_back(bytes[i] << 24 | bytes[i + 1] << 16 | bytes[i + 2] << 8 | bytes[i + 3]);
    elements *= sizes.back();
  }
  if (bytes.size() - header != static_cast<size_t>(elements)) throw refuse();
  at::Tensor values = at::zeros(sizes, at::kByte);
  std::copy(bytes.begin() + static_cast<int64_t>(header), bytes.end(),
            values.mutable_data_ptr<uint8_t>());
  return values;
}

}  // namespace

at::Tensor read_images(const std::string& path) { return read(path, 3).unsqueeze(1); }

at::Tensor read_labels(const std::string& path) { return read(path, 1).to(at::kLong); }
