// Runs kernels of roles (csrc/cuda/roles.cuh) on the CPU: a step at a time of one of the roles whose barrier
// lets it pass, or the landing of a copy, in some order, until all is done. Barriers, copies and products are
// models of the instructions (cuda_host_sm90.cpp).
#pragma once
#include <cstring>
#include <vector>

#include "cuda/roles.cuh"
#include "harness.h"

namespace deconvkit::testing {

// A block's barriers, copies and products begin: none yet. Its shared memory is here.
void begin_block(const void* shared, int64_t bytes);
bool is_over(const cuda::Barrier& barrier, uint32_t parity);
int64_t copies_under_way();
void land_copy(int64_t which);
// Fails unless nothing is under way and no phase has begun that is not over.
void expect_all_over();

// A group of threads of a role.
template <class Kernel, class Role>
class Party {
 public:
  Party(const Kernel& kernel, typename Kernel::Shared& shared, int64_t block, int64_t blocks, int32_t group)
      : kernel_(kernel),
        shared_(shared),
        place_{block, blocks, group * Role::kGroup},
        own_(Role::kGroup),
        steps_(kernel.steps(place_, own_[0])) {}

  bool is_done() const { return next_ == steps_; }
  bool can_step() const {
    if (is_done()) return false;
    const cuda::Need need = kernel_.need(next_, shared_, own_[0]);
    return need.barrier == nullptr || is_over(*need.barrier, need.parity);
  }
  void step() {
    for (int32_t i = 0; i < Role::kGroup; ++i) {
      const int32_t thread = next_ % 2 ? Role::kGroup - 1 - i : i;
      cuda::Place place = place_;
      place.thread += thread;
      kernel_.step(next_, place, shared_, own_[thread]);
    }
    ++next_;
  }

 private:
  const Kernel& kernel_;
  typename Kernel::Shared& shared_;
  cuda::Place place_;
  std::vector<Role> own_;
  int64_t steps_, next_ = 0;
};

// In which order: any, copies as early as may be, or as late.
enum class Order { kAny, kEarly, kLate };

template <class Kernel>
void run_roles_block(const Kernel& kernel, int64_t block, int64_t blocks, Order order, Random& random) {
  using Consumer = typename Kernel::Consumer;
  std::vector<typename Kernel::Shared> shared(1);
  std::memset(static_cast<void*>(shared.data()), 0xff, sizeof(shared[0]));  // NaN
  begin_block(shared.data(), sizeof(shared[0]));
  kernel.begin(shared[0]);
  Party<Kernel, typename Kernel::Producer> producer(kernel, shared[0], block, blocks, 0);
  std::vector<Party<Kernel, Consumer>> consumers;
  for (int32_t g = 0; g < Consumer::kGroups; ++g) consumers.emplace_back(kernel, shared[0], block, blocks, g);
  for (;;) {
    std::vector<int> ready;  // parties by number, the producer last
    bool done = producer.is_done();
    for (int i = 0; i < Consumer::kGroups; ++i) {
      if (consumers[i].can_step()) ready.push_back(i);
      done = done && consumers[i].is_done();
    }
    if (producer.can_step()) ready.push_back(Consumer::kGroups);
    const int64_t copies = copies_under_way();
    if (done && copies == 0) break;
    if (ready.empty() && copies == 0) {
      EXPECT(false, "nobody can go on: a deadlock");
      return;
    }
    const bool land =
        copies > 0 && (ready.empty() || order == Order::kEarly || (order == Order::kAny && random.one_in(3)));
    if (land) {
      land_copy(random.between(0, copies - 1));
      continue;
    }
    const int who = ready[random.between(0, static_cast<int64_t>(ready.size()) - 1)];
    if (who == Consumer::kGroups) {
      producer.step();
    } else {
      consumers[who].step();
    }
  }
  expect_all_over();
}

}  // namespace deconvkit::testing
