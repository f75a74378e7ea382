// The kernel table of one instruction set.
#include "cpu/kernels.h"

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

void max_pool2d_with_switches(const TensorRef&, const TensorRef&, const TensorRef&, const PoolShape&, int);
void conv_transpose2d(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&,
                      const ConvShape&, const ConvOptions&, int);
void conv2d(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&, const ConvShape&,
            const ConvOptions&, int);
void conv_weight_grad(const TensorRef&, const TensorRef&, const TensorRef&, const ConvShape&, ConvAlgorithm,
                      int);

const Kernels& kernel_table() {
  static constexpr Kernels table = {
      DECONVKIT_ISA_NAME, kVectorBytes, max_pool2d_with_switches, conv_transpose2d, conv2d, conv_weight_grad,
  };
  return table;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
