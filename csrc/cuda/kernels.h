// The CUDA kernels' entries: those of cpu/kernels.h with a stream in the place of the thread count. Tensors
// lie in the memory of the stream's device. Nothing is allocated and nothing waited for: workspaces come from
// the caller. A switch that points outside its window is skipped.
#pragma once
#include "conv_options.h"
#include "cuda/device.h"
#include "geometry/conv_shape.h"
#include "geometry/pool_shape.h"
#include "geometry/weight_grad_gemm.h"
#include "tensor_ref.h"

namespace deconvkit::cuda {

// Pooling: contracts as in cpu/kernels.h.
using Pool = void(const TensorRef&, const TensorRef&, const TensorRef&, const PoolShape&, const Stream&);
Pool max_pool2d_with_switches;  // input, output, switches
Pool max_pool2d_backward;       // grad_output, switches, grad_input
Pool max_pool2d_gather;         // input, switches, output
Pool max_unpool2d;              // input, switches, output
Pool max_unpool2d_backward;     // grad_output, switches, grad_input

// The sparsity penalty: contracts as in cpu/kernels.h. workspace: as many doubles as the first says of these
// activations; for sparse_kl_from_sums one a unit. samples: one double in the device's memory.
int64_t sparse_workspace_size(const TensorRef& activations);
void sparse_sigmoid(const TensorRef& z, const TensorRef& activations, const TensorRef& sums,
                    const TensorRef& penalty, const TensorRef& slope, double rho, double beta,
                    const TensorRef& workspace, const Stream& stream);
void sparse_kl(const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
               const TensorRef& slope, double rho, double beta, const TensorRef& workspace,
               const Stream& stream);
void sparse_kl_from_sums(const TensorRef& sums, const TensorRef& samples, const TensorRef& penalty,
                         const TensorRef& slope, double scale, double rho, double beta,
                         const TensorRef& workspace, const Stream& stream);
void sparse_sigmoid_backward(const TensorRef& grad_activations, const TensorRef& z, const TensorRef& slope,
                             const TensorRef& grad_penalty, const TensorRef& grad_z, const Stream& stream);

// The convolution family: contracts as in cpu/kernels.h. Implicit GEMMs run where they serve, which
// implicit_gemm() and weight_grad_gemm() return; all else is the direct sum. workspace: as many doubles as
// conv_workspace_size() and conv_weight_grad_workspace_size() say.
int64_t conv_workspace_size(const TensorRef& input, const TensorRef& output, const ConvShape& shape,
                            const ConvOptions& options, bool transposed);
bool implicit_gemm(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                   const TensorRef& output, const ConvShape& shape, const ConvOptions& options,
                   bool transposed, const TensorRef& workspace, const Stream& stream);
void conv_transpose2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                      const TensorRef& output, const ConvShape& shape, const ConvOptions& options,
                      const TensorRef& workspace, const Stream& stream);
void conv2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias, const TensorRef& output,
            const ConvShape& shape, const ConvOptions& options, const TensorRef& workspace,
            const Stream& stream);
int64_t conv_weight_grad_workspace_size(const TensorRef& small, const TensorRef& large,
                                        const TensorRef& grad_weight, BiasSide side, const ConvShape& shape,
                                        ConvAlgorithm algorithm);
bool weight_grad_gemm(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const TensorRef& grad_bias, BiasSide side, const ConvShape& shape,
                      ConvAlgorithm algorithm, const TensorRef& workspace, const Stream& stream);
// Whether it computed grad_bias too, the sum over the pixels of the side that is named: implicit GEMMs do.
bool conv_weight_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const TensorRef& grad_bias, BiasSide side, const ConvShape& shape,
                      ConvAlgorithm algorithm, const TensorRef& workspace, const Stream& stream);

}  // namespace deconvkit::cuda
