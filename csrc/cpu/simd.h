// Vectors of one instruction set, written in the compiler's vector extension: arithmetic, comparison and ?:
// are operators, so a kernel is the same text for 16-, 32- and 64-byte vectors, on any processor.
//
// Included only by files that are compiled once per instruction set; everything here lives in that set's
// namespace. Such files must not instantiate inline functions of shared headers that could be emitted with
// this set's instructions under a shared name (tests/native/check_isolation.py looks).
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef DECONVKIT_VECTOR_BYTES
#if defined(__AVX512F__)
#define DECONVKIT_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define DECONVKIT_VECTOR_BYTES 32
#else
#define DECONVKIT_VECTOR_BYTES 16
#endif
#endif

#define DECONVKIT_STRINGIFY_(x) #x
#define DECONVKIT_STRINGIFY(x) DECONVKIT_STRINGIFY_(x)
#define DECONVKIT_ISA_NAME DECONVKIT_STRINGIFY(DECONVKIT_ISA_NAMESPACE)

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

constexpr int kVectorBytes = DECONVKIT_VECTOR_BYTES;

// N elements of T.
template <class T, int N>
using Vec [[gnu::vector_size(N * sizeof(T))]] = T;

// Elements of T in one native vector.
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// Storage types of the half-width floats.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// The compiler's own half, for conversions (g++ before 13 knows it by another name on aarch64).
#ifdef __aarch64__
using CompilerHalf = __fp16;
#else
using CompilerHalf = _Float16;
#endif

// The type in which a storage type is computed.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<BFloat16> {
  using type = float;
};
template <>
struct ComputeOf<Float16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

template <class V, class From>
inline V bit_cast(const From& from) {
  static_assert(sizeof(V) == sizeof(From), "bit_cast keeps the size");
  V to;
  std::memcpy(&to, &from, sizeof(V));
  return to;
}

template <class T, int N>
inline Vec<T, N> splat(T x) {
  return x - Vec<T, N>{};  // x - 0 keeps the sign of a zero
}

// ---- scalar load and store with conversion ----

inline float load(const float* p) { return *p; }
inline double load(const double* p) { return *p; }
inline float load(const BFloat16* p) { return bit_cast<float>(static_cast<uint32_t>(p->bits) << 16); }
inline float load(const Float16* p) { return static_cast<float>(bit_cast<CompilerHalf>(p->bits)); }

inline void store(float* p, float x) { *p = x; }
inline void store(double* p, double x) { *p = x; }
inline void store(BFloat16* p, float x) {  // round to nearest even; NaN stays NaN
  const uint32_t bits = bit_cast<uint32_t>(x);
  p->bits = x != x ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline void store(Float16* p, float x) { p->bits = bit_cast<uint16_t>(static_cast<CompilerHalf>(x)); }

// ---- vector load and store with conversion; no alignment is assumed ----

template <int N>
inline Vec<float, N> load_vec(const float* p) {
  Vec<float, N> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <int N>
inline Vec<double, N> load_vec(const double* p) {
  Vec<double, N> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <int N>
inline Vec<float, N> load_vec(const BFloat16* p) {
  Vec<uint16_t, N> half;
  std::memcpy(&half, p, sizeof half);
  return bit_cast<Vec<float, N>>(__builtin_convertvector(half, Vec<uint32_t, N>) << 16);
}
template <int N>
inline Vec<float, N> load_vec(const Float16* p) {
#ifdef __F16C__
  if constexpr (N % 8 == 0) {
    Vec<float, N> v;
    for (int i = 0; i < N; i += 8) {
      const __m256 part = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i)));
      std::memcpy(reinterpret_cast<float*>(&v) + i, &part, sizeof part);
    }
    return v;
  }
#endif
  Vec<float, N> v;
  for (int i = 0; i < N; ++i) v[i] = load(p + i);
  return v;
}

template <int N>
inline void store_vec(float* p, Vec<float, N> v) {
  std::memcpy(p, &v, sizeof v);
}
template <int N>
inline void store_vec(double* p, Vec<double, N> v) {
  std::memcpy(p, &v, sizeof v);
}
template <int N>
inline void store_vec(BFloat16* p, Vec<float, N> v) {
  using Bits = Vec<uint32_t, N>;
  const Bits bits = bit_cast<Bits>(v);
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const auto half = __builtin_convertvector(v != v ? Bits{} + 0x7fc0 : rounded, Vec<uint16_t, N>);
  std::memcpy(p, &half, sizeof half);
}
template <int N>
inline void store_vec(Float16* p, Vec<float, N> v) {
#ifdef __F16C__
  if constexpr (N % 8 == 0) {
    for (int i = 0; i < N; i += 8) {
      __m256 part;
      std::memcpy(&part, reinterpret_cast<const float*>(&v) + i, sizeof part);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p + i),
                       _mm256_cvtps_ph(part, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    return;
  }
#endif
  for (int i = 0; i < N; ++i) store(p + i, v[i]);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
