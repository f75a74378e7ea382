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
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "dispatch.h"

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

// How many vector registers the compiler has to work with.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorRegisters = 16;
#endif

// N elements of T.
template <class T, int N>
using Vec [[gnu::vector_size(N * sizeof(T))]] = T;

// Elements of T in one native vector.
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// Two bfloat16, the first in the low half: what one lane of vdpbf16ps multiplies.
using Pair = int32_t;

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

// ---- half-width floats without instructions for them; one number or a vector of them ----

// Integers as floats: one number, or the vector F.
template <class F, class I>
inline F to_float(I x) {
  if constexpr (__is_same(F, float)) {
    return static_cast<float>(x);
  } else {
    return __builtin_convertvector(x, F);
  }
}

// The bits of a float16, in an int32, as a float; a signalling NaN becomes quiet.
template <class F, class I>
inline F half_to_float(I half) {
  const I sign = -(half >> 15) & INT32_MIN, rest = half & 0x7fff;
  const I normal = (rest << 13) + (112 << 23);  // the exponent's bias goes from 15 to 127
  const I special = (rest << 13) | (rest > 0x7c00 ? (rest & 0) + 0x7fc00000 : (rest & 0) + 0x7f800000);
  const I denormal = bit_cast<I>(static_cast<F>(to_float<F>(rest) * 0x1p-24f));  // a normal float
  return bit_cast<F>(sign | (rest < 0x400 ? denormal : rest >= 0x7c00 ? special : normal));
}

// A float as the bits of a float16 in an int32: to nearest even, NaN quiet.
template <class I, class F>
inline I float_to_half(F x) {
  const I bits = bit_cast<I>(x), sign = (bits >> 16) & 0x8000, rest = bits & 0x7fffffff;
  const I normal = (rest - (112 << 23) + 0xfff + ((rest >> 13) & 1)) >> 13;
  // Below 2^-14 a float16 is a multiple of 2^-24, the spacing of floats from 1/2 on: the sum rounds.
  const I denormal = bit_cast<I>(static_cast<F>(bit_cast<F>(rest) + 0.5f)) - 0x3f000000;
  const I special = rest > 0x7f800000 ? ((rest >> 13) & 0x3ff) | 0x7e00 : (rest & 0) + 0x7c00;
  return sign | (rest < 0x38800000 ? denormal : rest >= 0x477ff000 ? special : normal);
}

// ---- scalar load and store with conversion ----

inline float load(const float* p) { return *p; }
inline double load(const double* p) { return *p; }
inline float load(const BFloat16* p) { return bit_cast<float>(static_cast<uint32_t>(p->bits) << 16); }
inline float load(const Float16* p) {
#ifdef __F16C__
  return _cvtsh_ss(p->bits);
#else
  return half_to_float<float>(static_cast<int32_t>(p->bits));
#endif
}

inline void store(float* p, float x) { *p = x; }
inline void store(double* p, double x) { *p = x; }
inline void store(BFloat16* p, float x) {  // round to nearest even; NaN stays NaN
  const uint32_t bits = bit_cast<uint32_t>(x);
  p->bits = x != x ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline void store(Float16* p, float x) {
#ifdef __F16C__
  p->bits = _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  p->bits = static_cast<uint16_t>(float_to_half<int32_t>(x));
#endif
}

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
inline Vec<Pair, N> load_vec(const Pair* p) {
  Vec<Pair, N> v;
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
  Vec<uint16_t, N> half;
  std::memcpy(&half, p, sizeof half);
  return half_to_float<Vec<float, N>>(__builtin_convertvector(half, Vec<int32_t, N>));
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
inline void store_vec(Pair* p, Vec<Pair, N> v) {
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
  const auto half = __builtin_convertvector(float_to_half<Vec<int32_t, N>>(v), Vec<uint16_t, N>);
  std::memcpy(p, &half, sizeof half);
}

// ---- the step of a matrix product: sum += a·b, lane by lane ----

// Whether this set's code has vdpbf16ps, which the processor must be asked for (cpu/isa.h).
#if defined(__AVX512F__) && DECONVKIT_VECTOR_BYTES == 64
constexpr bool kDotsPairs = true;
#else
constexpr bool kDotsPairs = false;
#endif

template <class V>
inline void multiply_add(V& sum, V a, V b) {
  sum += a * b;
}
// Two products a lane, accumulated in float32; denormals count as zero. Written in assembly because this
// set's other code must run where the instruction is missing.
template <class V>
inline void multiply_add(V& sum, Vec<Pair, sizeof(V) / sizeof(Pair)> a,
                         Vec<Pair, sizeof(V) / sizeof(Pair)> b) {
#if defined(__AVX512F__) && DECONVKIT_VECTOR_BYTES == 64
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
#else
  (void)sum, (void)a, (void)b;
#endif
}

// ---- streaming stores: past the caches, for whole 64-byte lines of outputs that no cache would hold ----

// Outputs from this size on are streamed.
constexpr int64_t kStreamBytes = int64_t{32} << 20;

// store_vec without reading the line first; p is aligned to the stored bytes. Lines must be written whole,
// and stream_fence() must follow before another thread may read them.
template <class T, class V>
inline void stream_vec(T* p, V v) {
  constexpr int n = sizeof(V) / sizeof(Compute<T>);
#ifdef __SSE2__
  alignas(64) T stored[n];
  store_vec<n>(stored, v);
  constexpr int bytes = sizeof stored;
  const char* from = reinterpret_cast<const char*>(stored);
  char* to = reinterpret_cast<char*>(p);
#ifdef __AVX512F__
  if constexpr (bytes % 64 == 0) {
    for (int i = 0; i < bytes; i += 64) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
    }
    return;
  }
#endif
#ifdef __AVX__
  if constexpr (bytes % 32 == 0) {
    for (int i = 0; i < bytes; i += 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
    }
    return;
  }
#endif
  if constexpr (bytes % 16 == 0) {
    for (int i = 0; i < bytes; i += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
    }
    return;
  }
#endif
  store_vec<n>(p, v);
}

// Copies a whole cache line to `to`, which is aligned to 64 bytes.
inline void stream_line(void* to, const void* from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_loadu_si512(from));
#elif defined(__AVX__)
  for (int i = 0; i < 2; ++i) {
    _mm256_stream_si256(static_cast<__m256i*>(to) + i,
                        _mm256_loadu_si256(static_cast<const __m256i*>(from) + i));
  }
#elif defined(__SSE2__)
  for (int i = 0; i < 4; ++i) {
    _mm_stream_si128(static_cast<__m128i*>(to) + i, _mm_loadu_si128(static_cast<const __m128i*>(from) + i));
  }
#else
  std::memcpy(to, from, 64);
#endif
}

// Every thread that streamed calls this before others read what it wrote.
inline void stream_fence() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
