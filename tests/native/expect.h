// Checks of the geometry tests, which know nothing of the harness.
#pragma once
#include <cstdio>

inline int failed = 0;

#define EXPECT(condition, ...)                                    \
  do {                                                            \
    if (!(condition) && ++failed <= 10) {                         \
      std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                   \
      std::printf("\n");                                          \
    }                                                             \
  } while (0)
