#include "cpu/out_of_memory.h"

#include <cstdio>

namespace deconvkit {

OutOfMemory::OutOfMemory(int64_t refused) : bytes(refused) {
  std::snprintf(text_, sizeof(text_), "deconvkit: the system refused %lld bytes of scratch memory",
                static_cast<long long>(refused));
}

const char* OutOfMemory::what() const noexcept { return text_; }

void throw_out_of_memory(int64_t bytes) { throw OutOfMemory(bytes); }

}  // namespace deconvkit
