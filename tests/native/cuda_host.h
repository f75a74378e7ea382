// Runs kernels written in steps (csrc/cuda/steps.cuh) on the CPU, block by block and thread by thread, and
// notes every store, so that a test can say that each element was written once.
#pragma once
#include <cstring>
#include <initializer_list>
#include <vector>

#include "cuda/steps.cuh"
#include "cuda_host_roles.h"
#include "geometry/launch_plan.h"
#include "harness.h"

namespace deconvkit::testing {

// Asynchronous copies (csrc/cuda/async_copy.cuh): in every other block they land at once, in the others not
// before their thread waits for them. A block begins with none, and must not end with any in flight.
void begin_copies(int32_t threads);
void copying_thread(int32_t thread);
void expect_no_copies();

// A grid of at most kBlocks blocks: fewer than there are tiles, so that blocks loop. Blocks and threads run
// now forwards, now backwards: no result may depend on their order.
struct HostLauncher {
  static constexpr int64_t kBlocks = 5;
  static inline int architecture = 90;      // that the launches pretend
  static inline bool makes_maps = true;     // whether its driver makes tensor maps
  static inline Random random = Random(1);  // in which order roles go

  // Whether that has the kernel's instructions.
  template <class Kernel>
  bool can_run() const {
    return has<Kernel>(architecture);
  }
  // A map's box, as it was told.
  bool encode(const TensorBox& box, cuda::TensorMap& map) const {
    static_assert(sizeof(box) <= sizeof(map.opaque), "a box finds room in its map");
    std::memcpy(map.opaque, &box, sizeof(box));
    return makes_maps;
  }

  template <class Kernel>
  void operator()(const Kernel& kernel, int64_t tiles) const {
    if (tiles <= 0) return;
    const int64_t blocks = persistent_blocks(tiles, kBlocks);
    const LaunchPlan plan{persistent_blocks(tiles, int64_t{1} << 12), Kernel::kThreads,
                          cuda::kShared<Kernel>};
    for (const Architecture& a : kArchitectures) {
      if (!has<Kernel>(a.sm)) continue;
      EXPECT(fits(plan, a), "a launch that sm_%d refuses", a.sm);
      EXPECT(is_small(a) || resident(plan, a) >= cuda::kResident<Kernel>, "%d blocks, wanted %d, on sm_%d",
             int(resident(plan, a)), cuda::kResident<Kernel>, a.sm);
    }
    const bool backwards = tiles % 2;
    for (int64_t b = 0; b < blocks; ++b) run(kernel, backwards ? blocks - 1 - b : b, blocks, 0);
  }

 private:
  template <class Kernel>
  static bool has(int sm) {
    constexpr int only = cuda::kOnlyArchitecture<Kernel>;
    return only ? sm == only : sm >= cuda::kLeastArchitecture<Kernel>;
  }

  template <class Kernel, class = typename Kernel::Producer>
  static void run(const Kernel& kernel, int64_t block, int64_t blocks, int) {
    run_roles_block(kernel, block, blocks, random.any_of({Order::kAny, Order::kEarly, Order::kLate}), random);
  }
  template <class Kernel>
  static void run(const Kernel& kernel, int64_t block, int64_t blocks, ...) {
    std::vector<typename Kernel::Own> own(Kernel::kThreads);
    std::vector<typename Kernel::Shared> shared(1);
    std::memset(static_cast<void*>(shared.data()), 0xff, sizeof(shared[0]));  // NaN
    std::memset(static_cast<void*>(own.data()), 0xff, sizeof(own[0]) * own.size());
    const int64_t steps = kernel.steps(block, blocks);
    begin_copies(Kernel::kThreads);
    for (int64_t i = 0; i < steps; ++i) {
      for (int32_t t = 0; t < Kernel::kThreads; ++t) {
        const int32_t thread = (block + i) % 2 ? Kernel::kThreads - 1 - t : t;
        copying_thread(thread);
        kernel.step(i, {block, blocks, thread}, shared[0], own[thread]);
      }
    }
    expect_no_copies();
  }
};

// Forgets the stores so far.
void forget_stores();
// Fails unless every element of these tensors was stored once since then, and nothing else was but in the
// workspace, where nothing was stored twice either.
void expect_stored_once(std::initializer_list<const TensorRef*> outputs,
                        const std::vector<double>& workspace = {});
// How many stores that were, the last time.
int64_t stores_of_last_call();

// Whether an implicit GEMM served the call (cuda_host_gemm.cpp), and so computed it.
bool implicit_gemm_on_host(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                           const TensorRef& output, const ConvShape& s, const ConvOptions& options,
                           bool transposed);

// The CUDA kernels behind the CPU kernels' table; threads are of no matter.
const Kernels& cuda_on_host();

}  // namespace deconvkit::testing
