// test_kernels: every test with each instruction set of this processor (runner.h).
#include "runner.h"

int main(int argc, char** argv) {
  using namespace deconvkit;
  testing::Runner runner(argc, argv, 400);
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    runner.run(kernels());
  }
  return runner.result();
}
