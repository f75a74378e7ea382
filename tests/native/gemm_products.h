// The products of a convolution by definition, which a walk over tiles must make, each once.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "geometry/conv_shape.h"

namespace deconvkit {

// A number for a product of one (image, output channel): output, input and kernel cell.
inline int64_t key(const ConvShape& s, int64_t oy, int64_t ox, int64_t iy, int64_t ix, int64_t kh,
                   int64_t kw) {
  const int64_t side = 1 + std::max({s.h.small, s.h.large, s.w.small, s.w.large, s.h.kernel, s.w.kernel});
  return ((((oy * side + ox) * side + iy) * side + ix) * side + kh) * side + kw;
}

inline std::vector<int64_t> products(const ConvShape& s, bool transposed) {
  std::vector<int64_t> all;
  for (int64_t ih = 0; ih < s.h.small; ++ih)
    for (int64_t kh = 0; kh < s.h.kernel; ++kh)
      for (int64_t iw = 0; iw < s.w.small; ++iw)
        for (int64_t kw = 0; kw < s.w.kernel; ++kw) {
          const int64_t lh = s.h.large_index(ih, kh), lw = s.w.large_index(iw, kw);
          if (lh < 0 || lh >= s.h.large || lw < 0 || lw >= s.w.large) continue;
          all.push_back(transposed ? key(s, lh, lw, ih, iw, kh, kw) : key(s, ih, iw, lh, lw, kh, kw));
        }
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace deconvkit
