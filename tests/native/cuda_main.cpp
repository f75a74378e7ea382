// test_cuda [--rounds N] [OP ...]: the CUDA kernels' steps on the CPU, held against the naive loops that the
// CPU's kernels are held against. Needs no nvcc and no GPU.
#include "conv_case.h"
#include "cuda_host.h"
#include "runner.h"

int main(int argc, char** argv) {
  using namespace deconvkit::testing;
  Runner runner(argc, argv, 200);
  skips_bad_switches = true;
  runner.run(cuda_on_host());
  if (runner.ran_all()) expect_every_reading();
  return runner.result();
}
