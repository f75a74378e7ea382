// What a tensor map says, for host and device: a box of a tensor of 16-bit numbers that one instruction
// copies to shared memory, zeros where it reaches outside of the tensor (cuTensorMapEncodeTiled in cuda.h).
#pragma once
#include <cstdint>

#include "geometry/host_device.h"

namespace deconvkit {

struct TensorBox {
  static constexpr int kRank = 5;
  static constexpr int32_t kElementBytes = 2, kMostBox = 256, kSpan = 128;  // kSpan: bytes that are swizzled

  uint64_t address = 0;
  int64_t size[kRank] = {1, 1, 1, 1, 1};             // innermost first
  int64_t stride[kRank] = {kElementBytes, 0, 0, 0};  // in bytes
  int32_t box[kRank] = {1, 1, 1, 1, 1};

  // Whether the driver makes a map of it, and the hardware reads it.
  constexpr bool is_legal() const {
    if (address % 16 || stride[0] != kElementBytes || box[0] * kElementBytes != kSpan) return false;
    for (int i = 0; i < kRank; ++i) {
      if (size[i] < 1 || size[i] > int64_t{1} << 32 || box[i] < 1 || box[i] > kMostBox) return false;
      if (i && (stride[i] % 16 || stride[i] < 1 || stride[i] >= int64_t{1} << 40)) return false;
    }
    return true;
  }
};

}  // namespace deconvkit
