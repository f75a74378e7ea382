// A 64-bit hash of a dense tensor's bytes, by which a caller sees that a weight has changed.
//
// Blocks of 64 KB are hashed by threads, in eight chains that hide the multiplication's latency; a block's
// result does not depend on who computed it. A chain's step is a bijection of its word, so that a change of a
// single element always shows. Floor: one read of the tensor.
#include <cstdint>
#include <cstring>

#include "cpu/parallel.h"
#include "cpu/workspace.h"
#include "tensor_ref.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

constexpr uint64_t kPrime = 0x9e3779b97f4a7c15;  // odd: multiplication by it is a bijection

uint64_t mixed(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * kPrime;
  return hash ^ (hash >> 29);
}

uint64_t hash_block(const char* data, int64_t bytes) {
  constexpr int kChains = 8;
  uint64_t chain[kChains] = {};
  int64_t i = 0;
  for (; i + 8 * kChains <= bytes; i += 8 * kChains) {
    uint64_t word[kChains];
    std::memcpy(word, data + i, sizeof word);
    for (int j = 0; j < kChains; ++j) chain[j] = mixed(chain[j], word[j]);
  }
  uint64_t hash = static_cast<uint64_t>(bytes);
  for (; i < bytes; i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, data + i, static_cast<size_t>(bytes - i < 8 ? bytes - i : 8));
    hash = mixed(hash, word);
  }
  for (const uint64_t c : chain) hash = mixed(hash, c);
  return hash;
}

int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
    case DType::kInt64:
      return 8;
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kUInt8:
      return 1;
    default:
      return 2;
  }
}

}  // namespace

uint64_t fingerprint(const TensorRef& tensor, int threads) {
  constexpr int64_t kBlock = 1 << 16;
  const int64_t bytes = tensor.numel() * size_of(tensor.dtype), blocks = (bytes + kBlock - 1) / kBlock;
  uint64_t* hashes = workspace<uint64_t>(Slot::kPlan, blocks);
  const char* data = tensor.as<char>();
  parallel_for(blocks, useful_threads(threads, bytes, 1 << 18), [&](int64_t i) {
    const int64_t begin = i * kBlock;
    hashes[i] = hash_block(data + begin, bytes - begin < kBlock ? bytes - begin : kBlock);
  });
  uint64_t hash = 0;
  for (int64_t i = 0; i < blocks; ++i) hash = mixed(hash, hashes[i]);
  return hash;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
