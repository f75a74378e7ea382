#include <cmath>

#include "harness.h"

namespace deconvkit::testing {

NATIVE_TEST(channel_sums) {
  const DType dtype = any_float(random);
  const Sizes sizes = {random.between(0, 3), random.between(1, 40), random.between(1, 30),
                       random.between(1, 30)};
  Tensor input(dtype, sizes, Tensor::kInput);
  input.fill(tied_values(random));
  Tensor output(dtype, {sizes[1]}, Tensor::kOutput);
  const int threads = static_cast<int>(random.between(1, 3));
  describe("%s, %lld x %lld x %lld x %lld, %d threads", name_of(dtype), static_cast<long long>(sizes[0]),
           static_cast<long long>(sizes[1]), static_cast<long long>(sizes[2]),
           static_cast<long long>(sizes[3]), threads);
  kernels.channel_sums(input, output, threads);
  const double rounding = dtype == DType::kBFloat16 ? 4e-3 : dtype == DType::kFloat16 ? 5e-4 : 0;
  const int64_t plane = sizes[2] * sizes[3];
  for (int64_t c = 0; c < sizes[1]; ++c) {
    double sum = 0, magnitude = 0;
    for (int64_t n = 0; n < sizes[0]; ++n) {
      for (int64_t i = 0; i < plane; ++i) {
        const double x = input.flat((n * sizes[1] + c) * plane + i);
        sum += x, magnitude += std::abs(x);
      }
    }
    const double error = std::abs(output.flat(c) - sum);
    EXPECT(same(output.flat(c), sum) || error <= 1e-5 * magnitude + rounding * std::abs(sum),
           "channel %lld: expected %g, got %g", static_cast<long long>(c), sum, output.flat(c));
  }
  EXPECT(output.intact(), "written outside");
}

}  // namespace deconvkit::testing
