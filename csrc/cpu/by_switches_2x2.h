// Values moved by switches where 2x2 windows lie side by side in planes: both rows of a window at once,
// vectors of neighbouring windows, a few rows of windows a task (cpu/by_switches.h).
#pragma once
#include "cpu/by_switches.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

constexpr int64_t kPairs = 512;                              // windows of a piece of a row
constexpr int64_t kBandCells = 4 * kPairs;                   // rows are taken together up to this
constexpr int64_t kBandRoom = kBandCells + 2 * kPairs + 64;  // an odd height or width adds one

inline bool side_by_side_2x2(const PoolAxis& a) {
  return a.kernel == 2 && a.stride == 2 && a.padding == 0 && a.dilation == 1 && a.input >= 2 * a.output - 1 &&
         a.input <= 2 * a.output + 1;
}

// Rows of windows that make a task.
inline int64_t band_of_2x2(const PoolShape& s) {
  const int64_t rows = s.w.output > kPairs ? 1 : kBandCells / (2 * s.w.input + 1);
  return rows < 1 ? 1 : rows < s.h.output ? rows : s.h.output;
}

// N windows to columns [0, 2N) of their rows.
template <int N, int Rows, class E>
inline void spread_pairs(const E* values, const uint8_t* switches, E* to, int64_t pitch) {
  using I = Vec<Lane<E>, N>;
  I value;
  std::memcpy(&value, values, sizeof value);
  value = in_blocks<Lane<E>, N>(value);
  const I at = in_blocks<Lane<E>, N>(widen<Lane<E>, N>(switches));
  for (int row = 0; row < Rows; ++row) {
    const I even = (at == static_cast<Lane<E>>(2 * row)) & value;
    const I odd = (at == static_cast<Lane<E>>(2 * row + 1)) & value;
    const I low = weave_low<Lane<E>, N>(even, odd), high = weave_high<Lane<E>, N>(even, odd);
    std::memcpy(to + row * pitch, &low, sizeof low);
    std::memcpy(to + row * pitch + N, &high, sizeof high);
  }
}

// N windows from columns [0, 2N) of their rows.
template <int N, int Rows, class E>
inline void collect_pairs(const E* from, int64_t pitch, const uint8_t* switches, E* to) {
  using I = Vec<Lane<E>, N>;
  const I at = in_blocks<Lane<E>, N>(widen<Lane<E>, N>(switches));
  I value{};
  for (int row = 0; row < Rows; ++row) {
    I low, high;
    std::memcpy(&low, from + row * pitch, sizeof low);
    std::memcpy(&high, from + row * pitch + N, sizeof high);
    value |= (at == static_cast<Lane<E>>(2 * row)) & split_even<Lane<E>, N>(low, high);
    value |= (at == static_cast<Lane<E>>(2 * row + 1)) & split_odd<Lane<E>, N>(low, high);
  }
  value = in_order<Lane<E>, N>(value);
  std::memcpy(to, &value, sizeof value);
}

// All the bits of `count` bytes.
inline uint64_t bits_of(const uint8_t* p, int64_t count) {
  uint64_t bits = 0, eight;
  for (; count >= 8; count -= 8, p += 8) {
    std::memcpy(&eight, p, 8);
    bits |= eight;
  }
  uint32_t four = 0;
  if (count >= 4) std::memcpy(&four, p, 4), count -= 4, p += 4;
  bits |= four;
  for (; count > 0; --count) bits |= *p++;
  return bits;
}

// A row of windows over Rows rows of `columns` cells, moved by spread or else collected; whether all switches
// named a cell. E: the bits of a value.
template <bool Spread, int Rows, class E>
inline bool move_row_2x2(E* pooled, const uint8_t* switches, int64_t windows, int64_t columns, E* cells,
                         int64_t pitch) {
  const int64_t whole = columns / 2 < windows ? columns / 2 : windows;
  constexpr uint64_t kBeyond = ~uint64_t{0} / 255 * (Rows == 2 ? 0xfc : 0xfe);  // bits of no cell
  bool all = !(bits_of(switches, windows) & kBeyond);
  const bool done = cover<E, kLanes<E>>(whole, [&](auto n, int64_t i) {
    if constexpr (Spread) {
      spread_pairs<n.value, Rows>(pooled + i, switches + i, cells + 2 * i, pitch);
    } else {
      collect_pairs<n.value, Rows>(cells + 2 * i, pitch, switches + i, pooled + i);
    }
  });
  for (int64_t ow = done ? whole : 0; ow < windows; ++ow) {
    const int at = switches[ow];
    const bool inside = at < 2 * Rows && 2 * ow + at % 2 < columns;
    all &= inside;
    if constexpr (Spread) {
      for (int row = 0; row < Rows; ++row) {
        for (int k = 0; k < 2 && 2 * ow + k < columns; ++k) {
          cells[row * pitch + 2 * ow + k] = at == row * 2 + k ? pooled[ow] : E{0};
        }
      }
    } else {
      pooled[ow] = inside ? cells[at / 2 * pitch + 2 * ow + at % 2] : E{0};
    }
  }
  return all;
}

// Rows [oh, oh_end) of the windows [begin, end); false for a switch that points outside.
template <bool Spread, class E>
[[gnu::noinline]] bool move_band_2x2(const Plane<E>& pooled, const Plane<const uint8_t>& at,
                                     const Plane<E>& cells, const PoolShape& s, int64_t oh, int64_t oh_end,
                                     int64_t begin, int64_t end, bool stream) {
  // The last windows also see to the cells that no window holds.
  const int64_t first = 2 * oh, last = oh_end == s.h.output ? s.h.input : 2 * oh_end;
  const int64_t columns = (end == s.w.output ? s.w.input : 2 * end) - 2 * begin;
  alignas(64) char room[(kBandRoom) * sizeof(E)];
  E* const out = cells.at(first, 2 * begin);
  E* const to =
      stream ? reinterpret_cast<E*>(room) + (reinterpret_cast<uintptr_t>(out) & 63) / sizeof(E) : out;
  const int64_t pitch = stream ? columns : cells.h;
  bool good = true;
  for (int64_t row = oh; row < oh_end; ++row) {
    E* const there = to + 2 * (row - oh) * pitch;
    const auto move = 2 * row + 2 <= s.h.input ? move_row_2x2<Spread, 2, E> : move_row_2x2<Spread, 1, E>;
    const bool all = move(pooled.at(row, begin), at.at(row, begin), end - begin, columns, there, pitch);
    if (!all) good &= check_row<uint8_t>(at, s, row, begin, end, 1);
  }
  if constexpr (Spread) {
    if (columns > 2 * (end - begin)) {
      for (int64_t h = first; h < last; ++h) to[(h - first) * pitch + columns - 1] = 0;
    }
    if (last > 2 * oh_end) std::memset(to + (last - 1 - first) * pitch, 0, columns * sizeof(E));
    if (stream && columns == cells.h) {
      stream_copy(out, to, (last - first) * columns * static_cast<int64_t>(sizeof(E)));
    } else if (stream) {
      for (int64_t h = 0; h < last - first; ++h) {
        stream_copy(out + h * cells.h, to + h * pitch, columns * static_cast<int64_t>(sizeof(E)));
      }
    }
  }
  return good;
}

// All windows, where they are 2x2 and side by side in planes.
template <bool Spread, class E>
bool move_2x2(const TensorRef& pooled, const TensorRef& switches, const TensorRef& big, const PoolShape& s,
              bool stream, int threads) {
  const int64_t band = band_of_2x2(s);
  Good good;
  for_rows(
      pooled.size[0], pooled.size[1], (s.h.output + band - 1) / band, s.w.output, kPairs,
      2 * band * s.w.input * static_cast<int64_t>(sizeof(E)), threads, [&](const Piece& p) {
        const int64_t oh = p.row * band, oh_end = oh + band < s.h.output ? oh + band : s.h.output;
        if (!move_band_2x2<Spread>(plane_of<E>(pooled, p.n, p.c), plane_of<const uint8_t>(switches, p.n, p.c),
                                   plane_of<E>(big, p.n, p.c), s, oh, oh_end, p.begin, p.end, stream)) {
          good.fail();
        }
      });
  return static_cast<bool>(good);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
