// The sum of each channel over batch and pixels, for tensors of dense planes (NCHW): a bias's gradient.
//
// For each channel, image: the plane in four vectors of sums, which are then added up; storage types of half
// a word are summed in float. The order does not depend on the threads. Floor: one read.
#include <cstdint>

#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/strip.h"
#include "tensor_ref.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

template <class C, class T>
C plane_sum(const T* x, int64_t count) {
  constexpr int L = kLanes<C>, kChains = 4;
  Vec<C, L> sums[kChains] = {};
  int64_t i = 0;
  for (; i + kChains * L <= count; i += kChains * L) {
#pragma GCC unroll 4
    for (int j = 0; j < kChains; ++j) sums[j] += load_vec<L>(x + i + j * L);
  }
  for (; i + L <= count; i += L) sums[0] += load_vec<L>(x + i);
  const Vec<C, L> lanes = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  C sum = 0;
  for (; i < count; ++i) sum += C(load(x + i));
  for (int l = 0; l < L; ++l) sum += lanes[l];
  return sum;
}

template <class C>
void channel_sums_in(const TensorRef& input, const TensorRef& output, int threads) {
  for_storage_of<C>(input.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    parallel_for(input.size[1], useful_threads(threads, input.numel()), [&](int64_t c) {
      C sum = 0;
      for (int64_t n = 0; n < input.size[0]; ++n) {
        const T* plane = input.as<T>() + n * input.stride[0] + c * input.stride[1];
        sum += plane_sum<C>(plane, input.size[2] * input.size[3]);
      }
      store(output.as<T>() + c * output.stride[0], sum);
    });
  });
}

}  // namespace

void channel_sums(const TensorRef& input, const TensorRef& output, int threads) {
  if (input.dtype == DType::kFloat64) return channel_sums_in<double>(input, output, threads);
  channel_sums_in<float>(input, output, threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
