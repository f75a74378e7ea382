// The index arithmetic of csrc/geometry, exhaustively over small ranges against the loops that define it, and
// at sizes beyond 2^31 where a 32-bit intermediate would show.
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <vector>

#include "expect.h"
#include "geometry/conv_shape.h"
#include "geometry/divisor.h"
#include "geometry/flat_windows.h"
#include "geometry/launch_plan.h"
#include "geometry/phases.h"
#include "geometry/pool_shape.h"
#include "geometry/sample_tiles.h"
#include "geometry/switches.h"
#include "geometry/unit_shape.h"
#include "geometry/winograd.h"

using namespace deconvkit;

namespace {

// The same of the phases of the direct algorithm, `fine` of them in one.
void check_gather_axis(const ConvAxis& c, bool transposed, int64_t fine) {
  const GatherAxis a = transposed ? GatherAxis::transposed_convolution(c, fine) : GatherAxis::convolution(c);
  const int64_t out = transposed ? c.large : c.small, in = transposed ? c.small : c.large;
  for (int64_t y = 0; y < out; ++y) {
    const int64_t cell = y / fine / a.out_step, phase = y / fine % a.out_step;
    const PhaseTaps taps = a.taps(phase);
    EXPECT(phase < a.phases() && cell < a.cells(), "k %lld s %lld p %lld fine %lld: %lld",
           (long long)c.kernel, (long long)c.stride, (long long)c.padding, (long long)fine, (long long)y);
    for (int64_t i = 0; i < in; ++i) {
      int64_t expected = -1, got = -1, times = 0;
      for (int64_t k = 0; k < c.kernel; ++k) {
        if (transposed ? c.large_index(i, k) == y : c.large_index(y, k) == i) expected = k;
      }
      for (int64_t j = 0; j < taps.count; ++j) {
        if (a.input(cell, taps.offset + j * taps.offset_step) != i) continue;
        got = (taps.kernel + j * taps.kernel_step) * fine + y % fine;
        ++times;
      }
      EXPECT(got == expected && times <= 1,
             "transposed %d k %lld s %lld p %lld fine %lld, %lld -> %lld: %lld, %lld times", transposed,
             (long long)c.kernel, (long long)c.stride, (long long)c.padding, (long long)fine, (long long)i,
             (long long)y, (long long)got, (long long)times);
    }
  }
}

// The phases and taps of the decomposition are exactly the pairs that the definition joins, each once.
void check_winograd_axis(const ConvAxis& c, bool transposed) {
  WinogradAxis a;
  if (!make_winograd_axis(c, transposed, a)) {
    EXPECT(c.dilation != 1 || c.kernel == 1 || c.kernel > (c.stride == 1 ? 9 : 2 * c.stride + 1) ||
               c.stride > WinogradAxis::kMaxPhases,
           "refused: k %lld s %lld p %lld", (long long)c.kernel, (long long)c.stride, (long long)c.padding);
    return;
  }
  if (c.stride == 1 && c.kernel > WinogradAxis::kTaps) {  // as ops/_algorithm.py counts them
    int active = 0;
    for (int b = 0; b < a.in_phases; ++b) {
      for (int p = 0; p < a.points; ++p) active += a.active(b, p);
    }
    EXPECT(active == c.kernel + 3 * a.in_phases, "k %lld: %d active points", (long long)c.kernel, active);
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
            const int tap = a.taps[a.out_phases > 1 ? out % a.out_phases : b][j];
            if (tap >= 0 && in == a.step * (q + a.lo + j) + a.shift * b) got = tap, ++times;
          }
        }
      }
      EXPECT(got == expected && times <= 1, "transposed %d k %lld s %lld p %lld, %lld -> %lld: %d, %d times",
             transposed, (long long)c.kernel, (long long)c.stride, (long long)c.padding, (long long)in,
             (long long)out, got, times);
    }
  }
}

// Every geometry in which some cell of either side lies inside the other.
void check_gather_axes() {
  for (int64_t kernel = 1; kernel <= 8; ++kernel)
    for (int64_t stride = 1; stride <= 6; ++stride)
      for (int64_t padding = 0; padding <= 4; ++padding)
        for (int64_t dilation = 1; dilation <= 3; ++dilation)
          for (const int64_t small : {1, 2, 5})
            for (int64_t extra = -2; extra <= 3; ++extra) {
              const int64_t large = (small - 1) * stride - 2 * padding + (kernel - 1) * dilation + 1 + extra;
              if (large < 1) continue;
              const ConvAxis c{small, large, kernel, stride, padding, dilation};
              check_gather_axis(c, false, 1);
              check_gather_axis(c, true, 1);
              for (int64_t most = 2; most <= stride; ++most) {
                const int64_t fine = GatherAxis::common_divisor(c, most);
                EXPECT(fine <= most && stride % fine == 0 && kernel % fine == 0 && padding % fine == 0,
                       "fine %lld", (long long)fine);
                check_gather_axis(c, true, fine);
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

// ---- pooling ----

bool inside(const PoolAxis& a, int64_t o, int64_t k) {
  const int64_t cell = o * a.stride - a.padding + k * a.dilation;
  return cell >= 0 && cell < a.input;
}

#define AXIS "input %lld output %lld kernel %lld stride %lld padding %lld dilation %lld; at %lld"
#define AXIS_ARGS(a, at)                                                                     \
  (long long)(a).input, (long long)(a).output, (long long)(a).kernel, (long long)(a).stride, \
      (long long)(a).padding, (long long)(a).dilation, (long long)(at)

// What is said of one window: [first, last) are exactly the k whose cells are inside, and [inner_begin,
// inner_end) tells the windows that keep them all.
void check_window(const PoolAxis& a, int64_t o) {
  int64_t cells = 0, first = a.kernel, last = 0;
  for (int64_t k = 0; k < a.kernel; ++k) {
    EXPECT(a.cell(o, k) == o * a.stride - a.padding + k * a.dilation, AXIS, AXIS_ARGS(a, o));
    if (!inside(a, o, k)) continue;
    if (!cells++) first = k;
    last = k + 1;
  }
  if (cells) {
    EXPECT(a.first(o) == first && a.last(o) == last, AXIS, AXIS_ARGS(a, o));
  } else {
    EXPECT(a.first(o) >= a.last(o), "an empty window has cells: " AXIS, AXIS_ARGS(a, o));
  }
  if (o < a.output) {
    const bool inner = a.inner_begin() <= o && o < a.inner_end();
    EXPECT(inner == (cells == a.kernel), "inner [%lld, %lld): " AXIS, (long long)a.inner_begin(),
           (long long)a.inner_end(), AXIS_ARGS(a, o));
  }
}

// What is said of one input cell: every window that holds it is in [reach_begin, reach_end), as its cell
// cell_of.
void check_cell(const PoolAxis& a, int64_t i) {
  for (int64_t o = 0; o < a.output; ++o) {
    int64_t holds = -1;
    for (int64_t k = 0; k < a.kernel; ++k) {
      if (o * a.stride - a.padding + k * a.dilation == i) holds = k;
    }
    if (a.reach_begin(i) <= o && o < a.reach_end(i)) {
      EXPECT(a.cell_of(i, o) == holds, "window %lld: " AXIS, (long long)o, AXIS_ARGS(a, i));
    } else {
      EXPECT(holds == -1, "window %lld: " AXIS, (long long)o, AXIS_ARGS(a, i));
    }
  }
}

void pool_axis() {
  for (int64_t input = 1; input <= 8; ++input)
    for (int64_t kernel = 1; kernel <= 4; ++kernel)
      for (int64_t stride = 1; stride <= 4; ++stride)
        for (int64_t padding = 0; padding <= 4; ++padding)
          for (int64_t dilation = 1; dilation <= 4; ++dilation)
            for (int64_t output = 1; output <= 9; ++output) {
              const PoolAxis a{input, output, kernel, stride, padding, dilation};
              for (int64_t o = 0; o <= output + 2; ++o) check_window(a, o);
              for (int64_t i = 0; i < input; ++i) check_cell(a, i);
              bool shared = false;  // a cell may lie in two windows, or between the cells of one
              for (int64_t k = 0; k < kernel; ++k) shared = shared || k * dilation >= stride;
              EXPECT(a.overlaps() == (shared && output > 1), AXIS, AXIS_ARGS(a, 0));
            }
  // Beyond 2^31 and 2^32.
  for (const int64_t big :
       {(int64_t{1} << 31) - 1, int64_t{1} << 31, (int64_t{1} << 33) + 5, int64_t{1} << 40}) {
    const PoolAxis a{big, big / 2, 3, 2, 1, 1};
    for (const int64_t o : {int64_t{0}, int64_t{1}, big / 2 - 2, big / 2 - 1, big / 2, big / 2 + 1}) {
      check_window(a, o);
    }
    for (const int64_t i : {int64_t{0}, int64_t{1}, big / 2, big - 3, big - 1}) {
      for (int64_t o = a.reach_begin(i); o < a.reach_end(i); ++o) {
        EXPECT(a.cell(o, a.cell_of(i, o)) == i, AXIS, AXIS_ARGS(a, i));
      }
      EXPECT(a.reach_end(i) - a.reach_begin(i) <= 2, AXIS, AXIS_ARGS(a, i));
    }
  }
}

// The axis whose divisions are multiplications says the same, wherever it is asked.
void check_fast_axis(const PoolAxis& a, int64_t o, int64_t i) {
  const FastPoolAxis f(a);
  EXPECT(f.first(o) == a.first(o) && f.last(o) == a.last(o), AXIS, AXIS_ARGS(a, o));
  EXPECT(f.reach_begin(i) == a.reach_begin(i) && f.reach_end(i) == a.reach_end(i), AXIS, AXIS_ARGS(a, i));
  for (int64_t window = a.reach_begin(i); window < a.reach_end(i); ++window) {
    EXPECT(f.cell_of(i, window) == a.cell_of(i, window), AXIS, AXIS_ARGS(a, i));
  }
}

void fast_axis() {
  for (int64_t input = 1; input <= 8; ++input)
    for (int64_t kernel = 1; kernel <= 4; ++kernel)
      for (int64_t stride = 1; stride <= 4; ++stride)
        for (int64_t padding = 0; padding <= 4; ++padding)
          for (int64_t dilation = 1; dilation <= 4; ++dilation) {
            const PoolAxis a{input, 9, kernel, stride, padding, dilation};
            for (int64_t at = 0; at < 9; ++at) check_fast_axis(a, at, at % input);
          }
  for (const int64_t big : {int64_t{1} << 31, (int64_t{1} << 33) + 5, int64_t{1} << 40}) {
    for (const int64_t at : {int64_t{0}, int64_t{1}, big / 2, big - 1}) {
      check_fast_axis({big, big / 3, 3, 3, 1, 2}, at / 3, at);
    }
  }
}

void divisors() {
  for (int64_t d = 1; d <= 300; ++d) {
    const Divisor by(d);
    for (int64_t a = 0; a <= 1000; ++a) {
      EXPECT(by.quotient(a) == a / d && by.remainder(a) == a % d, "%lld / %lld", (long long)a, (long long)d);
      EXPECT(by.quotient_up(a) == (a + d - 1) / d, "%lld / %lld up", (long long)a, (long long)d);
    }
  }
  // Either side of the multiples of divisors of all sizes, up to the largest numerators.
  for (int bit = 1; bit < 63; ++bit)
    for (const int64_t near : {-1, 0, 1}) {
      const int64_t d = (int64_t{1} << bit) + near, most = INT64_MAX / d;
      if (d < 1) continue;
      const Divisor by(d);
      for (const int64_t q : {int64_t{1}, int64_t{2}, most / 3, most / 2, most - 1, most}) {
        if (q < 1 || q > most) continue;
        for (const int64_t a : {q * d - 1, q * d, q * d - d / 2}) {
          if (a < 0) continue;
          EXPECT(by.quotient(a) == a / d, "%lld / %lld", (long long)a, (long long)d);
        }
      }
      EXPECT(by.quotient(INT64_MAX) == INT64_MAX / d, "INT64_MAX / %lld", (long long)d);
    }
}

// ---- launches ----

// Every item has one thread of one tile.
void row_tiles() {
  for (const int64_t rows : {1, 2, 7, 33, 300})
    for (const int64_t columns : {1, 2, 3, 31, 32, 33, 255, 256, 257, 700}) {
      const RowTiles t(rows, columns);
      std::vector<int> times(rows * columns);
      for (int64_t tile = 0; tile < t.tiles(); ++tile)
        for (int32_t thread = 0; thread < RowTiles::kThreads; ++thread) {
          const RowTiles::Item i = t.item(tile, thread);
          if (i.valid) ++times[i.row * columns + i.column];
        }
      for (const int n : times) EXPECT(n == 1, "%lld x %lld: %d", (long long)rows, (long long)columns, n);
    }
  const int64_t big = (int64_t{1} << 33) + 5;
  const RowTiles flat(3, big), tall(big, 3);
  const RowTiles::Item last = flat.item(flat.tiles() - 1, RowTiles::kThreads - 1);
  EXPECT(last.row == 2 && last.column == flat.tiles_across * 256 - 1 && !last.valid, "beyond 2^33");
  EXPECT(flat.item(2 * flat.tiles_across, 0).row == 2 && flat.item(2 * flat.tiles_across, 0).valid, "row 2");
  EXPECT(tall.item(tall.tiles() - 1, 0).row == (tall.tiles() - 1) * 64, "beyond 2^33 rows");
}

// Every sample of every unit is in the share of one thread of one task, as the column that is its unit's.
void check_sample_tiles(const SampleTiles& t) {
  const int64_t row = t.units * t.inner + 3;
  std::vector<int> times(t.batch * t.outer * t.units * t.inner);
  for (int64_t task = 0; task < t.tasks(); ++task)
    for (int32_t thread = 0; thread < SampleTiles::kThreads; ++thread) {
      const SampleTiles::Share s = t.share(task, thread);
      for (int64_t m = s.first; s.count && m < s.last; m += s.step)
        for (int k = 0; k < (t.planes ? t.group : s.count); ++k) {
          const int64_t at = t.offset(s, m, row) + k, o = at / row, in_row = at % row;
          const int64_t unit = t.unit_of(t.planes ? s.column : s.column + k);
          EXPECT(in_row < t.units * t.inner && unit == in_row / t.inner && o < t.outer, "unit %d", int(unit));
          ++times[(s.problem * t.outer + o) * t.units * t.inner + in_row];
        }
    }
  for (const int n : times) EXPECT(n == 1, "a sample is in %d shares", n);
}

void sample_tiles() {
  for (const int64_t batch : {1, 3})
    for (const int64_t outer : {1, 7, 64, 65, 300})
      for (const int64_t units : {1, 3, 8, 33, 200})
        for (const int64_t inner : {1, 2, 31, 32, 64, 4160})
          for (const int32_t group : {1, 4, 8}) {
            if (outer * units * inner > 300000 || (inner >= 32 && inner % group)) continue;
            check_sample_tiles({batch, outer, units, inner, group});
          }
  // Beyond 2^31 samples: chunks cover them, and the first and last of them are where they should be.
  const int64_t big = int64_t{1} << 33;
  for (const SampleTiles& t : {SampleTiles(1, big + 5, 3, 1, 1), SampleTiles(1, 2, 3, big, 4)}) {
    EXPECT(t.chunks * t.chunk >= t.rows && (t.chunks - 1) * t.chunk < t.rows, "%lld", (long long)t.rows);
    EXPECT(t.partials() < 1 << 20, "a workspace of %lld", (long long)t.partials());
    const SampleTiles::Share last = t.share(t.tasks() - 1, 0);
    EXPECT(last.last == t.rows && last.chunk == t.chunks - 1, "the last of %lld", (long long)t.rows);
    EXPECT(t.offset(last, t.rows - t.group, 3 * t.inner) == (t.outer - 1) * 3 * t.inner +
                                                                last.column * (t.planes ? t.inner : 1) +
                                                                (t.inner - t.group) % t.inner,
           "beyond 2^33");
  }
}

// ---- flat windows ----

void check_flat_place(const FlatWindows& f, int64_t rows, int64_t window) {
  const int64_t plane = window / (rows * f.columns), h = window / f.columns % rows, w = window % f.columns;
  const FlatWindows::Place place = f.place(window);
  EXPECT(place.cell == (plane * 2 * rows + 2 * h) * 2 * f.columns + 2 * w && place.left == f.columns - w,
         "window %lld of rows of %lld: cell %lld, left %lld", (long long)window, (long long)f.columns,
         (long long)place.cell, (long long)place.left);
}

// Windows lie where planes, rows and columns say; whoever takes some at once finds them aligned and goes on
// to the next ones.
void flat_windows() {
  for (int64_t columns = 1; columns <= 40; ++columns)
    for (int64_t rows = 1; rows <= 3; ++rows) {
      const FlatWindows f(3 * rows * columns, columns);
      for (int64_t p = 0; p < f.windows; ++p) check_flat_place(f, rows, p);
      for (const int64_t step : {1, 2, 4, 8}) {
        if (columns % step) continue;
        EXPECT(f.line() % (2 * step) == 0, "a line of %lld", (long long)columns);
        FlatWindows::Place place = f.place(0);
        for (int64_t p = 0; p < f.windows; p += step) {
          const FlatWindows::Place want = f.place(p);
          EXPECT(place.cell == want.cell && place.left == want.left, "the walk to window %d", int(p));
          EXPECT(place.cell % (2 * step) == 0 && place.left >= step, "window %d is not aligned", int(p));
          place = f.next(place, step);
        }
      }
    }
  // Beyond 2^31: rows, columns.
  const int64_t big = (int64_t{1} << 33) + 6;
  for (const int64_t columns : {int64_t{3}, big}) {
    const FlatWindows f(columns * (big / columns + 2), columns);
    for (const int64_t p : {int64_t{0}, columns - 1, columns, big - 1, f.windows - 1})
      check_flat_place(f, 2, p);
  }
}

void launch_plans() {
  for (const Architecture& a : kArchitectures) {
    EXPECT(fits({1, 1024, a.shared}, a) && !fits({1, 1024, a.shared + 1}, a), "sm_%d: shared memory", a.sm);
    EXPECT(!fits({1, 1056, 0}, a) && !fits({1, 33, 0}, a) && !fits({kMaxBlocks + 1, 32, 0}, a), "sm_%d",
           a.sm);
    EXPECT(kPlainShared <= a.shared, "sm_%d", a.sm);
    EXPECT(resident({1, 1024, a.shared}, a) == 1 && resident({1, 32, 0}, a) == a.blocks_per_sm, "sm_%d",
           a.sm);
    EXPECT(resident({1, 512, 0}, a) == a.threads_per_sm / 512, "sm_%d: threads", a.sm);
    const int64_t half = a.shared_per_sm / 2 - (a.shared_per_sm - a.shared);
    EXPECT(resident({1, 256, half}, a) == 2 && resident({1, 256, half + 1}, a) == 1, "sm_%d: two", a.sm);
  }
  EXPECT(persistent_blocks(3, 100) == 3 && persistent_blocks(1000, 100) == 100, "a persistent grid");
  EXPECT(persistent_blocks(int64_t{1} << 40, int64_t{1} << 40) == kMaxBlocks, "beyond 2^31 blocks");
}

void switch_cells() {
  for (int64_t input = 1; input <= 5; ++input)
    for (int64_t kernel = 1; kernel <= 3; ++kernel)
      for (int64_t dilation = 1; dilation <= 2; ++dilation)
        for (int64_t padding = 0; padding <= 2; ++padding) {
          const PoolShape s{{input, 3, kernel, 2, padding, dilation}, {input + 1, 2, 3, 1, 1, 1}};
          for (int64_t oh = 0; oh < 3; ++oh)
            for (int64_t ow = 0; ow < 2; ++ow)
              for (int64_t at = -3; at < s.cells() + 3; ++at) {
                const SwitchCell cell(s, oh, ow, at);
                bool valid = false;
                for (int64_t kh = 0; kh < kernel; ++kh)
                  for (int64_t kw = 0; kw < 3; ++kw) {
                    if (at != kh * 3 + kw || !inside(s.h, oh, kh) || !inside(s.w, ow, kw)) continue;
                    valid = true;
                    EXPECT(cell.h == s.h.cell(oh, kh) && cell.w == s.w.cell(ow, kw), "switch %d", int(at));
                  }
                EXPECT(cell.valid == valid, "switch %d of a %dx3 window", int(at), int(kernel));
              }
        }
  // Nothing that a switch can hold overflows.
  const PoolShape s{{9, 4, 2, 2, 0, 1}, {9, 4, 2, 2, 0, 1}};
  for (const int64_t at : {INT64_MIN, INT64_MIN + 1, int64_t{INT32_MIN}, int64_t{INT32_MAX}, INT64_MAX}) {
    EXPECT(!SwitchCell(s, 3, 3, at).valid, "switch %lld", (long long)at);
  }
}

void sentinels() {
  EXPECT(kNoSwitch<uint8_t> == 255 && kNoSwitch<int32_t> == INT32_MAX, "the sentinel is the largest value");
  EXPECT(kMaxCellsUInt8 == kNoSwitch<uint8_t>, "a window of 255 cells still leaves the sentinel free");
}

// ---- convolution ----

void conv_axis() {
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t k = 0; k < 4; ++k)
      for (int64_t stride = 1; stride <= 3; ++stride)
        for (int64_t padding = 0; padding <= 3; ++padding)
          for (int64_t dilation = 1; dilation <= 3; ++dilation) {
            const ConvAxis a{4, 9, 4, stride, padding, dilation};
            EXPECT(a.large_index(i, k) == i * stride - padding + k * dilation, "i %d k %d", int(i), int(k));
          }
  const ConvAxis huge{int64_t{1} << 32, int64_t{1} << 33, 3, 2, 1, 1};
  EXPECT(huge.large_index((int64_t{1} << 32) - 1, 2) == (int64_t{1} << 33) - 1, "beyond 2^32");
}

void conv_shape() {
  const ConvAxis h{5, 9, 3, 2, 1, 1}, w{7, 13, 4, 2, 1, 1};
  const ConvShape s{2, 6, 9, 3, h, w};
  EXPECT(s.group_small() == 2 && s.group_large() == 3, "channels of a group");
  EXPECT(s.products() == 2 * 6 * 3 * (5 * 3) * (7 * 4), "got %lld", (long long)s.products());
  const ConvShape big{1 << 10, 1 << 12, 1 << 12, 1, h, w};
  EXPECT(big.products() == (int64_t{1} << 34) * 15 * 28, "beyond 2^32");
}

// ---- units and their samples ----

// Blocks, tiles and chunks cover every row, column and element once, whatever the shape.
void check_unit_shape(const UnitShape& s) {
  EXPECT(s.samples() == s.outer * s.inner, "samples");
  EXPECT(s.planes() || (s.rows() - 1) * s.columns() + s.last_columns() == s.outer * s.units * s.inner,
         "rows");
  EXPECT(s.last_columns() > 0 && s.last_columns() <= s.columns(), "the last row");
  int64_t before = 0;
  for (int64_t c = 0; s.planes() && c < s.chunks(); ++c) {
    EXPECT(s.chunk_start(c) == before && s.chunk_start(c + 1) > before, "chunk %d of %d", int(c),
           int(s.inner));
    before = s.chunk_start(c + 1);
  }
  EXPECT(!s.planes() || before == s.inner, "chunks end at %d of %d", int(before), int(s.inner));
  EXPECT(s.columns() * (s.planes() ? s.inner : 1) == s.repeat * s.units * s.inner, "columns");
  EXPECT(s.columns() == s.repeat * s.units * s.columns_per_unit(), "columns of a unit");
  EXPECT(s.repeat == 1 || s.columns() % 16 == 0, "joined rows of %d", int(s.columns()));
  EXPECT(s.blocks() <= UnitShape::kMaxBlocks, "%lld blocks", (long long)s.blocks());
  EXPECT(s.blocks() * s.block_rows() >= s.rows() && (s.blocks() - 1) * s.block_rows() < s.rows(), "blocks");
  before = 0;
  for (int64_t tile = 0; tile < s.tiles(); ++tile) {
    const int64_t columns = s.tile_start(tile + 1) - before;
    EXPECT(s.tile_start(tile) == before && columns > 0, "tile %d of %d columns", int(tile), int(s.columns()));
    EXPECT(s.planes() || s.tiles() == 1 || columns >= 64, "a tile of %d columns", int(columns));
    EXPECT(columns <= UnitShape::kMaxTileColumns, "a tile's sums must fit");
    before = s.tile_start(tile + 1);
  }
  EXPECT(before == s.columns(), "tiles end at %d of %d", int(before), int(s.columns()));
}

void unit_shape() {
  for (const int64_t outer : {1, 2, 63, 64, 65, 4095, 4096, 4097, 100000})
    for (const int64_t units : {1, 2, 5, 25, 63, 130, 511, 1024, 4097, 5000, 8195})
      for (const int64_t inner : {1, 2, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 8191, 8193, 50176}) {
        check_unit_shape({1, outer, units, inner});
        check_unit_shape(UnitShape{1, outer, units, inner}.joined());
      }
  check_unit_shape({1, int64_t{1} << 33, 3, 1});
  check_unit_shape({1, 3, 2, (int64_t{1} << 33) + 7});
}

}  // namespace

int main() {
  pool_axis();
  fast_axis();
  divisors();
  row_tiles();
  sample_tiles();
  flat_windows();
  launch_plans();
  switch_cells();
  sentinels();
  conv_axis();
  conv_shape();
  unit_shape();
  check_winograd_axes();
  check_gather_axes();
  std::printf(failed ? "geometry: %d checks failed\n" : "geometry: ok\n", failed);
  return failed ? 1 : 0;
}
