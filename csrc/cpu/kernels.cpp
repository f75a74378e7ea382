// The kernel table of one instruction set.
#include "cpu/kernels.h"

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

#define DECONVKIT_POOL(name) \
  bool name(const TensorRef&, const TensorRef&, const TensorRef&, const PoolShape&, int)
DECONVKIT_POOL(max_pool2d_with_switches);
DECONVKIT_POOL(max_pool2d_backward);
DECONVKIT_POOL(max_pool2d_gather);
DECONVKIT_POOL(max_unpool2d);
DECONVKIT_POOL(max_unpool2d_backward);
#undef DECONVKIT_POOL
void conv_transpose2d(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&,
                      const ConvShape&, const ConvOptions&, int);
void conv2d(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&, const ConvShape&,
            const ConvOptions&, int);
int64_t conv_transformed_size(bool, DType, const ConvShape&);
void conv_transform_weights(bool, const TensorRef&, const TensorRef&, const ConvShape&, int);
void conv_weight_grad(const TensorRef&, const TensorRef&, const TensorRef&, const ConvShape&, ConvAlgorithm,
                      int);
uint64_t fingerprint(const TensorRef&, int);
void change_layout(const TensorRef&, const TensorRef&, int);
void channel_sums(const TensorRef&, const TensorRef&, int);
void sparse_sigmoid(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&,
                    double, double, int);
void sparse_kl(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&, double, double, int);
void sparse_kl_from_sums(const TensorRef&, const TensorRef&, const TensorRef&, double, double, double,
                         double);
void sparse_sigmoid_backward(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&,
                             const TensorRef&, int);

const Kernels& kernel_table() {
  static constexpr Kernels table = {
      DECONVKIT_ISA_NAME,
      kVectorBytes,
      max_pool2d_with_switches,
      max_pool2d_backward,
      max_pool2d_gather,
      max_unpool2d,
      max_unpool2d_backward,
      conv_transpose2d,
      conv2d,
      conv_transformed_size,
      conv_transform_weights,
      conv_weight_grad,
      fingerprint,
      change_layout,
      channel_sums,
      sparse_sigmoid,
      sparse_kl,
      sparse_kl_from_sums,
      sparse_sigmoid_backward,
  };
  return table;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
