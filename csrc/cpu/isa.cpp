#include "cpu/isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace deconvkit {

#ifdef DECONVKIT_HAS_scalar
namespace scalar {
const Kernels& kernel_table();
}
#endif
#ifdef DECONVKIT_HAS_avx2
namespace avx2 {
const Kernels& kernel_table();
}
#endif
#ifdef DECONVKIT_HAS_avx2x2
namespace avx2x2 {
const Kernels& kernel_table();
}
#endif
#ifdef DECONVKIT_HAS_avx512
namespace avx512 {
const Kernels& kernel_table();
}
#endif

namespace {

struct Isa {
  const char* name;
  const Kernels& (*table)();
  bool (*supported)();
  bool automatic;  // may be chosen without being named
};

#ifdef __x86_64__
[[maybe_unused]] bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
[[maybe_unused]] bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// From the portable set to the widest.
const Isa kIsas[] = {
#ifdef DECONVKIT_HAS_scalar
    {"scalar", scalar::kernel_table, [] { return true; }, true},
#endif
#ifdef DECONVKIT_HAS_avx2x2
    {"avx2x2", avx2x2::kernel_table, has_avx2, false},
#endif
#ifdef DECONVKIT_HAS_avx2
    {"avx2", avx2::kernel_table, has_avx2, true},
#endif
#ifdef DECONVKIT_HAS_avx512
    {"avx512", avx512::kernel_table, has_avx512, true},
#endif
};

std::atomic<const Kernels*> current{nullptr};

const Kernels* choose(const std::string& name) {
  const Isa* best = nullptr;
  std::string names;
  for (const Isa& isa : kIsas) {
    const bool supported = isa.supported();
    if (supported) names += (names.empty() ? "" : ", ") + std::string(isa.name);
    if (supported && (name.empty() ? isa.automatic : name == isa.name)) best = &isa;
  }
  if (!best) {
    throw std::invalid_argument("DECONVKIT_ISA: expected one of " + names + " on this processor, got '" +
                                name + "'; unset it to choose automatically");
  }
  return &best->table();
}

}  // namespace

const Kernels& kernels() {
  const Kernels* table = current.load(std::memory_order_acquire);
  if (!table) {
    const char* forced = std::getenv("DECONVKIT_ISA");
    table = choose(forced ? forced : "");
    current.store(table, std::memory_order_release);
  }
  return *table;
}

void select_isa(const std::string& name) { current.store(choose(name), std::memory_order_release); }

bool dots_pairs() {
#ifdef __x86_64__
  static const bool has = has_avx512() && __builtin_cpu_supports("avx512bf16");
  return has;
#else
  return false;
#endif
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) {
    if (isa.supported()) names.emplace_back(isa.name);
  }
  return names;
}

}  // namespace deconvkit
