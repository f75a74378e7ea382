// A random problem of the convolution family and its naive answer, shared by the tests of its three kernels.
#pragma once
#include "geometry/weight_grad_gemm.h"
#include "harness.h"

namespace deconvkit::testing {

struct ConvCase {
  ConvShape shape;
  DType dtype;
  int threads;
  Tensor small, large, weight;
};

// Channels of a group: at most so many on the small and the large side; few of either unless told. Where
// both are 1, there are many groups. Many pixels: more than one part of a weight gradient takes.
ConvCase any_conv(Random& random, int64_t most_small = 0, int64_t most_large = 0, bool many_pixels = false);

// The parts of it: an axis with a small side of at most `largest`; and a case's tensors, in any layout.
ConvAxis any_axis(Random& random, int64_t largest);
ConvCase conv_case(Random& random, const ConvShape& shape, DType dtype);

// Fills the tensor that a kernel is about to read.
void fill_conv(Random& random, Tensor& tensor);
Tensor any_bias(Random& random, DType dtype, int64_t channels);
ConvOptions any_options(Random& random);
// Winograd's transformed weights, which half of its calls take ready-made.
Tensor any_transformed(Random& random, const Kernels& kernels, bool transposed, const ConvCase& c,
                       ConvOptions& options);
double activated(double x, const ConvOptions& options);

// Of the program that runs the CUDA kernels (cuda_host_gemm.cpp, cuda_device.cpp): takes a device for the
// next calls, and fails unless the last one was an implicit GEMM there, or the type has none.
void choose_device(Random& random);
void expect_implicit_gemm(DType dtype);
// There, the gradients of a weight and of the bias of one side; returns whether the latter was computed.
bool weight_bias_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const TensorRef& grad_bias, BiasSide side, const ConvShape& s, ConvAlgorithm algorithm);
// The same of Hopper's own kernel, with a driver that makes tensor maps for it or refuses, and also where few
// tiles would be left to the other.
void choose_hopper(bool makes_maps, bool of_few_tiles);
void expect_hoppers_own(bool wanted);
// How the last implicit GEMM read its input; and, of many, that there was one of each.
enum class Reading { kInPlace, kPacked, kByNumbers };
void expect_reading(Reading wanted);
void expect_every_reading();

// What a sum of products comes to, and the sum of their magnitudes, which bounds rounding errors.
struct Sum {
  double value = 0, magnitude = 0;
  int64_t terms = 0;

  void add(double x) {
    value += x;
    magnitude += std::fabs(x);
    ++terms;
  }
};

// Calls f(n, small channel, large channel, small h, small w, large h, large w, kh, kw) for every product.
template <class F>
void for_each_product(const ConvShape& s, F&& f) {
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t sc = 0; sc < s.small_channels; ++sc)
      for (int64_t lc = 0; lc < s.large_channels; ++lc) {
        if (sc / (s.small_channels / s.groups) != lc / (s.large_channels / s.groups)) continue;
        for (int64_t ih = 0; ih < s.h.small; ++ih)
          for (int64_t kh = 0; kh < s.h.kernel; ++kh) {
            const int64_t lh = ih * s.h.stride - s.h.padding + kh * s.h.dilation;
            if (lh < 0 || lh >= s.h.large) continue;
            for (int64_t iw = 0; iw < s.w.small; ++iw)
              for (int64_t kw = 0; kw < s.w.kernel; ++kw) {
                const int64_t lw = iw * s.w.stride - s.w.padding + kw * s.w.dilation;
                if (lw >= 0 && lw < s.w.large) f(n, sc, lc, ih, iw, lh, lw, kh, kw);
              }
          }
      }
}

// Compares a result, row-major, with its sums.
void check_sums(const Tensor& got, const std::vector<Sum>& sums, const Tensor& bias,
                const ConvOptions& options, int64_t channel_stride, int64_t channels);

// The sums of a weight gradient, row-major.
std::vector<Sum> weight_grad_sums(const ConvCase& c);

// Fills a case's operands, runs a convolution and compares it with the sums of its products.
void check_convolution(Random& random, const Kernels& kernels, bool transposed, ConvCase& c,
                       const ConvOptions& options);

}  // namespace deconvkit::testing
