// Numbers as they are stored, and groups of them: 16 bytes where the address allows it, else one by one.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "dispatch.h"
#include "geometry/host_device.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define DECONVKIT_UNROLL _Pragma("unroll")
#define DECONVKIT_UNROLL_4 _Pragma("unroll 4")  // a long loop that waits for memory
#define DECONVKIT_ROLL _Pragma("unroll 1")      // a loop whose copies would cost registers
#define DECONVKIT_INLINE DECONVKIT_HD __forceinline__
#else
#define DECONVKIT_UNROLL
#define DECONVKIT_UNROLL_4
#define DECONVKIT_ROLL
#define DECONVKIT_INLINE DECONVKIT_HD inline
#endif

namespace deconvkit::cuda {

// Elements of T in 16 bytes.
template <class T>
constexpr int kVector = 16 / static_cast<int>(sizeof(T));

template <class To, class From>
DECONVKIT_INLINE To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "bits_as keeps the size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// ---- to and from the compute type ----

DECONVKIT_INLINE float widen(float x) { return x; }
DECONVKIT_INLINE double widen(double x) { return x; }
DECONVKIT_INLINE float widen(BFloat16 x) { return bits_as<float>(static_cast<uint32_t>(x.bits) << 16); }
DECONVKIT_INLINE float widen(Float16 x) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return bits_as<float>(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  const float magnitude =
      rest < 0x400 ? static_cast<float>(rest) * 0x1p-24f : bits_as<float>((rest << 13) + (112u << 23));
  return sign ? -magnitude : magnitude;
#endif
}

template <class T>
struct Narrow {
  DECONVKIT_INLINE static T from(T x) { return x; }
};
template <>
struct Narrow<BFloat16> {
  DECONVKIT_INLINE static BFloat16 from(float x) {  // to nearest even; NaN stays one
    const uint32_t bits = bits_as<uint32_t>(x);
    return {static_cast<uint16_t>(x != x ? 0x7fc0u : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
  }
};
template <>
struct Narrow<Float16> {
  DECONVKIT_INLINE static Float16 from(float x) {
#ifdef __CUDA_ARCH__
    return {__half_as_ushort(__float2half_rn(x))};
#else
    const uint32_t bits = bits_as<uint32_t>(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return {0x7fff};
    if (rest >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};
    if (rest < 0x38800000) {  // multiples of 2^-24, the spacing of floats from 1/2 on
      return {static_cast<uint16_t>(sign | (bits_as<uint32_t>(bits_as<float>(rest) + 0.5f) - 0x3f000000u))};
    }
    return {static_cast<uint16_t>(sign | ((rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13))};
#endif
  }
};
template <class T>
DECONVKIT_INLINE T narrow(Compute<T> x) {
  return Narrow<T>::from(x);
}

// ---- memory ----

#ifndef __CUDACC__
// Told of every store, by tests that count them (tests/native/cuda_host.cpp).
void on_store(const void* to, int64_t bytes);
#endif

// N neighbours, moved at once: aligned to their size, at most 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Group {
  T at[N];
};

template <int N, class T>
DECONVKIT_INLINE Group<T, N> load(const T* from) {
  return *reinterpret_cast<const Group<T, N>*>(from);
}
#ifdef __CUDA_ARCH__
template <int kBytes>
struct WordOf;
template <>
struct WordOf<16> {
  using type = uint4;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<4> {
  using type = uint32_t;
};
template <>
struct WordOf<2> {
  using type = uint16_t;
};
template <>
struct WordOf<1> {
  using type = uint8_t;
};
#endif
// To global memory alone: __stcg() writes nowhere else.
template <int N, class T>
DECONVKIT_INLINE void store(T* to, const Group<T, N>& group) {
#ifndef __CUDACC__
  on_store(to, sizeof(group));
#endif
#ifdef __CUDA_ARCH__
  // Words, and not to be taken apart: of two groups whose elements are chosen one by one nvcc stored the
  // second by single elements.
  using Part = typename WordOf<alignof(Group<T, N>)>::type;
  struct Parts {
    Part at[sizeof(group) / sizeof(Part)];
  };
  const Parts parts = bits_as<Parts>(group);
  DECONVKIT_UNROLL
  for (size_t i = 0; i < sizeof(Parts) / sizeof(Part); ++i) {
    __stcg(reinterpret_cast<Part*>(to) + i, parts.at[i]);
  }
#else
  *reinterpret_cast<Group<T, N>*>(to) = group;
#endif
}
template <class T>
DECONVKIT_INLINE void store(T* to, T value) {
#ifndef __CUDACC__
  on_store(to, sizeof(value));
#endif
  *to = value;
}

// ---- what a tensor's layout allows ----

inline bool unit_stride(const TensorRef& t, int dim) { return t.size[dim] == 1 || t.stride[dim] == 1; }

// Whether a group of `n` elements of `bytes` along `dim`, at any multiple of n, is aligned to its size.
inline bool groups_along(const TensorRef& t, int dim, int n, int bytes) {
  if (!unit_stride(t, dim) || reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(n * bytes)) {
    return false;
  }
  for (int i = 0; i < t.rank; ++i) {
    if (i != dim && t.size[i] != 1 && t.stride[i] % n) return false;
  }
  return true;
}

// Whether the dimensions from `dim` on are runs of elements without gaps, in which any group of `n` elements
// of `bytes`, at any multiple of n, is aligned to its size.
inline bool runs_from(const TensorRef& t, int dim, int n, int bytes) {
  if (reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(n * bytes)) return false;
  int64_t next = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    if (t.size[i] != 1 && (i < dim ? t.stride[i] % n != 0 : t.stride[i] != next)) return false;
    next *= t.size[i];
  }
  return true;
}

}  // namespace deconvkit::cuda
