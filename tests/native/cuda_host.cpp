#include "cuda_host.h"

#include <algorithm>

#include "cuda/by_switches.cuh"
#include "cuda/conv_gather.cuh"
#include "cuda/conv_per_channel.cuh"
#include "cuda/conv_weight_grad.cuh"
#include "cuda/max_pool2d.cuh"
#include "cuda/sparse_kl.cuh"

namespace deconvkit {

namespace {
struct Store {
  const char* at;
  int64_t bytes;
  const char* end() const { return at + bytes; }
};
std::vector<Store>& stores() {
  static std::vector<Store> all;
  return all;
}

void sort_by_address(std::vector<Store>& all) {
  std::sort(all.begin(), all.end(), [](const Store& a, const Store& b) { return a.at < b.at; });
}
// Those that touch become one; sorted.
void join_neighbours(std::vector<Store>& all) {
  std::vector<Store> joined;
  for (const Store& s : all) {
    if (!joined.empty() && joined.back().end() == s.at) {
      joined.back().bytes += s.bytes;
    } else {
      joined.push_back(s);
    }
  }
  all.swap(joined);
}
void append_elements(const TensorRef& t, std::vector<Store>& to) {
  const int64_t bytes = testing::bytes_of(t.dtype);
  for (int64_t i = 0; i < t.numel(); ++i) {
    int64_t offset = 0, rest = i;
    for (int axis = t.rank - 1; axis >= 0; --axis) {
      offset += rest % t.size[axis] * t.stride[axis];
      rest /= t.size[axis];
    }
    to.push_back({t.as<const char>() + offset * bytes, bytes});
  }
}
}  // namespace

void cuda::on_store(const void* to, int64_t bytes) {
  EXPECT(reinterpret_cast<uintptr_t>(to) % static_cast<uintptr_t>(bytes < 16 ? bytes : 16) == 0,
         "a store to an address that is not aligned");
  stores().push_back({static_cast<const char*>(to), bytes});
}

namespace testing {

namespace {
int64_t last_stores = 0;
}
int64_t stores_of_last_call() { return last_stores; }

void forget_stores() { stores().clear(); }

void expect_stored_once(std::initializer_list<const TensorRef*> outputs,
                        const std::vector<double>& workspace) {
  const auto* const scratch = reinterpret_cast<const char*>(workspace.data());
  const auto* const scratch_end = reinterpret_cast<const char*>(workspace.data() + workspace.size());
  std::vector<Store> wanted, stored;
  for (const TensorRef* t : outputs) {
    if (*t) append_elements(*t, wanted);
  }
  sort_by_address(stores());
  for (size_t i = 0; i < stores().size(); ++i) {
    const Store& store = stores()[i];
    EXPECT(i == 0 || stores()[i - 1].end() <= store.at, "an element was stored twice");
    if (store.at < scratch || store.at >= scratch_end) stored.push_back(store);
  }
  sort_by_address(wanted);
  join_neighbours(wanted);
  join_neighbours(stored);
  const auto same = [](const Store& a, const Store& b) { return a.at == b.at && a.bytes == b.bytes; };
  EXPECT(std::equal(stored.begin(), stored.end(), wanted.begin(), wanted.end(), same),
         "what was stored are not the outputs' elements");
  last_stores = static_cast<int64_t>(stores().size());
  forget_stores();
}

namespace {

// As the entries of the module (csrc/cuda/conv_gather.cu).
template <bool Transposed>
void convolution(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                 const TensorRef& output, const ConvShape& s, const ConvOptions& options, int) {
  if (is_implicit_gemm(options.algorithm) &&
      implicit_gemm_on_host(input, weight, bias, output, s, options, Transposed)) {
    return;
  }
  forget_stores();
  const auto run = cuda::is_per_channel(s, Transposed) ? cuda::conv_per_channel<HostLauncher>
                                                       : cuda::conv_gather<HostLauncher>;
  run(HostLauncher{}, input, weight, bias, output, s, options, Transposed);
  expect_stored_once({&output});
}

void conv_weight_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad,
                      const ConvShape& s, ConvAlgorithm, int) {
  std::vector<double> workspace(plain_weight_grad_workspace_size(s, grad.dtype), NAN);
  forget_stores();
  cuda::conv_weight_grad(HostLauncher{}, small, large, grad, s, workspace.data());
  expect_stored_once({&grad}, workspace);
}

// There is no Winograd: every call is the direct sum.
int64_t conv_transformed_size(bool, DType, const ConvShape&) { return 0; }

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

// Filled with NaN: nothing may be read that was not written.
std::vector<double> fresh_workspace(int64_t doubles) {
  return std::vector<double>(static_cast<size_t>(doubles), std::nan(""));
}

void sparse_sigmoid(const TensorRef& z, const TensorRef& activations, const TensorRef& sums,
                    const TensorRef& penalty, const TensorRef& slope, double rho, double beta, int) {
  std::vector<double> workspace = fresh_workspace(cuda::sparse_workspace(z));
  forget_stores();
  cuda::sparse_forward<cuda::Sigmoid>(HostLauncher{}, z, activations, sums, penalty, slope, rho, beta,
                                      workspace.data());
  expect_stored_once({&activations, &sums, &penalty, &slope}, workspace);
}

void sparse_kl(const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
               const TensorRef& slope, double rho, double beta, int) {
  std::vector<double> workspace = fresh_workspace(cuda::sparse_workspace(activations));
  forget_stores();
  cuda::sparse_forward<cuda::Identity>(HostLauncher{}, activations, {}, sums, penalty, slope, rho, beta,
                                       workspace.data());
  expect_stored_once({&sums, &penalty, &slope}, workspace);
}

void sparse_kl_from_sums(const TensorRef& sums, const TensorRef& penalty, const TensorRef& slope,
                         double samples, double scale, double rho, double beta) {
  std::vector<double> workspace = fresh_workspace(slope.size[0]);
  TensorRef count;
  count.data = &samples;
  forget_stores();
  cuda::sparse_from_sums(HostLauncher{}, sums, count, penalty, slope, scale, rho, beta, workspace.data());
  expect_stored_once({&penalty, &slope}, workspace);
}

void sparse_sigmoid_backward(const TensorRef& grad_activations, const TensorRef& z, const TensorRef& slope,
                             const TensorRef& grad_penalty, const TensorRef& grad_z, int) {
  forget_stores();
  cuda::sparse_backward(HostLauncher{}, grad_activations, z, slope, grad_penalty, grad_z);
  expect_stored_once({&grad_z});
}

}  // namespace

const Kernels& cuda_on_host() {
  static const Kernels table = [] {
    Kernels k{};
    k.isa = "cuda";
    k.conv2d = convolution<false>;
    k.conv_transpose2d = convolution<true>;
    k.conv_transformed_size = conv_transformed_size;
    k.conv_weight_grad = conv_weight_grad;
    k.max_pool2d_with_switches = max_pool2d_with_switches;
    k.max_pool2d_backward = max_pool2d_backward;
    k.max_pool2d_gather = max_pool2d_gather;
    k.max_unpool2d = max_unpool2d;
    k.max_unpool2d_backward = max_unpool2d_backward;
    k.sparse_sigmoid = sparse_sigmoid;
    k.sparse_kl = sparse_kl;
    k.sparse_kl_from_sums = sparse_kl_from_sums;
    k.sparse_sigmoid_backward = sparse_sigmoid_backward;
    return k;
  }();
  return table;
}

}  // namespace testing
}  // namespace deconvkit
