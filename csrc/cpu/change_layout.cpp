// The same numbers in other strides: NCHW to channels_last, and back.
//
// For each image, run of pixels, lane-wide block of channels: read the run (strip.h: a transpose in registers
// where channels are planes) and write it. Where both sides keep a plane's rows one behind the other, a plane
// is one row, so that small images fill the lanes too. Floor: one read and one write.
#include <cstdint>

#include "cpu/memory.h"
#include "cpu/parallel.h"
#include "cpu/strip.h"
#include "cpu/workspace.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

bool has_dense_planes(const TensorRef& x) { return x.stride[2] == x.size[3] * x.stride[3]; }

TensorRef as_rows(TensorRef x) {
  x.size[3] *= x.size[2];
  x.size[2] = 1;
  return x;
}

template <class C>
void change_layout(const TensorRef& from, const TensorRef& to, int threads) {
  constexpr int kPixels = 256, L = kLanes<C>;
  const Image source = Image::of(from, 0, from.size[1]), target = Image::of(to, 0, to.size[1]);
  const int64_t runs = ceil_div(source.width, kPixels), tasks = from.size[0] * source.height * runs;
  for_storage_of<C>(to.dtype, [&](auto t) {
    advise_huge(to.data, to.numel() * int64_t{sizeof(typename decltype(t)::type)});
  });
  threads = useful_threads(threads, from.numel(), 1 << 15);
  C* const scratch = workspace<C>(Slot::kPlan, int64_t{threads} * kPixels * L);
  parallel_tasks(
      tasks, threads,
      [&](int64_t task, int thread) {
        const int64_t x = task % runs * kPixels, y = task / runs % source.height;
        const int64_t n = task / runs / source.height, columns = min64(kPixels, source.width - x);
        C* const run = scratch + int64_t{thread} * kPixels * L;
        for (int64_t c = 0; c < source.channels; c += L) {
          load_row<C>(source, n, c, y, x, columns, run);
          store_row<C>(target, n, c, y, x, columns, run);
        }
      },
      false);
}

}  // namespace

void change_layout(const TensorRef& input, const TensorRef& output, int threads) {
  const bool rows = has_dense_planes(input) && has_dense_planes(output);
  const TensorRef from = rows ? as_rows(input) : input, to = rows ? as_rows(output) : output;
  if (input.dtype == DType::kFloat64) return change_layout<double>(from, to, threads);
  change_layout<float>(from, to, threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
