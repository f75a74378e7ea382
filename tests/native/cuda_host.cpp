#include "cuda_host.h"

#include <algorithm>

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

template <class Op>
bool pool(Op op, const TensorRef& a, const TensorRef& b, const TensorRef& c, const PoolShape& s,
          std::initializer_list<const TensorRef*> outputs) {
  forget_stores();
  op(HostLauncher{}, a, b, c, s);
  expect_stored_once(outputs);
  return true;
}

bool max_pool2d_with_switches(const TensorRef& input, const TensorRef& output, const TensorRef& switches,
                              const PoolShape& s, int) {
  return pool([](auto&&... args) { cuda::max_pool2d_with_switches(args...); }, input, output, switches, s,
              {&output, &switches});
}

}  // namespace

const Kernels& cuda_on_host() {
  static const Kernels table = [] {
    Kernels k{};
    k.isa = "cuda";
    k.max_pool2d_with_switches = max_pool2d_with_switches;
    return k;
  }();
  return table;
}

}  // namespace testing
}  // namespace deconvkit
