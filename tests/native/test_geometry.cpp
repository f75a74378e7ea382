// The index arithmetic of csrc/geometry, exhaustively over small ranges against the loops that define it, and
// at sizes beyond 2^31 where a 32-bit intermediate would show.
#include <cstdio>
#include <initializer_list>

#include "geometry/pool_shape.h"
#include "geometry/switches.h"

using namespace deconvkit;

namespace {

int failed = 0;

#define EXPECT(condition, ...)                                    \
  do {                                                            \
    if (!(condition) && ++failed <= 10) {                         \
      std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                   \
      std::printf("\n");                                          \
    }                                                             \
  } while (0)

// first() and last() bound exactly the k whose cells are inside.
void check_pool_axis(const PoolAxis& a, int64_t o) {
  bool any = false;
  int64_t first = 0, last = 0;
  for (int64_t k = 0; k < a.kernel; ++k) {
    const int64_t cell = o * a.stride - a.padding + k * a.dilation;
    if (cell < 0 || cell >= a.input) continue;
    if (!any) first = k;
    last = k + 1;
    any = true;
  }
  const int64_t got_first = a.first(o), got_last = a.last(o);
  if (any) {
    EXPECT(got_first == first && got_last == last,
           "input %lld k %lld s %lld p %lld d %lld o %lld: [%lld, %lld)", (long long)a.input,
           (long long)a.kernel, (long long)a.stride, (long long)a.padding, (long long)a.dilation,
           (long long)o, (long long)got_first, (long long)got_last);
  } else {
    EXPECT(got_first >= got_last, "an empty window has cells");
  }
}

void pool_axis() {
  for (int64_t input = 1; input <= 9; ++input)
    for (int64_t kernel = 1; kernel <= 5; ++kernel)
      for (int64_t stride = 1; stride <= 4; ++stride)
        for (int64_t padding = 0; padding <= 4; ++padding)
          for (int64_t dilation = 1; dilation <= 4; ++dilation) {
            const PoolAxis a{input, 0, kernel, stride, padding, dilation};
            for (int64_t o = 0; o <= 2 * input + 4; ++o) check_pool_axis(a, o);
            bool overlaps = false;  // two windows share a cell, or the cells between them
            for (int64_t k = 0; k < kernel; ++k) overlaps = overlaps || k * dilation >= stride;
            EXPECT(a.overlaps() == overlaps, "k %d s %d d %d", int(kernel), int(stride), int(dilation));
          }
  // Beyond 2^31 and 2^32.
  for (const int64_t big :
       {(int64_t{1} << 31) - 1, int64_t{1} << 31, (int64_t{1} << 33) + 5, int64_t{1} << 40}) {
    const PoolAxis a{big, big / 2, 3, 2, 1, 1};
    for (const int64_t o : {int64_t{0}, int64_t{1}, big / 2 - 2, big / 2 - 1, big / 2, big / 2 + 1})
      check_pool_axis(a, o);
  }
}

void switches() {
  EXPECT(kNoSwitch<uint8_t> == 255 && kNoSwitch<uint16_t> == 65535, "the sentinel is the largest value");
  EXPECT(kMaxCellsUInt8 == kNoSwitch<uint8_t>, "a window of 255 cells still leaves the sentinel free");
}

}  // namespace

int main() {
  pool_axis();
  switches();
  std::printf(failed ? "geometry: %d checks failed\n" : "geometry: ok\n", failed);
  return failed ? 1 : 0;
}
