// Small integer arithmetic of the planning code. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

constexpr int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
// The size of the parts when n is cut into as few parts of at most `most` as can be, all about alike.
constexpr int64_t balanced(int64_t n, int64_t most) { return ceil_div(n, ceil_div(n, most)); }

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
