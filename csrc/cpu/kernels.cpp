// The kernel table of one instruction set.
#include "cpu/kernels.h"

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

void max_pool2d_with_switches(const TensorRef&, const TensorRef&, const TensorRef&, const PoolShape&, int);

const Kernels& kernel_table() {
  static constexpr Kernels table = {
      DECONVKIT_ISA_NAME,
      kVectorBytes,
      max_pool2d_with_switches,
  };
  return table;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
