#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/sparse_kl.cuh"

namespace deconvkit::cuda {

int64_t sparse_workspace_size(const TensorRef& activations) { return sparse_workspace(activations); }

void sparse_sigmoid(const TensorRef& z, const TensorRef& activations, const TensorRef& sums,
                    const TensorRef& penalty, const TensorRef& slope, double rho, double beta,
                    const TensorRef& workspace, const Stream& stream) {
  sparse_forward<Sigmoid>(DeviceLauncher(stream), z, activations, sums, penalty, slope, rho, beta,
                          workspace.as<double>());
}

void sparse_kl(const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
               const TensorRef& slope, double rho, double beta, const TensorRef& workspace,
               const Stream& stream) {
  sparse_forward<Identity>(DeviceLauncher(stream), activations, {}, sums, penalty, slope, rho, beta,
                           workspace.as<double>());
}

void sparse_kl_from_sums(const TensorRef& sums, const TensorRef& samples, const TensorRef& penalty,
                         const TensorRef& slope, double scale, double rho, double beta,
                         const TensorRef& workspace, const Stream& stream) {
  sparse_from_sums(DeviceLauncher(stream), sums, samples, penalty, slope, scale, rho, beta,
                   workspace.as<double>());
}

void sparse_sigmoid_backward(const TensorRef& grad_activations, const TensorRef& z, const TensorRef& slope,
                             const TensorRef& grad_penalty, const TensorRef& grad_z, const Stream& stream) {
  sparse_backward(DeviceLauncher(stream), grad_activations, z, slope, grad_penalty, grad_z);
}

}  // namespace deconvkit::cuda
