#include "harness.h"

namespace deconvkit::testing {

NATIVE_TEST(change_layout) {
  const DType dtype = any_float(random);
  const Sizes sizes = {random.between(0, 3), random.between(1, 40), random.between(1, 20),
                       random.between(1, 20)};
  Tensor input(dtype, sizes, Tensor::kInput, any_layout(random, true));
  input.fill(tied_values(random));
  Tensor output(dtype, sizes, Tensor::kOutput, any_layout(random, false));
  const int threads = static_cast<int>(random.between(1, 3));
  describe("%s, %lld x %lld x %lld x %lld, %d threads", name_of(dtype), static_cast<long long>(sizes[0]),
           static_cast<long long>(sizes[1]), static_cast<long long>(sizes[2]),
           static_cast<long long>(sizes[3]), threads);
  kernels.change_layout(input, output, threads);
  for (int64_t i = 0; i < output.numel(); ++i) {
    EXPECT(same(output.flat(i), input.flat(i)), "element %lld: expected %g, got %g",
           static_cast<long long>(i), input.flat(i), output.flat(i));
  }
  EXPECT(output.intact(), "written outside");
}

}  // namespace deconvkit::testing
