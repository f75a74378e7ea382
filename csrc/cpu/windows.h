// What the pooling kernels share: how they walk a call's tensors, and the check of switches.
#pragma once
#include "cpu/memory.h"
#include "cpu/parallel.h"
#include "cpu/shuffle.h"
#include "dispatch.h"
#include "geometry/switches.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// ---- layouts ----

// Vectors run along W where all tensors of a call have unit stride there (planes), or along C (channels).
enum class Walk { kPlanes, kChannels, kStrided };

inline bool unit_stride(const TensorRef& t, int dim) { return t.size[dim] == 1 || t.stride[dim] == 1; }

inline Walk walk_of(const TensorRef& a, const TensorRef& b, const TensorRef& c) {
  const bool planes = unit_stride(a, 3) && unit_stride(b, 3) && unit_stride(c, 3);
  const bool channels = unit_stride(a, 1) && unit_stride(b, 1) && unit_stride(c, 1);
  if (channels && (a.size[1] > 1 || !planes)) return Walk::kChannels;
  return planes ? Walk::kPlanes : Walk::kStrided;
}

// From the tensor's first byte to its last.
template <class T>
inline int64_t span_bytes(const TensorRef& t) {
  int64_t last = 0;
  for (int i = 0; i < t.rank; ++i) {
    if (t.size[i] == 0) return 0;
    last += (t.size[i] - 1) * t.stride[i];
  }
  return (last + 1) * static_cast<int64_t>(sizeof(T));
}

// A plane (n, c), or an image n whose channels are neighbours.
template <class T>
struct Plane {
  T* data;
  int64_t h, w;  // strides

  T* at(int64_t y, int64_t x) const { return data + y * h + x * w; }
};
template <class T>
inline Plane<T> plane_of(const TensorRef& t, int64_t n, int64_t c) {
  return {t.as<T>() + n * t.stride[0] + c * t.stride[1], t.stride[2], t.stride[3]};
}

// ---- shares of work ----

// One piece of work: columns [begin, end) of a row in plane (n, c).
struct Piece {
  int64_t n, c, row, begin, end;
};

// The pieces [begin, end) of a batch of planes; long rows are cut into `cuts`. Not inlined, and for work that
// is not either: it would be copied wherever a thread may start.
template <class F>
[[gnu::noinline]] void run_rows(int64_t begin, int64_t end, int64_t channels, int64_t rows, int64_t columns,
                                int64_t cuts, const F& f) {
  const int64_t units = rows * cuts;
  int64_t plane = begin / units, unit = begin % units;
  for (int64_t i = begin; i < end; ++plane, unit = 0) {
    const int64_t n = plane / channels, c = plane % channels;
    for (; unit < units && i < end; ++unit, ++i) {
      if (cuts == 1) {
        f(Piece{n, c, unit, 0, columns});
      } else {
        const int64_t row = unit / cuts, cut = unit % cuts;
        f(Piece{n, c, row, columns * cut / cuts, columns * (cut + 1) / cuts});
      }
    }
  }
  stream_fence();
}

// Calls f(piece) for all rows of all planes (with channels = 1 a plane is an image), each cut every `longest`
// columns. A thread's pieces lie together, so that threads rarely fault the same pages in.
template <class F>
inline void for_rows(int64_t batch, int64_t channels, int64_t rows, int64_t columns, int64_t longest,
                     int64_t row_bytes, int threads, const F& f) {
  const int64_t cuts = (columns + longest - 1) / longest;
  const int64_t total = batch * channels * rows * cuts;
  const int64_t shares = useful_threads(threads, batch * channels * rows * row_bytes);
  if (shares <= 1 || total <= 1) return run_rows(0, total, channels, rows, columns, cuts, f);
  const unsigned mode = FloatMode::current();
  Refusal refusal;
#pragma omp parallel for num_threads(static_cast<int>(shares)) schedule(static)
  for (int64_t i = 0; i < shares; ++i) {
    const FloatMode guard(mode);
    refusal.guard(
        [&] { run_rows(total * i / shares, total * (i + 1) / shares, channels, rows, columns, cuts, f); });
  }
  refusal.rethrow();
}

// Calls f(first) for first = 0, N, 2N, … so that [first, first + N) covers [0, count); the last one may
// overlap. With fewer than N elements narrower vectors are tried, down to 16 bytes of T; false where even
// those are too wide. f is called as f(Type-like width constant, first).
template <int N>
struct Width {
  static constexpr int value = N;
};
template <class T, int N, class F>
inline bool cover(int64_t count, F&& f) {
  if (count >= N) {
    int64_t i = 0;
    for (; i + N <= count; i += N) f(Width<N>{}, i);
    if (i < count) f(Width<N>{}, count - N);
    return true;
  }
  if constexpr (N * sizeof(T) > 16) {
    return cover<T, N / 2>(count, f);
  } else {
    return count == 0;
  }
}

// ---- streams ----

// A piece of an output row on its way: written at once where the output fits the cache, else through a buffer
// in L1 whose whole lines are then streamed.
template <class T, int Elements>
class RowBuffer {
 public:
  // Where to write `to`'s elements.
  T* open(T* to, bool stream) {
    to_ = to;
    stream_ = stream;
    return stream ? aligned() + (reinterpret_cast<uintptr_t>(to) & 63) / sizeof(T) : to;
  }
  void close(int64_t elements) {
    if (!stream_) return;
    stream_copy(to_, aligned() + (reinterpret_cast<uintptr_t>(to_) & 63) / sizeof(T),
                elements * static_cast<int64_t>(sizeof(T)));
  }

 private:
  T* aligned() { return reinterpret_cast<T*>(bytes_); }
  alignas(64) char bytes_[Elements * sizeof(T) + 64];
  T* to_ = nullptr;
  bool stream_ = false;
};

// ---- switches that must not be trusted ----

// Whether count switches all lie in [low, high) or say "no valid cell".
template <class Switch>
inline bool check_span(const Switch* switches, int64_t count, int64_t low, int64_t high) {
  using Unsigned = Bits<Switch>;
  constexpr int64_t kNone = kNoSwitch<Switch>;
  const auto first = static_cast<Unsigned>(low);
  const auto span = static_cast<Unsigned>(high > low ? high - low : 0);
  if (high <= low || low > kNone) {  // no cell is valid
    Unsigned bad = 0;
    for (int64_t i = 0; i < count; ++i) bad |= switches[i] != kNoSwitch<Switch>;
    return !bad;
  }
  Unsigned bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto x = static_cast<Unsigned>(switches[i]);
    bad |= static_cast<Unsigned>((static_cast<Unsigned>(x - first) >= span) &
                                 (x != static_cast<Unsigned>(kNone)));
  }
  return !bad;
}

// Whether the switches of windows [begin, end) of row oh are usable: `channels` neighbours for each window.
template <class Switch>
[[gnu::noinline]] bool check_row(const Plane<const Switch>& switches, const PoolShape& s, int64_t oh,
                                 int64_t begin, int64_t end, int64_t channels) {
  const int64_t low = s.h.first(oh) * s.w.kernel, high = s.h.last(oh) * s.w.kernel;
  const int64_t inner_begin = s.w.inner_begin() > begin ? s.w.inner_begin() : begin;
  const int64_t inner_end = s.w.inner_end() < end ? s.w.inner_end() : end;
  bool good = true;
  if (inner_begin < inner_end) {
    if (switches.w == channels) {
      good &= check_span(switches.at(oh, inner_begin), (inner_end - inner_begin) * channels, low, high);
    } else {
      for (int64_t ow = inner_begin; ow < inner_end; ++ow) {
        good &= check_span(switches.at(oh, ow), channels, low, high);
      }
    }
  }
  for (int64_t ow = begin; ow < end; ++ow) {
    if (ow == inner_begin && inner_begin < inner_end) ow = inner_end;
    if (ow >= end) break;
    const Switch* at = switches.at(oh, ow);
    for (int64_t c = 0; c < channels; ++c) {
      good &= at[c] == kNoSwitch<Switch> || SwitchCell(s, oh, ow, at[c]).valid;
    }
  }
  return good;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
