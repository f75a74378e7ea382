// What the taps of an axis reach. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "cpu/integers.h"
#include "geometry/phases.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// The offsets that the taps of one axis span, over all phases.
struct Span {
  int64_t first = INT64_MAX, last = INT64_MIN, taps = 0, most = 0;
  bool consecutive = true;
  double useful = 0;  // products that meet an input, for each input cell and tap

  explicit Span(const GatherAxis& a, const PhaseTaps* phases) {
    int64_t met = 0, all = 0;
    for (int64_t p = 0; p < a.phases(); ++p) {
      const PhaseTaps& t = phases[p];
      if (t.count == 0) continue;
      first = min64(first, t.offset);
      last = max64(last, t.last_offset());
      taps += t.count;
      most = max64(most, t.count);
      consecutive = consecutive && (t.count == 1 || t.offset_step == 1);
      for (int64_t j = 0; j < t.count; ++j) {
        const int64_t offset = t.offset + j * t.offset_step;
        const int64_t low = offset >= 0 ? 0 : ceil_div(-offset, a.in_step);
        const int64_t high = min64(a.cells(p), a.in > offset ? (a.in - 1 - offset) / a.in_step + 1 : 0);
        met += max64(0, high - low);
        all += a.cells(p);
      }
    }
    if (taps == 0) first = last = 0;
    useful = all ? static_cast<double>(met) / static_cast<double>(all) : 1;
  }
  int64_t width() const { return last - first + 1; }
};

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
