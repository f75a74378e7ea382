// What a kernel throws when the system refuses scratch memory; Python sees a MemoryError with this text.
#pragma once
#include <cstdint>
#include <new>

namespace deconvkit {

// Kernel files read the member and call throw_out_of_memory(): both leave no code under a name that they
// share.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(int64_t refused);
  const char* what() const noexcept override;

  int64_t bytes;

 private:
  char text_[96];
};

[[noreturn]] void throw_out_of_memory(int64_t bytes);

}  // namespace deconvkit
