// The command line of the test programs: [--rounds N] [OP ...]: every test, or the named ones. A round is one
// random problem; the default suits an optimised build, sanitizers and valgrind want fewer.
#pragma once
#include <chrono>
#include <cstdlib>

#include "harness.h"

namespace deconvkit::testing {

class Runner {
 public:
  Runner(int argc, char** argv, int rounds) : rounds_(rounds) {
    for (int i = 1; i < argc; ++i) {
      if (std::string(argv[i]) == "--rounds" && i + 1 < argc) {
        rounds_ = std::atoi(argv[++i]);
      } else {
        wanted_.emplace_back(argv[i]);
      }
    }
  }

  // Every wanted test with these kernels.
  void run(const Kernels& kernels) {
    for (const Test& test : tests()) {
      bool chosen = wanted_.empty();
      for (const std::string& name : wanted_) chosen = chosen || name == test.name;
      if (!chosen) continue;
      ++run_;
      const int before = failures();
      const auto start = std::chrono::steady_clock::now();
      Random random(1);
      for (int round = 0; round < rounds_; ++round) test.run(random, kernels);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      std::printf("%-8s %-28s %-6s %5.1f s\n", kernels.isa, test.name, failures() == before ? "ok" : "FAILED",
                  seconds.count());
      std::fflush(stdout);
    }
  }

  bool ran_all() const { return wanted_.empty(); }

  // The exit status.
  int result() const {
    if (failures()) std::printf("%d checks failed\n", failures());
    if (!run_) std::printf("no such test\n");
    return failures() || !run_ ? 1 : 0;
  }

 private:
  int rounds_, run_ = 0;
  std::vector<std::string> wanted_;
};

}  // namespace deconvkit::testing
