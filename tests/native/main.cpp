// test_kernels [--rounds N] [OP ...]: every test, or the named ones, with each instruction set of this
// processor. A round is one random problem; the default suits an optimised build, sanitizers and valgrind
// want fewer.
#include <chrono>
#include <cstdlib>

#include "harness.h"

int main(int argc, char** argv) {
  using namespace deconvkit;
  int rounds = 400;
  std::vector<std::string> wanted;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--rounds" && i + 1 < argc) {
      rounds = std::atoi(argv[++i]);
    } else {
      wanted.emplace_back(argv[i]);
    }
  }
  int run = 0;
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (const testing::Test& test : testing::tests()) {
      bool chosen = wanted.empty();
      for (const std::string& name : wanted) chosen = chosen || name == test.name;
      if (!chosen) continue;
      ++run;
      const int before = testing::failures();
      const auto start = std::chrono::steady_clock::now();
      testing::Random random(1);
      for (int round = 0; round < rounds; ++round) test.run(random, kernels());
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      std::printf("%-8s %-28s %-6s %5.1f s\n", isa.c_str(), test.name,
                  testing::failures() == before ? "ok" : "FAILED", seconds.count());
      std::fflush(stdout);
    }
  }
  if (testing::failures()) std::printf("%d checks failed\n", testing::failures());
  if (!run) std::printf("no such test\n");
  return testing::failures() || !run ? 1 : 0;
}
