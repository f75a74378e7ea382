// Vectors of every other element: splitting a row into even and odd columns, and weaving them again.
//
// The cheap instructions work inside blocks of 16 bytes. So split_even and split_odd return their N elements
// "in blocks": block b holds elements of the first source, then of the second. Arithmetic does not care;
// in_order undoes it once, at the end. The other way, in_blocks prepares vectors once and weave_low and
// weave_high, applied to those, return 2N elements in order.
#pragma once
#include <utility>

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// The unsigned integer of a type's size: for code that moves elements and does not compute.
template <int Bytes>
struct BitsOf;
template <>
struct BitsOf<1> {
  using type = uint8_t;
  using lane = int8_t;
};
template <>
struct BitsOf<2> {
  using type = uint16_t;
  using lane = int16_t;
};
template <>
struct BitsOf<4> {
  using type = uint32_t;
  using lane = int32_t;
};
template <>
struct BitsOf<8> {
  using type = uint64_t;
  using lane = int64_t;
};
template <class T>
using Bits = typename BitsOf<sizeof(T)>::type;
// The signed integer of a type's size: what comparisons of vectors return, and shuffles take.
template <class T>
using Lane = typename BitsOf<sizeof(T)>::lane;

template <class T, int N, int Odd, int... I>
inline Vec<T, N> split_(Vec<T, N> a, Vec<T, N> b, std::integer_sequence<int, I...>) {
  constexpr int kBlock = 16 / sizeof(T), kHalf = kBlock / 2;
  return __builtin_shuffle(
      a, b, Vec<Lane<T>, N>{(I % kBlock < kHalf ? 0 : N) + I / kBlock * kBlock + I % kHalf * 2 + Odd...});
}
template <class T, int N>
inline Vec<T, N> split_even(Vec<T, N> a, Vec<T, N> b) {
  return split_<T, N, 0>(a, b, std::make_integer_sequence<int, N>());
}
template <class T, int N>
inline Vec<T, N> split_odd(Vec<T, N> a, Vec<T, N> b) {
  return split_<T, N, 1>(a, b, std::make_integer_sequence<int, N>());
}

template <class T, int N, int Odd, int... I>
inline Vec<T, N> weave_(Vec<T, N> even, Vec<T, N> odd, std::integer_sequence<int, I...>) {
  constexpr int kBlock = 16 / sizeof(T);
  return __builtin_shuffle(
      even, odd, Vec<Lane<T>, N>{I % 2 * N + I / kBlock * kBlock + I % kBlock / 2 + Odd * (kBlock / 2)...});
}
template <class T, int N>
inline Vec<T, N> weave_low(Vec<T, N> even, Vec<T, N> odd) {
  return weave_<T, N, 0>(even, odd, std::make_integer_sequence<int, N>());
}
template <class T, int N>
inline Vec<T, N> weave_high(Vec<T, N> even, Vec<T, N> odd) {
  return weave_<T, N, 1>(even, odd, std::make_integer_sequence<int, N>());
}

// H halves of blocks, 8 bytes each.
template <bool Back, int H, int... I>
inline Vec<int64_t, H> permute_halves_(Vec<int64_t, H> v, std::integer_sequence<int, I...>) {
  return __builtin_shuffle(
      v, Vec<int64_t, H>{(Back ? (I < H / 2 ? 2 * I : 2 * I - H + 1) : I % 2 * (H / 2) + I / 2)...});
}
template <bool Back, class T, int N>
inline Vec<T, N> permute_halves_(Vec<T, N> v) {
  constexpr int kHalves = N * static_cast<int>(sizeof(T)) / 8;
  if constexpr (kHalves <= 2) return v;  // one block
  return bit_cast<Vec<T, N>>(permute_halves_<Back, kHalves>(bit_cast<Vec<int64_t, kHalves>>(v),
                                                            std::make_integer_sequence<int, kHalves>()));
}
template <class T, int N>
inline Vec<T, N> in_order(Vec<T, N> v) {
  return permute_halves_<true, T, N>(v);
}
template <class T, int N>
inline Vec<T, N> in_blocks(Vec<T, N> v) {
  return permute_halves_<false, T, N>(v);
}

// ---- small unsigned numbers to wide lanes and back ----

// N bytes as lanes. Zero-masked intrinsics with a full mask: GCC 12 warns of its own plain ones. (GCC 12
// takes conversions from vectors below 16 bytes apart, element by element.)
template <class L, int N>
inline Vec<L, N> widen(const uint8_t* p) {
  constexpr int kBytes = N * static_cast<int>(sizeof(L));
  Vec<L, N> v;
#if defined(__AVX512F__) && defined(__AVX512BW__)
  if constexpr (kBytes % 64 == 0) {
    constexpr int kPart = 64 / sizeof(L);
    for (int i = 0; i < N; i += kPart) {
      __m512i part;
      if constexpr (sizeof(L) == 2) {
        part = _mm512_maskz_cvtepu8_epi16(~__mmask32{0},
                                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i)));
      } else if constexpr (sizeof(L) == 4) {
        part = _mm512_maskz_cvtepu8_epi32(~__mmask16{0},
                                          _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i)));
      } else {
        part = _mm512_maskz_cvtepu8_epi64(~__mmask8{0},
                                          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + i)));
      }
      std::memcpy(reinterpret_cast<char*>(&v) + i * sizeof(L), &part, 64);
    }
    return v;
  }
#endif
#ifdef __AVX2__
  if constexpr (kBytes % 32 == 0) {
    constexpr int kPart = 32 / sizeof(L);
    for (int i = 0; i < N; i += kPart) {
      __m256i part;
      if constexpr (sizeof(L) == 2) {
        part = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i)));
      } else if constexpr (sizeof(L) == 4) {
        part = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + i)));
      } else {
        int32_t four;
        std::memcpy(&four, p + i, 4);
        part = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
      }
      std::memcpy(reinterpret_cast<char*>(&v) + i * sizeof(L), &part, 32);
    }
    return v;
  }
#endif
  if constexpr (kBytes == 16 && sizeof(L) < 8) {  // weave with zeros
    Bits<Vec<uint8_t, N>> some;  // through a register: a narrow store and a wide load would stall
    std::memcpy(&some, p, N);
    const auto bytes = bit_cast<Vec<uint8_t, 16>>(Vec<uint64_t, 2>{some, 0});
    const auto two = weave_low<uint8_t, 16>(bytes, Vec<uint8_t, 16>{});
    if constexpr (sizeof(L) == 2) return bit_cast<Vec<L, N>>(two);
    const auto four = weave_low<uint16_t, 8>(bit_cast<Vec<uint16_t, 8>>(two), Vec<uint16_t, 8>{});
    return bit_cast<Vec<L, N>>(four);
  }
  for (int i = 0; i < N; ++i) v[i] = p[i];
  return v;
}
template <class L, int N>
inline Vec<L, N> widen(const int32_t* p) {
  Vec<int32_t, N> v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Vec<L, N>);
}

// Lanes that hold 0 to 255 as bytes.
template <class L, int N, int... I>
inline void narrow_(uint8_t* p, Vec<L, N> v, std::integer_sequence<int, I...>) {
  constexpr int kBytes = N * static_cast<int>(sizeof(L));
#ifdef __AVX512F__
  if constexpr (kBytes == 64 && sizeof(L) >= 4) {
    const __m128i bytes = sizeof(L) == 4 ? _mm512_maskz_cvtepi32_epi8(~__mmask16{0}, bit_cast<__m512i>(v))
                                         : _mm512_maskz_cvtepi64_epi8(~__mmask8{0}, bit_cast<__m512i>(v));
    std::memcpy(p, &bytes, N);
    return;
  }
#endif
#ifdef __SSSE3__
  // Within 16 bytes the wanted ones go to the front, then those of all blocks together.
  if constexpr (sizeof(L) == 4 && kBytes <= 32) {
    using Bytes = Vec<uint8_t, kBytes>;
    auto v4 =
        bit_cast<Vec<int32_t, N>>(__builtin_shuffle(bit_cast<Bytes>(v), Bytes{(I / 16 * 16 + I % 4 * 4)...}));
    if constexpr (kBytes == 32) v4 = __builtin_shuffle(v4, Vec<int32_t, N>{0, 4, 0, 4, 0, 4, 0, 4});
    std::memcpy(p, &v4, N);
    return;
  }
  if constexpr (sizeof(L) == 8 && kBytes == 32) {
    const auto low = __builtin_shuffle(bit_cast<Vec<int32_t, 8>>(v), Vec<int32_t, 8>{0, 2, 4, 6, 0, 2, 4, 6});
    Vec<int32_t, 4> four;
    std::memcpy(&four, &low, 16);
    return narrow_<int32_t, 4>(p, four, std::make_integer_sequence<int, 16>());
  }
#elif defined(__SSE2__)
  if constexpr (sizeof(L) == 4 && kBytes == 16) {
    const __m128i two = _mm_packs_epi32(bit_cast<__m128i>(v), bit_cast<__m128i>(v));
    const int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(two, two));
    std::memcpy(p, &four, 4);
    return;
  }
#endif
  if constexpr (kBytes > 32) {
    Vec<L, N / 2> half[2];
    std::memcpy(half, &v, sizeof v);
    for (int i = 0; i < 2; ++i) {
      narrow_<L, N / 2>(p + i * (N / 2), half[i], std::make_integer_sequence<int, kBytes / 2>());
    }
    return;
  }
  for (int i = 0; i < N; ++i) p[i] = static_cast<uint8_t>(v[i]);
}
template <class L, int N>
inline void narrow(uint8_t* p, Vec<L, N> v) {
  narrow_<L, N>(p, v, std::make_integer_sequence<int, N * sizeof(L)>());
}
template <class L, int N>
inline void narrow(int32_t* p, Vec<L, N> v) {
  const auto four = __builtin_convertvector(v, Vec<int32_t, N>);
  std::memcpy(p, &four, sizeof four);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
