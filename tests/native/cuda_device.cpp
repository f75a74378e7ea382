// test_cuda_device [--rounds N] [OP ...]: the CUDA kernels on a GPU, without torch, held against the naive
// loops that the CPU's kernels are held against. Small and strict about memory: for compute-sanitizer.
#include <cuda_runtime.h>

#include <initializer_list>

#include "conv_case.h"
#include "cuda/kernels.h"
#include "runner.h"

namespace deconvkit::testing {
namespace {

// A tensor's elements, gaps included, in the device's memory while this lives; copied back at the end.
class OnDevice {
 public:
  explicit OnDevice(const TensorRef& host) : host_(host), ref_(host) {
    if (!host || host.numel() == 0) return;
    int64_t last = 0;
    for (int i = 0; i < host.rank; ++i) last += (host.size[i] - 1) * host.stride[i];
    bytes_ = static_cast<size_t>((last + 1) * bytes_of(host.dtype));
    const size_t offset = reinterpret_cast<uintptr_t>(host.data) % 16;  // keeps the alignment
    cuda::check(cudaMalloc(&block_, offset + bytes_), "cudaMalloc");
    ref_.data = static_cast<char*>(block_) + offset;
    cuda::check(cudaMemcpy(ref_.data, host.data, bytes_, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  ~OnDevice() {
    if (block_ == nullptr) return;
    cuda::check(cudaMemcpy(host_.data, ref_.data, bytes_, cudaMemcpyDeviceToHost), "cudaMemcpy");
    cudaFree(block_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  operator const TensorRef&() const { return ref_; }

 private:
  TensorRef host_, ref_;
  void* block_ = nullptr;
  size_t bytes_ = 0;
};

template <cuda::Pool* Op>
bool pool(const TensorRef& a, const TensorRef& b, const TensorRef& c, const PoolShape& s, int) {
  Op(OnDevice(a), OnDevice(b), OnDevice(c), s, {});
  return true;
}

// A workspace of NaN.
struct Workspace {
  std::vector<double> numbers;
  TensorRef ref;

  explicit Workspace(int64_t doubles, double value = std::nan("")) : numbers(doubles, value) {
    ref.data = numbers.data();
    ref.dtype = DType::kFloat64;
    ref.rank = 1;
    ref.size[0] = doubles;
    ref.stride[0] = 1;
  }
};

template <auto Op, bool Transposed>
void convolution(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                 const TensorRef& output, const ConvShape& s, const ConvOptions& options, int) {
  const OnDevice in(input), out(output);
  const Workspace w(cuda::conv_workspace_size(in, out, s, options, Transposed));
  Op(in, OnDevice(weight), OnDevice(bias), out, s, options, OnDevice(w.ref), {});
}

void conv_weight_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad,
                      const ConvShape& s, ConvAlgorithm algorithm, int) {
  weight_bias_grad(small, large, grad, {}, BiasSide::kNone, s, algorithm);
}

// There is no Winograd: every call is the direct sum.
int64_t conv_transformed_size(bool, DType, const ConvShape&) { return 0; }

void sparse_sigmoid(const TensorRef& z, const TensorRef& activations, const TensorRef& sums,
                    const TensorRef& penalty, const TensorRef& slope, double rho, double beta, int) {
  const Workspace w(cuda::sparse_workspace_size(z));
  cuda::sparse_sigmoid(OnDevice(z), OnDevice(activations), OnDevice(sums), OnDevice(penalty), OnDevice(slope),
                       rho, beta, OnDevice(w.ref), {});
}

void sparse_kl(const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
               const TensorRef& slope, double rho, double beta, int) {
  const Workspace w(cuda::sparse_workspace_size(activations));
  cuda::sparse_kl(OnDevice(activations), OnDevice(sums), OnDevice(penalty), OnDevice(slope), rho, beta,
                  OnDevice(w.ref), {});
}

void sparse_kl_from_sums(const TensorRef& sums, const TensorRef& penalty, const TensorRef& slope,
                         double samples, double scale, double rho, double beta) {
  const Workspace w(slope.size[0]), count(1, samples);
  cuda::sparse_kl_from_sums(OnDevice(sums), OnDevice(count.ref), OnDevice(penalty), OnDevice(slope), scale,
                            rho, beta, OnDevice(w.ref), {});
}

void sparse_sigmoid_backward(const TensorRef& grad_activations, const TensorRef& z, const TensorRef& slope,
                             const TensorRef& grad_penalty, const TensorRef& grad_z, int) {
  cuda::sparse_sigmoid_backward(OnDevice(grad_activations), OnDevice(z), OnDevice(slope),
                                OnDevice(grad_penalty), OnDevice(grad_z), {});
}

Kernels on_device() {
  Kernels k{};
  k.isa = "device";
  k.conv2d = convolution<cuda::conv2d, false>;
  k.conv_transpose2d = convolution<cuda::conv_transpose2d, true>;
  k.conv_transformed_size = conv_transformed_size;
  k.conv_weight_grad = conv_weight_grad;
  k.max_pool2d_with_switches = pool<cuda::max_pool2d_with_switches>;
  k.max_pool2d_backward = pool<cuda::max_pool2d_backward>;
  k.max_pool2d_gather = pool<cuda::max_pool2d_gather>;
  k.max_unpool2d = pool<cuda::max_unpool2d>;
  k.max_unpool2d_backward = pool<cuda::max_unpool2d_backward>;
  k.sparse_sigmoid = sparse_sigmoid;
  k.sparse_kl = sparse_kl;
  k.sparse_kl_from_sums = sparse_kl_from_sums;
  k.sparse_sigmoid_backward = sparse_sigmoid_backward;
  return k;
}

}  // namespace

// There is one device, and it tells by its results alone.
void choose_device(Random&) {}
void expect_implicit_gemm(DType) {}
void choose_hopper(bool, bool) {}
void expect_hoppers_own(bool) {}
void expect_reading(Reading) {}

bool weight_bias_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const TensorRef& grad_bias, BiasSide side, const ConvShape& s,
                      ConvAlgorithm algorithm) {
  const OnDevice a(small), b(large), weight(grad_weight), bias(grad_bias);
  const Workspace w(cuda::conv_weight_grad_workspace_size(a, b, weight, side, s, algorithm));
  return cuda::conv_weight_grad(a, b, weight, bias, side, s, algorithm, OnDevice(w.ref), {});
}

}  // namespace deconvkit::testing

int main(int argc, char** argv) {
  using namespace deconvkit;
  testing::Runner runner(argc, argv, 40);
  testing::skips_bad_switches = true;
  try {
    cuda::prepare(0);
    runner.run(testing::on_device());
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
  return runner.result();
}
