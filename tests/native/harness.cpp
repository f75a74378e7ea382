#include "harness.h"

#include <algorithm>
#include <cstdarg>

namespace deconvkit::testing {

bool skips_bad_switches = false;

namespace {

constexpr int64_t kGuard = 512;  // bytes before and after an output
constexpr unsigned char kUntouched = 0xa5;

float float_from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// A number with `digits` significant bits and a smallest normal exponent of 2^min_exponent, nearest even.
double round_to(double x, int digits, int min_exponent, double largest) {
  if (x == 0 || x != x || std::isinf(x)) return x;
  int exponent;
  std::frexp(x, &exponent);
  const int shift = digits - std::max(exponent, min_exponent + 1);
  const double r = std::ldexp(std::nearbyint(std::ldexp(x, shift)), -shift);
  return std::fabs(r) > largest ? std::copysign(HUGE_VAL, x) : r;
}

uint16_t half_bits(double x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (x != x) return sign | 0x7e00;
  const double a = std::fabs(round_to(x, 11, -14, 65504));
  if (std::isinf(a)) return sign | 0x7c00;
  if (a < 0x1p-14) return sign | static_cast<uint16_t>(a * 0x1p24);
  int exponent;
  const double mantissa = std::frexp(a, &exponent);  // in [1/2, 1)
  return sign | static_cast<uint16_t>(((exponent + 14) << 10) + static_cast<int>(mantissa * 2048) - 1024);
}

double half_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double a = exponent == 31  ? (fraction ? NAN : HUGE_VAL)
                   : exponent == 0 ? std::ldexp(fraction, -24)
                                   : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -a : a;
}

char description[1024];
int failed = 0;

}  // namespace

int64_t bytes_of(DType dtype) {
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

const char* name_of(DType dtype) {
  static const char* const kNames[] = {"float32", "float64", "bfloat16", "float16",
                                       "uint8",   "uint16",  "int32",    "int64"};
  return kNames[static_cast<int>(dtype)];
}

double epsilon_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-53;
    case DType::kFloat32:
      return 0x1p-24;
    case DType::kFloat16:
      return 0x1p-11;
    case DType::kBFloat16:
      return 0x1p-8;
    default:
      return 0;
  }
}

template <class T>
static T read(const void* p) {
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

double load_number(const void* p, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return read<float>(p);
    case DType::kFloat64:
      return read<double>(p);
    case DType::kBFloat16:
      return float_from_bits(static_cast<uint32_t>(read<uint16_t>(p)) << 16);
    case DType::kFloat16:
      return half_value(read<uint16_t>(p));
    case DType::kUInt8:
      return read<uint8_t>(p);
    case DType::kUInt16:
      return read<uint16_t>(p);
    case DType::kInt32:
      return read<int32_t>(p);
    default:
      return static_cast<double>(read<int64_t>(p));
  }
}

template <class T>
static void write(void* p, T x) {
  std::memcpy(p, &x, sizeof x);
}

void store_number(void* p, DType dtype, double value) {
  switch (dtype) {
    case DType::kFloat32:
      return write(p, static_cast<float>(value));
    case DType::kFloat64:
      return write(p, value);
    case DType::kBFloat16: {
      const float x = static_cast<float>(round_to(value, 8, -126, 0x1.fep127));
      return write(p, static_cast<uint16_t>(x != x ? 0x7fc0 : read<uint32_t>(&x) >> 16));
    }
    case DType::kFloat16:
      return write(p, half_bits(value));
    case DType::kUInt8:
      return write(p, static_cast<uint8_t>(value));
    case DType::kUInt16:
      return write(p, static_cast<uint16_t>(value));
    case DType::kInt32:
      return write(p, static_cast<int32_t>(value));
    case DType::kInt64:
      return write(p, static_cast<int64_t>(value));
  }
}

double rounded(double value, DType dtype) {
  char cell[8] = {};
  store_number(cell, dtype, value);
  return load_number(cell, dtype);
}

Tensor::Tensor(DType dtype, Sizes sizes, Role role, Layout layout, int64_t offset) {
  const int rank = static_cast<int>(sizes.size());
  ref_.dtype = dtype;
  ref_.rank = rank;
  std::vector<int> order;  // dimensions from the innermost outwards
  for (int i = rank - 1; i >= 0; --i) order.push_back(i);
  if (layout == Layout::kChannelsLast && rank >= 3) {
    order.insert(order.begin(), 1);
    order.erase(order.begin() + rank - 1);
  }
  int64_t step = layout == Layout::kStrided ? 2 : 1, last = 0;
  for (const int i : order) {
    ref_.size[i] = sizes[i];
    ref_.stride[i] = step;
    step *= sizes[i] ? sizes[i] : 1;
    if (layout == Layout::kStrided || (layout == Layout::kRowsApart && i <= rank - 2)) step += 3;
    if (layout == Layout::kPart && i == 1) step += 8;
    if (layout == Layout::kPaddedRows && i == rank - 1) step = (step + 7) / 8 * 8;
  }
  // What lies along an axis of one element is never asked for, so torch leaves its stride to chance.
  for (int i = 0; i < rank; ++i) {
    if (sizes[i] == 1) ref_.stride[i] = 1000003;
  }
  // expand(): the outermost dimension has one element, seen many times.
  if (layout == Layout::kExpanded && role == kInput && rank) ref_.stride[0] = 0;
  for (int i = 0; i < rank; ++i) last += sizes[i] ? (sizes[i] - 1) * ref_.stride[i] : 0;
  const int64_t elements = ref_.numel() ? last + 1 : 0;
  const int64_t before = (role == kOutput ? kGuard : 0) + offset * bytes_of(dtype);
  block_bytes_ = before + elements * bytes_of(dtype) + (role == kOutput ? kGuard : 0);
  block_.reset(new char[block_bytes_ ? block_bytes_ : 1]);
  std::memset(block_.get(), kUntouched, block_bytes_);
  ref_.data = elements ? block_.get() + before : nullptr;  // as torch has it
}

char* Tensor::where(std::initializer_list<int64_t> at) const {
  int64_t element = 0;
  int i = 0;
  for (const int64_t x : at) element += x * ref_.stride[i++];
  return static_cast<char*>(ref_.data) + element * bytes_of(ref_.dtype);
}

char* Tensor::where_flat(int64_t index) const {
  int64_t element = 0;
  for (int i = ref_.rank - 1; i >= 0; --i) {
    element += index % ref_.size[i] * ref_.stride[i];
    index /= ref_.size[i];
  }
  return static_cast<char*>(ref_.data) + element * bytes_of(ref_.dtype);
}

bool Tensor::same_bits(const Tensor& other) const {
  for (int64_t i = 0, n = numel(); i < n; ++i) {
    if (std::memcmp(where_flat(i), other.where_flat(i), bytes_of(ref_.dtype)) != 0) return false;
  }
  return true;
}

void Tensor::fill(const std::function<double()>& value) {
  for (int64_t i = 0, n = numel(); i < n; ++i) set_flat(i, value());
}

bool Tensor::intact() const {
  std::vector<bool> element(block_bytes_);
  for (int64_t i = 0, n = numel(); i < n; ++i) {
    const int64_t at = where_flat(i) - block_.get();
    for (int64_t b = 0; b < bytes_of(ref_.dtype); ++b) element[at + b] = true;
  }
  for (int64_t b = 0; b < block_bytes_; ++b) {
    if (!element[b] && static_cast<unsigned char>(block_[b]) != kUntouched) return false;
  }
  return true;
}

std::function<double()> tied_values(Random& random, bool specials) {
  return [&random, specials]() -> double {
    if (specials && random.one_in(20)) return random.any_of({HUGE_VAL, -HUGE_VAL, static_cast<double>(NAN)});
    return static_cast<double>(random.between(-3, 3));
  };
}

std::function<double()> plain_values(Random& random) {
  return [&random] { return 2 * random.uniform() - 1; };
}

Layout any_layout(Random& random, bool expanded) {
  const auto layout =
      random.any_of({Layout::kContiguous, Layout::kChannelsLast, Layout::kStrided, Layout::kExpanded});
  return layout == Layout::kExpanded && !expanded ? Layout::kContiguous : layout;
}

DType any_float(Random& random) { return kFloats[random.between(0, 3)]; }

void describe(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(description, sizeof description, format, args);
  va_end(args);
}

void fail(const char* file, int line, const char* format, ...) {
  if (++failed > 10) return;  // the first ones tell enough
  std::printf("%s:%d: %s\n    ", file, line, description);
  va_list args;
  va_start(args, format);
  std::vprintf(format, args);
  va_end(args);
  std::printf("\n");
}

int failures() { return failed; }

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

}  // namespace deconvkit::testing
