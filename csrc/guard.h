// The last line before the kernels: tensors whose sizes do not belong together throw std::invalid_argument
// (ValueError) instead of being read or written outside their memory. ops/<op>.py has checked the arguments
// of a public call, with messages for the user; this is for torch.ops.deconvkit.* called directly.
#pragma once
#include <array>
#include <stdexcept>
#include <string>

#include "cpu/kernels.h"
#include "geometry/switches.h"

namespace deconvkit::guard {

inline void require(bool fits, const char* wanted) {
  if (!fits)
    throw std::invalid_argument(std::string("deconvkit: the tensors do not fit: expected ") + wanted);
}

constexpr int64_t kMaxInt = (int64_t{1} << 31) - 1;  // of a geometry argument, as in ops/_arguments.py

inline bool is_float(const TensorRef& t) { return t.dtype >= DType::kFloat32 && t.dtype <= DType::kFloat16; }

// Whether there is memory behind the sizes: none behind a tensor of another device or a fake one.
inline bool has_data(const TensorRef& t) {
  for (int i = 0; i < t.rank; ++i) {
    if (t.size[i] == 0) return true;
  }
  return t.data != nullptr;
}

inline bool is_contiguous(const TensorRef& t, int from = 0) {
  int64_t expected = 1;
  for (int i = t.rank - 1; i >= from; --i) {
    if (t.size[i] != 1 && t.stride[i] != expected) return false;
    expected *= t.size[i];
  }
  return true;
}

inline bool same_sizes(const TensorRef& a, const TensorRef& b, int dims) {
  for (int i = 0; i < dims; ++i) {
    if (a.size[i] != b.size[i]) return false;
  }
  return a.rank == b.rank;
}

inline void copy(const TensorRef& input, const TensorRef& output) {
  require(input.rank == 4 && same_sizes(input, output, 4), "tensors of four dimensions and the same sizes");
  require(is_float(input) && input.dtype == output.dtype, "tensors of one floating dtype");
  require(has_data(input) && has_data(output), "tensors in the device's memory");
}

inline void channel_sums(const TensorRef& input, const TensorRef& output) {
  const int64_t h = input.size[2], w = input.size[3];
  require(input.rank == 4 && (w == 1 || input.stride[3] == 1) && (h == 1 || input.stride[2] == w),
          "a tensor of four dimensions with dense planes");
  require(output.rank == 1 && output.size[0] == input.size[1], "a sum for each channel");
  require(is_float(input) && input.dtype == output.dtype, "tensors of one floating dtype");
  require(has_data(input) && has_data(output), "tensors in the device's memory");
}

// Any sizes of the two sides go together: an index outside a side reads as zero and is not written.
inline void convolution(const TensorRef& small, const TensorRef& large, const TensorRef& weight,
                        const ConvShape& s) {
  require(small.rank == 4 && large.rank == 4 && weight.rank == 4, "tensors of three or of four dimensions");
  require(is_float(small) && small.dtype == large.dtype && small.dtype == weight.dtype,
          "tensors of one floating dtype");
  require(has_data(small) && has_data(large) && has_data(weight), "tensors in the device's memory");
  require(small.size[0] == large.size[0], "one batch");
  require(s.groups >= 1 && s.groups <= s.small_channels && s.small_channels % s.groups == 0 &&
              weight.size[0] == s.small_channels && weight.size[1] >= 1 && s.large_channels % s.groups == 0 &&
              s.large_channels / s.groups == weight.size[1],
          "channels of both sides as the weight and the groups have them");
  for (const ConvAxis& a : {s.h, s.w}) {
    require(a.small >= 1 && a.large >= 1 && a.kernel >= 1, "no empty image and no empty kernel");
    require(a.stride >= 1 && a.stride <= kMaxInt && a.dilation >= 1 && a.dilation <= kMaxInt &&
                a.padding >= 0 && a.padding <= kMaxInt && a.small <= (int64_t{1} << 62) / a.stride &&
                a.kernel <= (int64_t{1} << 62) / a.dilation,
            "a stride, padding and dilation that int64 can hold");
  }
}

// The shape of a call, which has passed.
inline ConvShape conv_shape(const TensorRef& small, const TensorRef& large, const TensorRef& weight,
                            const std::array<int64_t, 2>& stride, const std::array<int64_t, 2>& padding,
                            const std::array<int64_t, 2>& dilation, int64_t groups) {
  const ConvShape shape = {
      small.size[0],
      small.size[1],
      large.size[1],
      groups,
      {small.size[2], large.size[2], weight.size[2], stride[0], padding[0], dilation[0]},
      {small.size[3], large.size[3], weight.size[3], stride[1], padding[1], dilation[1]}};
  convolution(small, large, weight, shape);
  return shape;
}

inline void epilogue(const TensorRef& bias, const TensorRef& output, int activation, int algorithm) {
  require(!bias || (bias.rank == 1 && bias.size[0] == output.size[1] && bias.dtype == output.dtype),
          "a bias of one number for each output channel");
  require(activation >= 0 && activation <= static_cast<int>(Activation::kSigmoid) && algorithm >= 0 &&
              algorithm <= static_cast<int>(ConvAlgorithm::kImplicitGemmMma),
          "a known activation and algorithm");
}

// The channels of a weight of either side, and its kernel.
inline void transform(const TensorRef& weight, const ConvShape& s) {
  require(weight.rank == 4 && is_float(weight) && has_data(weight) && weight.size[0] >= 1 &&
              weight.size[1] >= 1 && s.groups >= 1 && s.groups <= s.small_channels &&
              s.small_channels % s.groups == 0,
          "a weight whose channels the groups divide");
  for (const ConvAxis& a : {s.h, s.w}) {
    require(a.kernel >= 1 && a.stride >= 1 && a.stride <= kMaxInt && a.dilation >= 1 &&
                a.dilation <= kMaxInt && a.padding >= 0 && a.padding <= kMaxInt,
            "no empty kernel, and a stride, padding and dilation that int64 can hold");
  }
}

inline void pooling(const TensorRef& big, const TensorRef& pooled, const TensorRef& switches,
                    const PoolShape& s) {
  require(big.rank == 4 && pooled.rank == 4 && same_sizes(pooled, switches, 4),
          "tensors of four dimensions, the switches as large as what they were recorded with");
  require(is_float(big) && big.dtype == pooled.dtype, "values of one floating dtype");
  require(has_data(big) && has_data(pooled) && has_data(switches), "tensors in the device's memory");
  require(same_sizes(big, pooled, 2), "one batch and as many channels on both sides");
  for (const PoolAxis& a : {s.h, s.w}) {
    require(a.kernel >= 1 && a.kernel <= kMaxInt && a.stride >= 1 && a.stride <= kMaxInt && a.padding >= 0 &&
                a.padding <= kMaxInt && a.dilation >= 1 && a.dilation <= kMaxInt &&
                a.output <= (int64_t{1} << 62) / a.stride,
            "kernel, stride and dilation of at least 1, padding of at least 0");
  }
  const bool narrow =
      s.h.kernel <= kMaxCellsUInt8 && s.w.kernel <= kMaxCellsUInt8 && s.cells() <= kMaxCellsUInt8;
  require(switches.dtype == (narrow ? DType::kUInt8 : DType::kInt32) && s.cells() < kMaxInt,
          "uint8 switches for windows of up to 255 cells, else int32");
}

// Both (batch, outer, units, inner), contiguous in the last two dimensions.
inline void activations(const TensorRef& a, const TensorRef& b) {
  require(a.rank == 4 && is_float(a) && has_data(a) && has_data(b) && same_sizes(a, b, 4) &&
              a.dtype == b.dtype && is_contiguous(a, 2) && is_contiguous(b, 2),
          "activations of one shape and dtype");
}

// `count` numbers in a row, of the compute type.
inline bool are_numbers(const TensorRef& t, int64_t count, bool wide) {
  return t.numel() >= count && (t || count == 0) && is_contiguous(t) &&
         t.dtype == (wide ? DType::kFloat64 : DType::kFloat32);
}

inline void transformed(const TensorRef& t, DType dtype, int64_t size) {
  require(size > 0 && t.rank == 1 && t.size[0] == size && are_numbers(t, size, dtype == DType::kFloat64),
          "as many transformed weights, of the compute type, as the weight has");
}

inline void workspace(const TensorRef& t, int64_t doubles) {
  require(are_numbers(t, doubles, true), "a contiguous float64 workspace of the size that was asked for");
}

inline void gradients(const TensorRef& z, const TensorRef& slope, const TensorRef& penalty) {
  const bool wide = z.dtype == DType::kFloat64;
  require(
      are_numbers(slope, z.size[0] * z.size[2], wide) && (!penalty || are_numbers(penalty, z.size[0], wide)),
      "a contiguous slope for each unit and a penalty for each problem, of the compute type");
}

inline void statistics(const TensorRef& z, const TensorRef& sums, const TensorRef& penalty,
                       const TensorRef& slope) {
  if (!sums) return gradients(z, slope, penalty);
  require(are_numbers(sums, 2 * z.size[0] * z.size[2], true), "two contiguous float64 sums for each unit");
}

inline void from_sums(const TensorRef& sums, const TensorRef& penalty, const TensorRef& slope) {
  const bool wide = penalty.dtype == DType::kFloat64;
  require(slope.rank == 1 && are_numbers(slope, slope.size[0], wide) && are_numbers(penalty, 1, wide) &&
              are_numbers(sums, 2 * slope.size[0], true),
          "two contiguous float64 sums for each unit");
}

}  // namespace deconvkit::guard
