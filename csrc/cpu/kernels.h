// The table of CPU kernels: one entry an op, filled in once per instruction set (kernels.cpp).
// Every kernel takes tensors that the ops layer has checked and allocated, and a thread count; results do not
// depend on the latter. A kernel that must distrust its data (switches, indices) returns false when it met a
// value that it could not use; it has then written nothing outside its output.
#pragma once
#include <cstdint>

#include "conv_options.h"
#include "geometry/conv_shape.h"
#include "geometry/pool_shape.h"
#include "tensor_ref.h"

namespace deconvkit {

struct Kernels {
  const char* isa;
  int vector_bytes;

  // Pooling: big tensors are (N, C, H, W), pooled ones and switches (N, C, OH, OW). Any strides;
  // vectorised where all of a call's tensors have unit stride along W, or all along C. False: a switch points
  // outside its window.
  using Pool = bool (*)(const TensorRef&, const TensorRef&, const TensorRef&, const PoolShape&, int threads);
  Pool max_pool2d_with_switches;  // input, output, switches; always true
  Pool max_pool2d_backward;       // grad_output, switches, grad_input: every cell sums what its windows send
  Pool max_pool2d_gather;  // input, switches, output: every window takes its cell; the adjoint of backward
  Pool max_unpool2d;       // input, switches, output: of several windows the last wins, else zero
  Pool max_unpool2d_backward;  // grad_output, switches, grad_input: the winner takes, others get zero

  // The convolution family; any strides. weight is (small channels, large channels / groups, KH, KW) in all
  // three: input -> output is small -> large in conv_transpose2d, large -> small in conv2d. bias may be
  // absent.
  void (*conv_transpose2d)(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                           const TensorRef& output, const ConvShape& shape, const ConvOptions& options,
                           int threads);
  void (*conv2d)(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                 const TensorRef& output, const ConvShape& shape, const ConvOptions& options, int threads);
  // Winograd's transformed weights, for a caller that uses a weight again: how many elements of the compute
  // type they take (0: not Winograd's), and the transform. Sizes of the two sides do not matter to either.
  int64_t (*conv_transformed_size)(bool transposed, DType dtype, const ConvShape& shape);
  void (*conv_transform_weights)(bool transposed, const TensorRef& weight, const TensorRef& transformed,
                                 const ConvShape& shape, int threads);
  void (*conv_weight_grad)(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                           const ConvShape& shape, ConvAlgorithm algorithm, int threads);

  // A hash of a dense tensor's bytes: equal for equal bytes, and different for a change of one element.
  uint64_t (*fingerprint)(const TensorRef& tensor, int threads);
  // Copies a (N, C, H, W) tensor to one of other strides.
  void (*change_layout)(const TensorRef& input, const TensorRef& output, int threads);
  // (N, C, H, W) of dense planes -> (C), of the same dtype.
  void (*channel_sums)(const TensorRef& input, const TensorRef& output, int threads);

  // The sparsity penalty. z, activations and their gradients are (batch, outer, units, inner), contiguous in
  // the last two dimensions, any strides in the first two; each of the `batch` problems has its own ρ̂.
  // penalty (batch) and slope (batch, units), slope = β KL'(ρ̂_j) / samples, are in the compute type. Where
  // sums (batch, 2, units; double: Σσ and Σ(1 - σ)) is given, penalty and slope are left to
  // sparse_kl_from_sums.
  void (*sparse_sigmoid)(const TensorRef& z, const TensorRef& activations, const TensorRef& sums,
                         const TensorRef& penalty, const TensorRef& slope, double rho, double beta,
                         int threads);
  void (*sparse_kl)(const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
                    const TensorRef& slope, double rho, double beta, int threads);
  // sums (2, units) over `samples` samples a unit -> penalty (), slope (units) times `scale`.
  void (*sparse_kl_from_sums)(const TensorRef& sums, const TensorRef& penalty, const TensorRef& slope,
                              double samples, double scale, double rho, double beta);
  // grad_z = σ'(z) (grad_activations + grad_penalty slope); an absent gradient is zero.
  void (*sparse_sigmoid_backward)(const TensorRef& grad_activations, const TensorRef& z,
                                  const TensorRef& slope, const TensorRef& grad_penalty,
                                  const TensorRef& grad_z, int threads);
};

}  // namespace deconvkit
