// Threads: one OpenMP region, whose end is a barrier, so that its last loop needs none (nowait). Included by
// per-ISA kernel files only.
#pragma once
#include <omp.h>

#include <cstdint>

#include "cpu/out_of_memory.h"
#include "cpu/simd.h"

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// The floating-point mode is per thread: workers take over the caller's flush-denormal flags for one region.
class FloatMode {
 public:
#ifdef __SSE2__
  static unsigned current() { return _mm_getcsr(); }
  explicit FloatMode(unsigned mode) : saved_(_mm_getcsr()) {
    if (saved_ != mode) _mm_setcsr(mode);
  }
  ~FloatMode() {
    if (_mm_getcsr() != saved_) _mm_setcsr(saved_);
  }

 private:
  unsigned saved_;
#else
  static unsigned current() { return 0; }
  explicit FloatMode(unsigned) {}
#endif
};

// No exception may leave a parallel region: what a task was refused is noted, and thrown behind the region.
class Refusal {
 public:
  template <class F>
  void guard(F&& f) {
    try {
      f();
    } catch (const OutOfMemory& error) {
#pragma omp atomic write
      bytes_ = error.bytes;
    }
  }
  void rethrow() const {
    if (bytes_) throw_out_of_memory(bytes_);
  }

 private:
  int64_t bytes_ = 0;
};

// Calls f(i, thread) for every i in [0, n), thread in [0, threads) being whose scratch memory f may use.
// Tasks are handed out one by one where dynamic, else in contiguous ranges; f must not let its results depend
// on which thread runs it. Starts no thread for a single task.
template <class F>
inline void parallel_tasks(int64_t n, int threads, F&& f, bool dynamic) {
  if (threads > n) threads = static_cast<int>(n);
  if (threads <= 1) {
    for (int64_t i = 0; i < n; ++i) f(i, 0);
    return;
  }
  const unsigned mode = FloatMode::current();
  Refusal refusal;
#pragma omp parallel num_threads(threads)
  {
    const FloatMode guard(mode);
    const int thread = omp_get_thread_num();
    if (dynamic) {
#pragma omp for schedule(dynamic, 1) nowait
      for (int64_t i = 0; i < n; ++i) refusal.guard([&] { f(i, thread); });
    } else {
#pragma omp for schedule(static) nowait
      for (int64_t i = 0; i < n; ++i) refusal.guard([&] { f(i, thread); });
    }
  }
  refusal.rethrow();
}

// The same for tasks without scratch memory: f(i).
template <class F>
inline void parallel_for(int64_t n, int threads, F&& f, bool dynamic = false) {
  parallel_tasks(n, threads, [&](int64_t i, int) { f(i); }, dynamic);
}

// Two loops one after the other in one region: every first(i) is done before any second(j) starts.
template <class F, class G>
inline void parallel_two_phases(int64_t n, int64_t m, int threads, F&& first, G&& second) {
  const int64_t most = n > m ? n : m;
  if (threads > most) threads = static_cast<int>(most);
  if (threads <= 1) {
    for (int64_t i = 0; i < n; ++i) first(i);
    for (int64_t j = 0; j < m; ++j) second(j);
    return;
  }
  const unsigned mode = FloatMode::current();
  Refusal refusal;
#pragma omp parallel num_threads(threads)
  {
    const FloatMode guard(mode);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n; ++i) refusal.guard([&] { first(i); });
#pragma omp for schedule(static) nowait
    for (int64_t j = 0; j < m; ++j) refusal.guard([&] { second(j); });
  }
  refusal.rethrow();
}

// How many threads are worth starting for work of so many bytes moved or operations done.
inline int useful_threads(int threads, int64_t work, int64_t grain = 1 << 15) {
  const int64_t most = work / grain + 1;
  return threads < most ? threads : static_cast<int>(most);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
