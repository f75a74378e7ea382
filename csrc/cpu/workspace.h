// Scratch memory that outlives a call: a few blocks a thread, on huge pages, grown and never shrunk. Included
// by per-ISA kernel files only.
//
// A fresh large block costs more in page faults than most layers in arithmetic, so blocks are kept. A kernel
// asks for a slot by name; the block is valid until the same thread asks for the same slot again. Blocks that
// several threads share are asked for by the caller, before the parallel region.
#pragma once
#include <cstdint>

#include "cpu/memory.h"
#include "cpu/out_of_memory.h"

#ifdef __linux__
#include <sys/mman.h>
#else
#include <cstdlib>
#endif

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

enum class Slot { kStrip, kTaps, kWeights, kInput, kProducts, kShared, kPlan, kGather, kOuter, kCount };

namespace workspace_detail {

class Block {
 public:
  ~Block() { release(); }

  void* at_least(int64_t bytes) {
    if (bytes > bytes_) {
      release();
      // From a fraction of a huge page on, whole ones: scattered small pages would also compete for the same
      // sets of L2, some runs more than others.
      constexpr int64_t kHuge = int64_t{2} << 20, kPage = 4096;
      const int64_t unit = bytes < kHuge / 16 ? kPage : kHuge, size = (bytes + unit - 1) / unit * unit;
#ifdef __linux__
      const int64_t mapped = size + unit - kPage;  // room to align
      void* map = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (map == MAP_FAILED) throw_out_of_memory(size);
      char* const first = static_cast<char*>(map);
      const int64_t lead = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(map) & (unit - 1));
      void* p = first + lead;
      if (lead > 0) munmap(first, lead);
      if (mapped > lead + size) munmap(first + lead + size, mapped - lead - size);
#ifdef MADV_HUGEPAGE
      if (unit == kHuge) madvise(p, size, MADV_HUGEPAGE);
#endif
#else
      void* p = std::aligned_alloc(unit, size);
      if (!p) throw_out_of_memory(size);
#endif
      data_ = p;
      bytes_ = size;
    }
    return data_;
  }

 private:
  void release() {
    if (!data_) return;
#ifdef __linux__
    munmap(data_, bytes_);
#else
    std::free(data_);
#endif
    data_ = nullptr;
    bytes_ = 0;
  }

  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace workspace_detail

// Room for count elements of T, 4096-byte aligned; the contents are whatever the last user left.
template <class T>
inline T* workspace(Slot slot, int64_t count) {
  static thread_local workspace_detail::Block blocks[static_cast<int>(Slot::kCount)];
  return static_cast<T*>(blocks[static_cast<int>(slot)].at_least(count * static_cast<int64_t>(sizeof(T))));
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
