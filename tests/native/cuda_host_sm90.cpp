// Models of Hopper's instructions, after the PTX ISA and cuda.h: barriers, the copies that arrive at them,
// and the product of a warpgroup. They share nothing with the kernels' own idea of swizzle and fragments.
#include <algorithm>
#include <map>

#include "cuda/async_copy_sm90.cuh"
#include "cuda/matrix_sm90.cuh"
#include "cuda_host_roles.h"

namespace deconvkit {

namespace {

struct BarrierState {
  int arrivals = 0, pending = 0;
  int64_t bytes = 0;
  uint32_t phase = 0;
};
struct CopyUnderWay {
  unsigned char* to;
  const unsigned char* from;  // nullptr: a box
  int64_t bytes;
  TensorBox box;
  int32_t corner[TensorBox::kRank];
  const cuda::Barrier* barrier;
};
struct ProductUnderWay {
  float* sums;
  size_t apart;
  int columns;
  DType dtype;
  uint64_t a, b;
};
struct Block {
  const unsigned char* shared = nullptr;
  int64_t bytes = 0;
  std::map<const cuda::Barrier*, BarrierState> barriers;
  std::vector<CopyUnderWay> copies;
  std::vector<ProductUnderWay> products;
};
Block block;
constexpr uint32_t kFirstAddress = 1024;  // of a kernel's own shared memory

BarrierState& state_of(const cuda::Barrier& barrier) {
  const auto found = block.barriers.find(&barrier);
  EXPECT(found != block.barriers.end(), "a barrier that was not made");
  return found == block.barriers.end() ? block.barriers[&barrier] : found->second;
}
void end_phase_if_all_came(BarrierState& b) {
  if (b.pending || b.bytes) return;
  ++b.phase;
  b.pending = b.arrivals;
}
bool is_shared(const unsigned char* at, int64_t bytes) {
  return at >= block.shared && at + bytes <= block.shared + block.bytes;
}
uint32_t address_of(const void* at) {
  return kFirstAddress + static_cast<uint32_t>(static_cast<const unsigned char*>(at) - block.shared);
}
unsigned char* at_address(uint32_t address) {
  return const_cast<unsigned char*>(block.shared) + (address - kFirstAddress);
}
// The 128-byte swizzle: of an address in shared memory, bits 4 to 6 are mixed with bits 7 to 9.
uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

void land_box(const CopyUnderWay& c) {
  const TensorBox& b = c.box;
  int64_t line = 0;
  int32_t at[TensorBox::kRank];
  for (at[4] = 0; at[4] < b.box[4]; ++at[4])
    for (at[3] = 0; at[3] < b.box[3]; ++at[3])
      for (at[2] = 0; at[2] < b.box[2]; ++at[2])
        for (at[1] = 0; at[1] < b.box[1]; ++at[1], ++line)
          for (at[0] = 0; at[0] < b.box[0]; ++at[0]) {
            uint16_t value = 0;
            bool inside = true;
            uint64_t from = b.address;
            for (int i = 0; i < TensorBox::kRank; ++i) {
              const int64_t index = int64_t{c.corner[i]} + at[i];
              inside = inside && index >= 0 && index < b.size[i];
              from += static_cast<uint64_t>(index * b.stride[i]);
            }
            if (inside) std::memcpy(&value, reinterpret_cast<const void*>(from), 2);
            const int64_t inner = int64_t{b.box[0]} * 2;
            const auto to = static_cast<uint32_t>(address_of(c.to) + line * inner + at[0] * 2);
            std::memcpy(at_address(swizzled(to)), &value, 2);
          }
}

// Row r of an operand whose depth is innermost, in atoms of 8 rows of 128 bytes.
void read_row(uint64_t descriptor, int r, DType dtype, float (&to)[16]) {
  const auto start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const auto atoms = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  for (int k = 0; k < 16; ++k) {
    const uint32_t address = swizzled(start + r / 8 * atoms + r % 8 * 128 + 2 * k);
    const unsigned char* const from = at_address(address);
    EXPECT(is_shared(from, 2), "an operand outside of shared memory");
    to[k] = is_shared(from, 2) ? static_cast<float>(testing::load_number(from, dtype)) : 0;
  }
}
bool is_zero(const float (&row)[16]) {
  return std::all_of(row, row + 16, [](float x) { return x == 0; });
}
void check_descriptor(uint64_t d) {
  EXPECT(d >> 62 == 1 && (d >> 49 & 7) == 0 && (d >> 46 & 7) == 0 && (d >> 52 & 1023) == 0 &&
             (d >> 14 & 3) == 0 && (d >> 30 & 3) == 0,
         "not a descriptor of the 128-byte swizzle: %llx", (unsigned long long)d);
}

void compute(const ProductUnderWay& p) {
  check_descriptor(p.a);
  check_descriptor(p.b);
  std::vector<float> zeros;
  float a[64][16], b[16];
  bool empty[64];
  for (int r = 0; r < 64; ++r) {
    read_row(p.a, r, p.dtype, a[r]);
    empty[r] = is_zero(a[r]);  // to be quick
  }
  for (int column = 0; column < p.columns; ++column) {
    read_row(p.b, column, p.dtype, b);
    if (is_zero(b)) continue;
    for (int r = 0; r < 64; ++r) {
      if (empty[r]) continue;
      // Row r is the (r / 16)-th warp's; of 16 rows, lane 4 (r % 8) on has rows r % 8 and 8 further down.
      const int thread = r / 16 * 32 + r % 8 * 4 + column % 8 / 2;
      const int index = column / 8 * 4 + r % 16 / 8 * 2 + column % 2;
      float& sum = reinterpret_cast<float*>(reinterpret_cast<char*>(p.sums) + thread * p.apart)[index];
      float all = sum;
      for (int k = 0; k < 16; ++k) all += a[r][k] * b[k];
      sum = all;
    }
  }
}

}  // namespace

void cuda::on_barrier(Barrier& barrier, int arrivals) {
  block.barriers[&barrier] = {arrivals, arrivals, 0, 0};
}
void cuda::on_arrive(Barrier& barrier, int64_t bytes) {
  EXPECT(block.products.empty(), "an arrival before the products were waited for");
  BarrierState& b = state_of(barrier);
  EXPECT(b.pending > 0, "more arrivals than a phase has");
  --b.pending;
  b.bytes += bytes;
  end_phase_if_all_came(b);
}
void cuda::on_copy_box(void* to, const TensorMap& map, const int32_t (&corner)[TensorBox::kRank],
                       Barrier& barrier) {
  CopyUnderWay c{};
  c.to = static_cast<unsigned char*>(to);
  std::memcpy(&c.box, map.opaque, sizeof(c.box));
  std::copy(corner, corner + TensorBox::kRank, c.corner);
  c.bytes = c.box.kElementBytes;
  for (const int32_t side : c.box.box) c.bytes *= side;
  c.barrier = &barrier;
  EXPECT(c.box.is_legal(), "a map of a box that is not legal");
  EXPECT(address_of(to) % 1024 == 0 && is_shared(c.to, c.bytes), "a box to where it must not go");
  block.copies.push_back(c);
}
void cuda::on_copy_bytes(void* to, const void* from, int64_t bytes, Barrier& barrier) {
  CopyUnderWay c{};
  c.to = static_cast<unsigned char*>(to);
  c.from = static_cast<const unsigned char*>(from);
  c.bytes = bytes;
  c.barrier = &barrier;
  EXPECT(bytes % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0 && address_of(to) % 16 == 0 &&
             is_shared(c.to, bytes),
         "bytes to or from where they must not go");
  block.copies.push_back(c);
}
uint32_t cuda::on_shared_address(const void* of) { return address_of(of); }
void cuda::on_multiply(float* sums, size_t apart, int columns, DType dtype, uint64_t a, uint64_t b) {
  block.products.push_back({sums, apart, columns, dtype, a, b});
}
void cuda::on_wait_for_products() {
  for (const ProductUnderWay& p : block.products) compute(p);
  block.products.clear();
}

namespace testing {

void begin_block(const void* shared, int64_t bytes) {
  block = {};
  block.shared = static_cast<const unsigned char*>(shared);
  block.bytes = bytes;
}
bool is_over(const cuda::Barrier& barrier, uint32_t parity) {
  return (state_of(barrier).phase & 1) != parity;
}
int64_t copies_under_way() { return static_cast<int64_t>(block.copies.size()); }
void land_copy(int64_t which) {
  const CopyUnderWay c = block.copies[which];
  block.copies.erase(block.copies.begin() + which);
  if (c.from) {
    std::memcpy(c.to, c.from, static_cast<size_t>(c.bytes));
  } else {
    land_box(c);
  }
  BarrierState& b = state_of(*c.barrier);
  b.bytes -= c.bytes;
  EXPECT(b.bytes >= 0, "more bytes than a phase expects");
  end_phase_if_all_came(b);
}
void expect_all_over() {
  EXPECT(block.copies.empty() && block.products.empty(), "a block ended with work under way");
  for (const auto& [barrier, b] : block.barriers) {
    EXPECT(b.pending == b.arrivals && b.bytes == 0, "a block ended inside a phase");
  }
}

}  // namespace testing
}  // namespace deconvkit
