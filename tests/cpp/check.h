// The one assertion of the C++ tests: prints what failed and ends the process.
#pragma once

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                          \
  if (!(condition)) {                                                             \
    std::fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
    std::exit(1);                                                                 \
  }
