// Runs kernels written in steps (csrc/cuda/steps.cuh) on the CPU, block by block and thread by thread, and
// notes every store, so that a test can say that each element was written once.
#pragma once
#include <cstring>
#include <initializer_list>
#include <vector>

#include "cuda/steps.cuh"
#include "geometry/launch_plan.h"
#include "harness.h"

namespace deconvkit::testing {

// A grid of at most kBlocks blocks: fewer than there are tiles, so that blocks loop. Blocks and threads run
// now forwards, now backwards: no result may depend on their order.
struct HostLauncher {
  static constexpr int64_t kBlocks = 5;

  template <class Kernel>
  void operator()(const Kernel& kernel, int64_t tiles) const {
    if (tiles <= 0) return;
    const int64_t blocks = persistent_blocks(tiles, kBlocks);
    const LaunchPlan plan{persistent_blocks(tiles, int64_t{1} << 12), Kernel::kThreads,
                          static_cast<int64_t>(sizeof(typename Kernel::Shared))};
    for (const Architecture& a : kArchitectures) EXPECT(fits(plan, a), "a launch that sm_%d refuses", a.sm);
    const bool backwards = tiles % 2;
    for (int64_t b = 0; b < blocks; ++b) run_block(kernel, backwards ? blocks - 1 - b : b, blocks);
  }

 private:
  template <class Kernel>
  static void run_block(const Kernel& kernel, int64_t block, int64_t blocks) {
    std::vector<typename Kernel::Own> own(Kernel::kThreads);
    std::vector<typename Kernel::Shared> shared(1);
    std::memset(static_cast<void*>(shared.data()), 0xff, sizeof(shared[0]));  // NaN
    std::memset(static_cast<void*>(own.data()), 0xff, sizeof(own[0]) * own.size());
    const int64_t steps = kernel.steps(block, blocks);
    for (int64_t i = 0; i < steps; ++i) {
      for (int32_t t = 0; t < Kernel::kThreads; ++t) {
        const int32_t thread = (block + i) % 2 ? Kernel::kThreads - 1 - t : t;
        kernel.step(i, {block, blocks, thread}, shared[0], own[thread]);
      }
    }
  }
};

// Forgets the stores so far.
void forget_stores();
// Fails unless every element of these tensors was stored once since then, and nothing else was but in the
// workspace, where nothing was stored twice either.
void expect_stored_once(std::initializer_list<const TensorRef*> outputs,
                        const std::vector<double>& workspace = {});

// The CUDA kernels behind the CPU kernels' table; threads are of no matter.
const Kernels& cuda_on_host();

}  // namespace deconvkit::testing
