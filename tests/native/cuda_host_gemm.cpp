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
bool implicit_gemm_served = false, sm90_served = false;  // the last call
bool sm90_of_few_tiles = false;
int packed = 0, by_numbers = 0;                                  // kernels of the last convolution
int readings = 0, packed_readings = 0, by_numbers_readings = 0;  // of all that a test asked after

// Notes how an input comes to the tensor cores.
struct GemmLauncher : HostLauncher {
  using HostLauncher::operator();
  template <class T>
  void operator()(const cuda::PackInput<T>& kernel, int64_t tiles) const {
    ++packed;
    HostLauncher::operator()(kernel, tiles);
  }
  template <class T, int kColumns, bool kExact>
  void operator()(const cuda::ImplicitGemm<T, kColumns, kExact, true>& kernel, int64_t tiles) const {
    ++by_numbers;
    HostLauncher::operator()(kernel, tiles);
  }
};
}  // namespace

void choose_device(Random& random) { HostLauncher::architecture = random.any_of({75, 80, 90, 120}); }
void expect_implicit_gemm(DType dtype) {
  EXPECT(implicit_gemm_served == (HostLauncher::architecture >= 80 && dtype != DType::kFloat64),
         "served %d on sm_%d", implicit_gemm_served, HostLauncher::architecture);
}
void choose_hopper(bool makes_maps, bool of_few_tiles) {
  HostLauncher::architecture = 90;
  HostLauncher::makes_maps = makes_maps;
  sm90_of_few_tiles = of_few_tiles;
}
void expect_hoppers_own(bool wanted) {
  EXPECT(implicit_gemm_served && sm90_served == wanted, "Hopper's own kernel served %d, wanted %d",
         sm90_served, wanted);
}
void expect_reading(Reading wanted) {
  if (!implicit_gemm_served) return;
  if (sm90_served) {  // reads no numbers, and has no maps of expanded inputs
    EXPECT(by_numbers == 0 && packed <= 1 && (packed || wanted == Reading::kInPlace),
           "an input packed %d times and read by numbers %d times by Hopper's own kernel", packed,
           by_numbers);
    return;
  }
  EXPECT(packed == (wanted == Reading::kPacked) && by_numbers == (wanted == Reading::kByNumbers),
         "an input packed %d times and read by numbers %d times, wanted %d", packed, by_numbers,
         static_cast<int>(wanted));
  ++readings;
  packed_readings += packed;
  by_numbers_readings += by_numbers;
}
void expect_every_reading() {
  EXPECT(readings < 20 || (packed_readings && by_numbers_readings), "of %d inputs %d packed, %d by numbers",
         readings, packed_readings, by_numbers_readings);
}

bool implicit_gemm_on_host(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                           const TensorRef& output, const ConvShape& s, const ConvOptions& options,
                           bool transposed) {
  // As the entry of the module (csrc/cuda/implicit_gemm.cu).
  const bool for_sm90 = cuda::is_for_sm90(s, options, transposed) ||
                        (sm90_of_few_tiles && options.algorithm != ConvAlgorithm::kImplicitGemmMma);
  int64_t doubles = cuda::implicit_gemm_workspace_size(input, output, s, transposed);
  if (for_sm90) {
    doubles = std::max(doubles, cuda::implicit_gemm_sm90_workspace_size(input, output, s, transposed));
  }
  std::vector<double> workspace(doubles, NAN);
  forget_stores();
  const auto run = [&](auto& kernel) {
    return kernel(GemmLauncher{}, input, weight, bias, output, s, options, transposed, workspace.data());
  };
  packed = by_numbers = 0;
  sm90_served = for_sm90 && run(cuda::implicit_gemm_sm90<GemmLauncher>);
  implicit_gemm_served = sm90_served || run(cuda::implicit_gemm<GemmLauncher>);
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
