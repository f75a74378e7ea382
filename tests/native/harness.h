// What the native tests share: random numbers, tensors surrounded by guard zones, checks.
//
// A test is a function NATIVE_TEST(op) { ... } that runs the op's kernels on random small problems and holds
// them against a naive loop. main.cpp runs every test once with each instruction set.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/isa.h"

namespace deconvkit::testing {

// ---- random numbers: the same on every platform ----

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int64_t between(int64_t low, int64_t high) {  // both ends included
    return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1));
  }
  bool one_in(int n) { return between(1, n) == 1; }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  template <class T>
  T any_of(std::initializer_list<T> values) {
    return values.begin()[between(0, static_cast<int64_t>(values.size()) - 1)];
  }

 private:
  uint64_t state_;
};

// ---- numbers as they are stored ----

int64_t bytes_of(DType dtype);
const char* name_of(DType dtype);
constexpr DType kFloats[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16};
// The largest relative error of one rounding to the type.
double epsilon_of(DType dtype);
double load_number(const void* p, DType dtype);
void store_number(void* p, DType dtype, double value);  // rounds to nearest even
// `value` after a store and a load.
double rounded(double value, DType dtype);

// ---- tensors ----

// kRowsApart: contiguous in the last two dimensions, gaps between the others. kPaddedRows: each of the
// innermost begins at a multiple of 8 elements. kPart: contiguous but for gaps of 8 elements between the
// outermost.
enum class Layout { kContiguous, kChannelsLast, kStrided, kExpanded, kRowsApart, kPaddedRows, kPart };

using Sizes = std::vector<int64_t>;

// A tensor in a block of its own. An input's block ends with its last element, so that a sanitizer sees any
// read past it; an output's block has guard zones, and intact() says whether any byte that is no element was
// written.
class Tensor {
 public:
  enum Role { kInput, kOutput };

  Tensor() = default;  // an absent tensor
  Tensor(DType dtype, Sizes sizes, Role role, Layout layout = Layout::kContiguous, int64_t offset = 0);

  const TensorRef& ref() const { return ref_; }
  operator const TensorRef&() const { return ref_; }
  int64_t numel() const { return ref_.numel(); }
  int64_t size(int i) const { return ref_.size[i]; }
  DType dtype() const { return ref_.dtype; }

  double get(std::initializer_list<int64_t> at) const { return load_number(where(at), ref_.dtype); }
  void set(std::initializer_list<int64_t> at, double value) { store_number(where(at), ref_.dtype, value); }
  // The i-th element in row-major order.
  double flat(int64_t i) const { return load_number(where_flat(i), ref_.dtype); }
  void set_flat(int64_t i, double value) { store_number(where_flat(i), ref_.dtype, value); }
  bool same_bits(const Tensor& other) const;
  void fill(const std::function<double()>& value);
  bool intact() const;

 private:
  char* where(std::initializer_list<int64_t> at) const;
  char* where_flat(int64_t i) const;

  std::unique_ptr<char[]> block_;
  int64_t block_bytes_ = 0;
  TensorRef ref_;
};

// Small integers (ties!), now and then an infinity or a NaN.
std::function<double()> tied_values(Random& random, bool specials = true);
// Uniform in (-1, 1).
std::function<double()> plain_values(Random& random);
Layout any_layout(Random& random, bool expanded);
DType any_float(Random& random);

// ---- checks ----

// Says what is being computed, for the message of a failing check.
void describe(const char* format, ...) __attribute__((format(printf, 1, 2)));
void fail(const char* file, int line, const char* format, ...) __attribute__((format(printf, 3, 4)));
int failures();

#define EXPECT(condition, ...)                                                     \
  do {                                                                             \
    if (!(condition)) ::deconvkit::testing::fail(__FILE__, __LINE__, __VA_ARGS__); \
  } while (0)

// NaN equals NaN.
inline bool same(double a, double b) { return a == b || (a != a && b != b); }

// Whether the kernels skip a switch that points outside (CUDA), or refuse it.
extern bool skips_bad_switches;

struct Test {
  const char* name;
  void (*run)(Random& random, const Kernels& kernels);
};
std::vector<Test>& tests();

#define NATIVE_TEST(op)                                                                                  \
  static void test_##op(::deconvkit::testing::Random&, const ::deconvkit::Kernels&);                     \
  static const bool registered_##op = (::deconvkit::testing::tests().push_back({#op, test_##op}), true); \
  static void test_##op([[maybe_unused]] ::deconvkit::testing::Random& random,                           \
                        [[maybe_unused]] const ::deconvkit::Kernels& kernels)

}  // namespace deconvkit::testing
