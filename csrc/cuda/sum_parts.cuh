// The second stage of sums that were split into parts: for each number its parts, added in their order, and
// one rounding. Floor: the parts read once, the numbers written once.
#pragma once
#include "cuda/number.cuh"
#include "cuda/view.cuh"
#include "cuda/windows.cuh"

namespace deconvkit::cuda {

template <class T>
struct SumParts : OneStep {
  using C = Compute<T>;

  View<const C> partial;  // the first part's
  int64_t parts, apart;   // their number, and the distance from one to the next
  View<T> sum;
  Items items;

  SumParts(const View<const C>& first, int64_t parts_, int64_t apart_, const TensorRef& to)
      : partial(first),
        parts(parts_),
        apart(apart_),
        sum(to),
        items(to.size[0], to.size[1], to.size[2], to.size[3], channels_innermost(to), 1) {}

  DECONVKIT_HD void step(int64_t, const Place& place, Empty&, Empty&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const C* const from = partial.at(i.n, i.c, i.h, i.w);
      C all = *from;
      DECONVKIT_UNROLL_4
      for (int64_t part = 1; part < parts; ++part) all += from[part * apart];
      store(sum.at(i.n, i.c, i.h, i.w), narrow<T>(all));
    });
  }
};

template <class T, class Launch>
void sum_parts(const Launch& launch, const View<const Compute<T>>& first, int64_t parts, int64_t apart,
               const TensorRef& to) {
  const SumParts<T> kernel(first, parts, apart, to);
  launch(kernel, kernel.items.tiles);
}

}  // namespace deconvkit::cuda
