// CHECK, the assertion of all C++ tests: prints the failed condition and exits with code 1.
#pragma once

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                          \
  if (!(condition)) {                                                             \
    std::fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
    std::exit(1);                                                                 \
  }
