// The implicit GEMMs of cuda_host.h and conv_case.h, and the asynchronous copies that they make.
#include <algorithm>

#include "conv_case.h"
#include "cuda/conv_weight_grad_gemm.cuh"
#include "cuda/implicit_gemm.cuh"
#include "cuda/implicit_gemm_sm90.cuh"
#include "cuda_host.h"

namespace deconvkit {

namespace {
struct Copy {
  void* to;
  const void* from;  // nullptr: zeros

  void land() const {
    if (from == nullptr) std::memset(to, 0, 16);
    if (from != nullptr) std::memcpy(to, from, 16);
  }
};
struct Copies {
  bool late = false;
  size_t thread = 0;
  std::vector<std::vector<std::vector<Copy>>> groups;  // of each thread, oldest first; the last is open
};
Copies copies;
}  // namespace

void cuda::on_copy(void* to, const void* from, bool valid) {
  EXPECT(reinterpret_cast<uintptr_t>(to) % 16 == 0, "a copy to an address that is not aligned");
  EXPECT(!valid || reinterpret_cast<uintptr_t>(from) % 16 == 0, "a copy from an address that is not aligned");
  const Copy copy{to, valid ? from : nullptr};
  if (copies.late) return copies.groups[copies.thread].back().push_back(copy);
  copy.land();
}
void cuda::on_commit() { copies.groups[copies.thread].emplace_back(); }
void cuda::on_wait(int youngest) {
  auto& mine = copies.groups[copies.thread];
  while (static_cast<int>(mine.size()) - 1 > youngest) {
    for (const Copy& copy : mine.front()) copy.land();
    mine.erase(mine.begin());
  }
}

namespace testing {

void begin_copies(int32_t threads) {
  copies.late = !copies.late;
  copies.groups.assign(threads, {{}});
}
void copying_thread(int32_t thread) { copies.thread = thread; }
void expect_no_copies() {
  for (const auto& mine : copies.groups) {
    for (const auto& group : mine) EXPECT(group.empty(), "a block ended with copies in flight");
  }
}

namespace {
bool implicit_gemm_served = false, sm90_served = false, read_by_numbers = false;  // the last call
}

void choose_device(Random& random) { HostLauncher::architecture = random.any_of({75, 80, 90, 120}); }
void expect_implicit_gemm(DType dtype) {
  EXPECT(implicit_gemm_served == (HostLauncher::architecture >= 80 && dtype != DType::kFloat64),
         "served %d on sm_%d", implicit_gemm_served, HostLauncher::architecture);
}
void choose_hopper(bool makes_maps) {
  HostLauncher::architecture = 90;
  HostLauncher::makes_maps = makes_maps;
}
void expect_hoppers_own(bool wanted) {
  EXPECT(implicit_gemm_served && sm90_served == (wanted && !read_by_numbers),
         "Hopper's own kernel served %d, wanted %d, by numbers %d", sm90_served, wanted, read_by_numbers);
}

bool implicit_gemm_on_host(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                           const TensorRef& output, const ConvShape& s, const ConvOptions& options,
                           bool transposed) {
  std::vector<double> workspace(
      std::max(cuda::implicit_gemm_workspace_size(input, output, s, transposed),
               cuda::implicit_gemm_sm90_workspace_size(input, output, s, transposed)),
      NAN);
  forget_stores();
  const auto run = [&](auto& kernel) {
    return kernel(HostLauncher{}, input, weight, bias, output, s, options, transposed, workspace.data());
  };
  sm90_served = run(cuda::implicit_gemm_sm90<HostLauncher>);
  implicit_gemm_served = sm90_served || run(cuda::implicit_gemm<HostLauncher>);
  cuda::for_gemm_dtype(input.dtype, [&](auto t) {
    read_by_numbers = cuda::reads_numbers<typename decltype(t)::type>(input, s, transposed);
  });
  if (implicit_gemm_served) expect_stored_once({&output}, workspace);
  return implicit_gemm_served;
}

bool weight_bias_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const TensorRef& grad_bias, BiasSide side, const ConvShape& s,
                      ConvAlgorithm algorithm) {
  std::vector<double> workspace(cuda::weight_grad_gemm_workspace_size(small, large, grad_weight, side, s),
                                NAN);
  forget_stores();
  implicit_gemm_served = cuda::weight_grad_gemm(HostLauncher{}, small, large, grad_weight, grad_bias, side, s,
                                                algorithm, workspace.data());
  if (implicit_gemm_served) {
    expect_stored_once({&grad_weight, &grad_bias}, workspace);
    return side != BiasSide::kNone;
  }
  cuda_on_host().conv_weight_grad(small, large, grad_weight, s, ConvAlgorithm::kDirect, 1);
  return false;
}

}  // namespace testing
}  // namespace deconvkit
