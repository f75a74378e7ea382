// Into how many parts a product's depth is split where its tiles are few, for host and device: at most
// `most`, and so many that all tiles' parts are at most `wanted`. Of the shape alone, so that results, which
// add the parts in order, are the same on every GPU.
#pragma once
#include <cstdint>

#include "geometry/host_device.h"

namespace deconvkit {

constexpr int64_t kBlocksWanted = 256;  // of tensor cores' products: about two for each multiprocessor

DECONVKIT_HD constexpr int64_t parts_of(int64_t wanted, int64_t tiles, int64_t most) {
  const int64_t room = tiles > 0 ? wanted / tiles : 1;
  const int64_t parts = room < most ? room : most;
  return parts < 1 ? 1 : parts;
}

}  // namespace deconvkit
