// 2x2 windows of planes without gaps are moved in groups at any width, not one by one.
#include "cuda_host.h"
#include "pool_case.h"

namespace deconvkit::testing {

NATIVE_TEST(flat_windows) {
  const int64_t h = random.between(1, 9), w = random.any_of({7, 14, 28, 56, 1, 3, 6, 12, 32});
  const PoolAxis down{2 * h, h, 2, 2, 0, 1}, across{2 * w, w, 2, 2, 0, 1};
  PoolCase p{};
  p.shape = {down, across};
  p.batch = random.between(1, 3);
  p.channels = random.between(1, 5);
  p.dtype = any_float(random);
  p.switch_type = DType::kUInt8;
  p.no_switch = 255;
  p.layout = random.any_of({Layout::kContiguous, Layout::kPart});
  p.aligned = true;
  describe("%s (%d, %d, %d, %d)", name_of(p.dtype), int(p.batch), int(p.channels), int(2 * h), int(2 * w));

  // Windows of a thread, and as many of their cells in a row as are moved at once.
  const int64_t group = 16 / bytes_of(p.dtype);
  int64_t cells = group;
  while (2 * w % cells) cells /= 2;
  const int64_t runs = p.layout == Layout::kPart ? p.batch : 1;
  const int64_t windows = p.batch * p.channels * h * w / runs;
  const bool grouped = runs == 1 || windows % group == 0;  // else not every run begins with a whole group
  const int64_t groups = grouped ? windows / group : 0, tail = windows - groups * group;

  Tensor big = p.big(random, Tensor::kOutput), pooled = p.pooled(random, Tensor::kOutput);
  Tensor switches(p.switch_type, {p.batch, p.channels, h, w}, Tensor::kOutput, p.layout);
  const auto expect = [&](const char* what, int64_t stores) {
    EXPECT(stores_of_last_call() == runs * stores, "%s: %d stores, expected %d", what,
           int(stores_of_last_call()), int(runs * stores));
  };
  big.fill(plain_values(random));
  kernels.max_pool2d_with_switches(big, pooled, switches, p.shape, 1);
  expect("pooling", 2 * (groups + tail));
  kernels.max_pool2d_gather(big, switches, pooled, p.shape, 1);
  expect("gathering", groups + tail);
  kernels.max_unpool2d_backward(big, switches, pooled, p.shape, 1);
  expect("backward of unpooling", groups + tail);
  kernels.max_pool2d_backward(pooled, switches, big, p.shape, 1);
  expect("backward of pooling", groups * 4 * group / cells + 4 * tail);
  kernels.max_unpool2d(pooled, switches, big, p.shape, 1);
  expect("unpooling", groups * 4 * group / cells + 4 * tail);
}

}  // namespace deconvkit::testing
