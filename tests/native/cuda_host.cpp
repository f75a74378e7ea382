#include "cuda_host.h"

#include <algorithm>

#include "cuda/by_switches.cuh"
#include "cuda/max_pool2d.cuh"

namespace deconvkit {

namespace {
struct Store {
  const char* at;
  int64_t bytes;
};
std::vector<Store>& stores() {
  static std::vector<Store> all;
  return all;
}
}  // namespace

void cuda::on_store(const void* to, int64_t bytes) {
  stores().push_back({static_cast<const char*>(to), bytes});
}

namespace testing {

void forget_stores() { stores().clear(); }

void expect_stored_once(std::initializer_list<const TensorRef*> outputs,
                        const std::vector<double>& workspace) {
  std::vector<Store>& all = stores();
  std::sort(all.begin(), all.end(), [](const Store& a, const Store& b) { return a.at < b.at; });
  int64_t stored = 0, wanted = 0;
  const char* const scratch = reinterpret_cast<const char*>(workspace.data());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT(i == 0 || all[i - 1].at + all[i - 1].bytes <= all[i].at, "an element was stored twice");
    const bool outside = all[i].at < scratch || all[i].at >= scratch + workspace.size() * sizeof(double);
    if (outside) stored += all[i].bytes;
  }
  for (const TensorRef* t : outputs) {
    if (*t) wanted += t->numel() * bytes_of(t->dtype);
  }
  EXPECT(stored == wanted, "%lld bytes were stored, where the outputs have %lld", (long long)stored,
         (long long)wanted);
  forget_stores();
}

namespace {

// The entry as one of the CPU's table: runs it and counts its stores; `outputs` says how many tensors it
// writes.
#define DECONVKIT_POOL(name, call, outputs)                                                        \
  bool name(const TensorRef& a, const TensorRef& b, const TensorRef& c, const PoolShape& s, int) { \
    forget_stores();                                                                               \
    call(HostLauncher{}, a, b, c, s);                                                              \
    if (outputs == 2) {                                                                            \
      expect_stored_once({&b, &c});                                                                \
    } else {                                                                                       \
      expect_stored_once({&c});                                                                    \
    }                                                                                              \
    return true;                                                                                   \
  }
DECONVKIT_POOL(max_pool2d_with_switches, cuda::max_pool2d_with_switches, 2)
DECONVKIT_POOL(max_pool2d_backward, cuda::spread<true>, 1)
DECONVKIT_POOL(max_pool2d_gather, cuda::collect<false>, 1)
DECONVKIT_POOL(max_unpool2d, cuda::spread<false>, 1)
DECONVKIT_POOL(max_unpool2d_backward, cuda::collect<true>, 1)
#undef DECONVKIT_POOL

}  // namespace

const Kernels& cuda_on_host() {
  static const Kernels table = [] {
    Kernels k{};
    k.isa = "cuda";
    k.max_pool2d_with_switches = max_pool2d_with_switches;
    k.max_pool2d_backward = max_pool2d_backward;
    k.max_pool2d_gather = max_pool2d_gather;
    k.max_unpool2d = max_unpool2d;
    k.max_unpool2d_backward = max_unpool2d_backward;
    return k;
  }();
  return table;
}

}  // namespace testing
}  // namespace deconvkit
