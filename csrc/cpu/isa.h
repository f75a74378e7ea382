// Instruction sets. Every kernel file is compiled once per set, inside a namespace named after it, and each
// namespace offers one table of kernels; kernels() is the one place that chooses among the tables.
#pragma once
#include <string>
#include <vector>

#include "cpu/kernels.h"

namespace deconvkit {

// The table in use. First call: the best set that the processor has, or the one that DECONVKIT_ISA names.
const Kernels& kernels();

// Forces a set by name ("scalar", "avx2", "avx512"; "avx2x2" is for tests; "" chooses anew).
// Throws std::invalid_argument for a name that is unknown or that this processor cannot run.
void select_isa(const std::string& name);

// Names of the sets that are compiled in and that this processor can run, the portable one first.
std::vector<std::string> available_isas();

// Whether the processor multiplies pairs of bfloat16 (vdpbf16ps): the avx512 set does so where it can.
bool dots_pairs();

}  // namespace deconvkit
