// The half-width floats of csrc/cpu/simd.h, through the kernels: every bit pattern is loaded and stored, and
// products of two halves, exact in float32, are rounded as a store must.
#include <cmath>
#include <limits>
#include <string>

#include "cpu/isa.h"
#include "harness.h"

namespace deconvkit::testing {
namespace {

Tensor every_pattern(DType dtype) {
  Tensor all(dtype, {1, 1, 1, 65536}, Tensor::kInput);
  for (int64_t i = 0; i < 65536; ++i) static_cast<uint16_t*>(all.ref().data)[i] = static_cast<uint16_t>(i);
  return all;
}

// vdpbf16ps takes denormals for zero, its operands and what it makes.
double without_denormals(double x) {
  return std::abs(x) < static_cast<double>(std::numeric_limits<float>::min()) ? 0 : x;
}

}  // namespace

NATIVE_TEST(half_floats) {
  if (!random.one_in(8)) return;  // a round is large
  const DType dtype = random.any_of({DType::kBFloat16, DType::kFloat16});
  const Tensor input = every_pattern(dtype);
  Tensor output(dtype, {1, 1, 1, 65536}, Tensor::kOutput,
                random.any_of({Layout::kContiguous, Layout::kStrided}));
  Tensor weight(dtype, {1, 1, 1, 1}, Tensor::kInput);
  weight.set_flat(0, std::ldexp(2 * random.uniform() - 1, static_cast<int>(random.between(-10, 10))));
  describe("%s times %g", name_of(dtype), weight.flat(0));
  const ConvAxis one{1, 1, 1, 1, 0, 1}, all{65536, 65536, 1, 1, 0, 1};
  kernels.conv2d(input, weight, Tensor(), output, {1, 1, 1, 1, one, all}, ConvOptions(), 1);
  const bool pairs = dtype == DType::kBFloat16 && kernels.isa == std::string("avx512") && dots_pairs();
  for (int64_t i = 0; i < 65536; ++i) {
    double product = input.flat(i) * weight.flat(0);
    if (pairs) product = without_denormals(without_denormals(input.flat(i)) * weight.flat(0));
    const double expected = rounded(product, dtype);
    EXPECT(same(output.flat(i), expected), "%g: expected %g, got %g", input.flat(i), expected,
           output.flat(i));
  }
}

}  // namespace deconvkit::testing
