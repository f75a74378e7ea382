// The index arithmetic of csrc/geometry, exhaustively over small ranges against the loops that define it, and
// at sizes beyond 2^31 where a 32-bit intermediate would show.
#include <cstdio>
#include <initializer_list>

#include "geometry/pool_shape.h"
#include "geometry/switches.h"
#include "geometry/winograd.h"

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

// The phases and taps of the decomposition are exactly the pairs that the definition joins, each once.
void check_winograd_axis(const ConvAxis& c, bool transposed) {
  WinogradAxis a;
  if (!make_winograd_axis(c, transposed, a)) {
    EXPECT(c.dilation != 1 || c.kernel == 1 || c.kernel > 2 * c.stride + 1 ||
               c.stride > WinogradAxis::kMaxPhases,
           "refused: k %lld s %lld p %lld", (long long)c.kernel, (long long)c.stride, (long long)c.padding);
    return;
  }
  const int64_t grid = (a.out + a.out_phases - 1) / a.out_phases;
  EXPECT(a.tiles * a.tile >= grid && (a.tiles - 1) * a.tile < grid, "tiles %lld", (long long)a.tiles);
  for (int64_t out = 0; out < a.out; ++out) {
    const int64_t q = out / a.out_phases;
    for (int64_t in = 0; in < a.in; ++in) {
      int expected = -1, got = -1, times = 0;
      for (int64_t k = 0; k < c.kernel; ++k) {
        if (transposed ? c.large_index(in, k) == out : c.large_index(out, k) == in)
          expected = static_cast<int>(k);
      }
      if (a.points == 1) {
        if (in == q + a.lo) got = 0, ++times;
      } else {
        for (int b = 0; b < a.in_phases; ++b) {
          for (int j = 0; j < WinogradAxis::kTaps; ++j) {
            const int tap = a.taps[transposed ? out % a.out_phases : b][j];
            if (tap >= 0 && in == a.in_phases * (q + a.lo + j) + b) got = tap, ++times;
          }
        }
      }
      EXPECT(got == expected && times <= 1, "transposed %d k %lld s %lld p %lld, %lld -> %lld: %d, %d times",
             transposed, (long long)c.kernel, (long long)c.stride, (long long)c.padding, (long long)in,
             (long long)out, got, times);
    }
  }
}

void check_winograd_axes() {
  for (int64_t small = 1; small <= 9; ++small)
    for (int64_t kernel = 1; kernel <= 17; ++kernel)
      for (int64_t stride = 1; stride <= 9; ++stride)
        for (int64_t padding = 0; padding <= kernel; ++padding)
          for (int64_t more = 0; more < stride; ++more) {
            const int64_t large = (small - 1) * stride - 2 * padding + kernel + more;
            if (large < 1) continue;
            const ConvAxis axis{small, large, kernel, stride, padding, 1};
            check_winograd_axis(axis, true);
            check_winograd_axis(axis, false);
          }
}

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
  check_winograd_axes();
  std::printf(failed ? "geometry: %d checks failed\n" : "geometry: ok\n", failed);
  return failed ? 1 : 0;
}
