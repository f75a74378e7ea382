// Asking the system for huge pages. Included by per-ISA kernel files only.
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

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
