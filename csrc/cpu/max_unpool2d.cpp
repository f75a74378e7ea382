// Max-unpooling by switches: the values of the windows to their cells and zeros elsewhere, in one pass and
// without a zero fill. Of several windows that name a cell the last in row-major order wins; backward gives
// it the gradient (cpu/by_switches.h).
#include "cpu/collect.h"
#include "cpu/spread.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

bool max_unpool2d(const TensorRef& input, const TensorRef& switches, const TensorRef& output,
                  const PoolShape& shape, int threads) {
  return spread<false>(input, switches, output, shape, threads);
}

bool max_unpool2d_backward(const TensorRef& grad_output, const TensorRef& switches,
                           const TensorRef& grad_input, const PoolShape& shape, int threads) {
  return collect<true>(grad_output, switches, grad_input, shape, threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
