#include <algorithm>

#include "cuda/implicit_gemm.cuh"
#include "cuda/implicit_gemm_sm90.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"

namespace deconvkit::cuda {

#ifdef DECONVKIT_SM90A
namespace {
// Launches Hopper's own kernels by their file's functions, all others by its base.
struct Sm90Launcher : DeviceLauncher {
  Stream stream;

  explicit Sm90Launcher(const Stream& s) : DeviceLauncher(s), stream(s) {}
  using DeviceLauncher::operator();
  template <class T, int kColumns>
  void operator()(const ImplicitGemmSm90<T, kColumns>& kernel, int64_t tiles) const {
    launch_sm90(kernel, tiles, stream);
  }
  template <class Kernel>
  bool can_run() const {
    return can_run_sm90<Kernel>(stream);
  }
};
}  // namespace
#endif

int64_t conv_workspace_size(const TensorRef& input, const TensorRef& output, const ConvShape& shape,
                            const ConvOptions& options, bool transposed) {
  if (!is_implicit_gemm(options.algorithm)) return 0;
  const int64_t doubles = implicit_gemm_workspace_size(input, output, shape, transposed);
#ifdef DECONVKIT_SM90A
  // Of whichever kernel will run, which depends on the device.
  if (is_for_sm90(shape, options, transposed)) {
    return std::max(doubles, implicit_gemm_sm90_workspace_size(input, output, shape, transposed));
  }
#endif
  return doubles;
}

bool implicit_gemm(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                   const TensorRef& output, const ConvShape& shape, const ConvOptions& options,
                   bool transposed, const TensorRef& workspace, const Stream& stream) {
#ifdef DECONVKIT_SM90A
  if (is_for_sm90(shape, options, transposed) &&
      implicit_gemm_sm90(Sm90Launcher(stream), input, weight, bias, output, shape, options, transposed,
                         workspace.data)) {
    return true;
  }
#endif
  return implicit_gemm(DeviceLauncher(stream), input, weight, bias, output, shape, options, transposed,
                       workspace.data);
}

}  // namespace deconvkit::cuda
