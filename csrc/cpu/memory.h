// Large blocks: huge pages, and stores that pass by the caches. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "cpu/simd.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// Blocks below this come back warm from the allocator more often than not, and hold few huge pages.
constexpr int64_t kAdviseBytes = int64_t{4} << 20;

// Asks for huge pages under a large output or workspace; call before its first write. A fresh block then
// costs one page fault for each 2 MB instead of one for each 4 KB. One system call, none below kAdviseBytes;
// only a hint: contents stay as they are, and where the system refuses nothing is lost.
inline void advise_huge(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < kAdviseBytes) return;
  constexpr uintptr_t kPage = 4096;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) & ~(kPage - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) & ~(kPage - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

// memcpy that streams the whole cache lines; the caller ends with stream_fence().
inline void stream_copy(void* to, const void* from, int64_t bytes) {
  auto* t = static_cast<char*>(to);
  const auto* f = static_cast<const char*>(from);
  const int64_t lead = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(to) & 63);
  const int64_t head = lead < bytes ? lead : bytes;
  std::memcpy(t, f, head);
  int64_t i = head;
  for (; i + 64 <= bytes; i += 64) stream_line(t + i, f + i);
  std::memcpy(t + i, f + i, bytes - i);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
