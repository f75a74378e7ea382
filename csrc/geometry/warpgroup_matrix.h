// How Hopper's matrix instruction (wgmma, PTX ISA 9.7.15) finds its operands in shared memory and deals out
// its sums, for host and device.
//
// Operands lie as rows of 128 bytes of depth, 16-bit numbers, in atoms of 8 rows: 1024 bytes, aligned to as
// many. Inside an atom piece p (16 bytes) of row r lies at p ^ r: the 128-byte swizzle, which a tensor map's
// copy applies by itself, from the address in shared memory. A matrix is a run of atoms, one after the other.
#pragma once
#include <cstdint>

#include "geometry/host_device.h"

namespace deconvkit {

struct WarpgroupMatrix {
  static constexpr int32_t kThreads = 128;   // of a warpgroup
  static constexpr int32_t kRows = 64;       // of the left operand and of the sums
  static constexpr int32_t kRowBytes = 128;  // of an operand's row in shared memory
  static constexpr int32_t kStepBytes = 32;  // of it that one instruction multiplies: 16 numbers
  static constexpr int32_t kPiece = 16;
  static constexpr int32_t kAtomRows = 8, kAtomBytes = kAtomRows * kRowBytes;

  // Where a piece of a row lies among those of its row.
  DECONVKIT_HD static constexpr int32_t swizzled(int64_t row, int32_t piece) {
    return piece ^ static_cast<int32_t>(row & (kAtomRows - 1));
  }

  // What the instruction takes for an operand whose first atom's first row is at `address` in shared memory,
  // a multiple of kAtomBytes, from `step` · kStepBytes of its depth on. Fields: 0-13 the address, 16-29 the
  // distance along the depth, which this swizzle does not use (1), 32-45 that from atom to atom, all without
  // their last 4 bits; 49-51 where the swizzle's pattern begins, 0 for aligned atoms; 62-63 the swizzle, 1.
  DECONVKIT_HD static constexpr uint64_t descriptor(uint32_t address, int32_t step) {
    const uint64_t start = (address + static_cast<uint32_t>(step * kStepBytes)) >> 4 & 0x3fff;
    return start | uint64_t{1} << 16 | uint64_t{kAtomBytes >> 4} << 32 | uint64_t{1} << 62;
  }

  // The sums of a thread: its i-th of each 8 columns, i < 4, is of this row and column.
  DECONVKIT_HD static constexpr int32_t row_of_sum(int32_t thread, int32_t i) {
    return thread / 32 * 16 + thread % 32 / 4 + i / 2 * 8;
  }
  DECONVKIT_HD static constexpr int32_t column_of_sum(int32_t thread, int32_t i) {
    return thread % 4 * 2 + i % 2;
  }
};

}  // namespace deconvkit
