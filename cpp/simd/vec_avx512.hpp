// SPDX-License-Identifier: Apache-2.0
// AVX-512 F, BW, DQ, VL: one register is the whole virtual vector, and masks make partial memory accesses free.
#pragma once

#include <immintrin.h>

#include "cpp/simd/isa.hpp"

#define VM_UNROLL_PIECES _Pragma("GCC unroll 16")

namespace vastmax::VM_ISA {

inline constexpr int pieces_in_flight = 4;
#define VM_MASKED_MEMORY

struct P32 {
  using scalar = float;
  using mask = __mmask16;
  static constexpr int lanes = 16;
  __m512 v;
  VM_MEMBER static P32 splat(float s) { return {_mm512_set1_ps(s)}; }
};
struct P64 {
  using scalar = double;
  using mask = __mmask8;
  static constexpr int lanes = 8;
  __m512d v;
  VM_MEMBER static P64 splat(double s) { return {_mm512_set1_pd(s)}; }
};

VM_INLINE P32 add_piece(P32 a, P32 b) { return {_mm512_add_ps(a.v, b.v)}; }
VM_INLINE P64 add_piece(P64 a, P64 b) { return {_mm512_add_pd(a.v, b.v)}; }
VM_INLINE P32 sub_piece(P32 a, P32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
VM_INLINE P64 sub_piece(P64 a, P64 b) { return {_mm512_sub_pd(a.v, b.v)}; }
VM_INLINE P32 mul_piece(P32 a, P32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
VM_INLINE P64 mul_piece(P64 a, P64 b) { return {_mm512_mul_pd(a.v, b.v)}; }
VM_INLINE P32 div_piece(P32 a, P32 b) { return {_mm512_div_ps(a.v, b.v)}; }
VM_INLINE P64 div_piece(P64 a, P64 b) { return {_mm512_div_pd(a.v, b.v)}; }
VM_INLINE P32 max_piece(P32 a, P32 b) { return {_mm512_max_ps(a.v, b.v)}; }
VM_INLINE P64 max_piece(P64 a, P64 b) { return {_mm512_max_pd(a.v, b.v)}; }
VM_INLINE P32 fma_piece(P32 a, P32 b, P32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
VM_INLINE P64 fma_piece(P64 a, P64 b, P64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
VM_INLINE P32 nfma_piece(P32 a, P32 b, P32 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
VM_INLINE P64 nfma_piece(P64 a, P64 b, P64 c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }
VM_INLINE P32 abs_piece(P32 a) { return {_mm512_abs_ps(a.v)}; }
VM_INLINE P64 abs_piece(P64 a) { return {_mm512_abs_pd(a.v)}; }
VM_INLINE P32 negate_piece(P32 a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))}; }
VM_INLINE P64 negate_piece(P64 a) { return {_mm512_xor_pd(a.v, _mm512_set1_pd(-0.0))}; }

VM_INLINE void widen_piece(P32 a, P64* out) {
  out[0].v = _mm512_cvtps_pd(_mm512_castps512_ps256(a.v));
  out[1].v = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1));
}
VM_INLINE P32 narrow_piece(const P64* a) {
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a[0].v)), _mm512_cvtpd_ps(a[1].v), 1)};
}
VM_INLINE P64 round_to_odd_piece(P64 a, P64 left) {
  const __m512i bits = _mm512_castpd_si512(a.v);
  const __mmask8 inexact = _mm512_cmp_pd_mask(left.v, _mm512_setzero_pd(), _CMP_NEQ_UQ);
  const __m512i beyond = _mm512_srai_epi64(_mm512_xor_si512(bits, _mm512_castpd_si512(left.v)), 63);
  const __m512i truncated = _mm512_mask_add_epi64(bits, inexact, bits, beyond);
  return {_mm512_castsi512_pd(_mm512_mask_or_epi64(truncated, inexact, truncated, _mm512_set1_epi64(1)))};
}

VM_INLINE P32 shift_exponent_piece(P32 a, P32 b) {
  return {
      _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_slli_epi32(_mm512_castps_si512(b.v), 23)))};
}
VM_INLINE P64 shift_exponent_piece(P64 a, P64 b) {
  return {
      _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(a.v), _mm512_slli_epi64(_mm512_castpd_si512(b.v), 52)))};
}
VM_INLINE P32 power_of_two_piece(P32 a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23))};
}
VM_INLINE P64 power_of_two_piece(P64 a) {
  return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a.v), 52))};
}
VM_INLINE P32 exponent_sqrt2_piece(P32 a) {
  const __m512i above = _mm512_sub_epi32(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x3f3504f3));
  return {_mm512_cvtepi32_ps(_mm512_srai_epi32(above, 23))};
}
VM_INLINE P64 exponent_sqrt2_piece(P64 a) {
  const __m512i above = _mm512_sub_epi64(_mm512_castpd_si512(a.v), _mm512_set1_epi64(0x3fe6a09e667f3bcd));
  return {_mm512_cvtepi64_pd(_mm512_srai_epi64(above, 52))};
}

VM_INLINE __mmask16 less_piece(P32 a, P32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
VM_INLINE __mmask8 less_piece(P64 a, P64 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ); }
VM_INLINE __mmask16 equal_piece(P32 a, P32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
VM_INLINE __mmask8 equal_piece(P64 a, P64 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ); }
VM_INLINE __mmask16 not_less_piece(P32 a, P32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_NLT_UQ); }
VM_INLINE __mmask8 not_less_piece(P64 a, P64 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_NLT_UQ); }
VM_INLINE __mmask16 is_nan_piece(P32 a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q); }
VM_INLINE __mmask8 is_nan_piece(P64 a) { return _mm512_cmp_pd_mask(a.v, a.v, _CMP_UNORD_Q); }
VM_INLINE unsigned bits_piece(__mmask16 m) { return m; }
VM_INLINE unsigned bits_piece(__mmask8 m) { return m; }
VM_INLINE P32 select_piece(__mmask16 m, P32 yes, P32 no) { return {_mm512_mask_mov_ps(no.v, m, yes.v)}; }
VM_INLINE P64 select_piece(__mmask8 m, P64 yes, P64 no) { return {_mm512_mask_mov_pd(no.v, m, yes.v)}; }
VM_INLINE P32 keep_piece(__mmask16 m, P32 a) { return {_mm512_maskz_mov_ps(m, a.v)}; }
VM_INLINE P64 keep_piece(__mmask8 m, P64 a) { return {_mm512_maskz_mov_pd(m, a.v)}; }
VM_INLINE P32 multiply_where_piece(__mmask16 m, P32 a, P32 b) { return {_mm512_maskz_mul_ps(m, a.v, b.v)}; }
VM_INLINE P64 multiply_where_piece(__mmask8 m, P64 a, P64 b) { return {_mm512_maskz_mul_pd(m, a.v, b.v)}; }
#define VM_MULTIPLY_WHERE
VM_INLINE P32 add_where_piece(__mmask16 m, P32 a, P32 b) { return {_mm512_mask_add_ps(a.v, m, a.v, b.v)}; }
VM_INLINE P64 add_where_piece(__mmask8 m, P64 a, P64 b) { return {_mm512_mask_add_pd(a.v, m, a.v, b.v)}; }
#define VM_ADD_WHERE

// bfloat16 is the upper half of a float: one permutation puts sixteen of them there or takes them out.  The store
// rounds to nearest even and makes one NaN of all.
VM_INLINE __m512i upper_words(bool from) {  // words 1, 3, 5, ...; or where 0, 1, 2, ... go when they become those
  alignas(64) static constexpr std::uint16_t out[32] = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                        1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31},
                                             in[32] = {0, 0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,
                                                       0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
  return _mm512_load_si512(from ? out : in);
}
VM_INLINE __m512 widen_bfloat16(__m256i h) {
  return _mm512_castsi512_ps(
      _mm512_maskz_permutexvar_epi16(0xaaaaaaaau, upper_words(false), _mm512_castsi256_si512(h)));
}
VM_INLINE __m256i narrow_bfloat16(__m512 a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000)),
                  nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  __m512i rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  rounded = _mm512_mask_add_epi32(rounded, odd, bits, _mm512_set1_epi32(0x8000));
  rounded = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc00000));
  return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper_words(true), rounded));
}
VM_INLINE __m256i narrow_half(__m512 a) { return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

VM_INLINE void load_piece(P32& p, const float* x) { p.v = _mm512_loadu_ps(x); }
VM_INLINE void load_piece(P64& p, const double* x) { p.v = _mm512_loadu_pd(x); }
VM_INLINE void load_piece(P32& p, const Half* x) {
  p.v = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
VM_INLINE void load_piece(P32& p, const BFloat16* x) {
  p.v = widen_bfloat16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
VM_INLINE void load_piece(P64& p, const float* x) { p.v = _mm512_cvtps_pd(_mm256_loadu_ps(x)); }

VM_INLINE void store_piece(float* y, P32 p) { _mm512_storeu_ps(y, p.v); }
VM_INLINE void store_piece(double* y, P64 p) { _mm512_storeu_pd(y, p.v); }
VM_INLINE void store_piece(Half* y, P32 p) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), narrow_half(p.v)); }
VM_INLINE void store_piece(BFloat16* y, P32 p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), narrow_bfloat16(p.v));
}

VM_INLINE void stream_piece(float* y, P32 p) { _mm512_stream_ps(y, p.v); }
VM_INLINE void stream_piece(double* y, P64 p) { _mm512_stream_pd(y, p.v); }
VM_INLINE void stream_piece(Half* y, P32 p) { _mm256_stream_si256(reinterpret_cast<__m256i*>(y), narrow_half(p.v)); }
VM_INLINE void stream_piece(BFloat16* y, P32 p) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(y), narrow_bfloat16(p.v));
}

// Two registers of 16-bit results are one cache line; written in halves they cost half as much again.
#define VM_STREAM_PAIRS
VM_INLINE __m512i one_line(__m256i a, __m256i b) { return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1); }
VM_INLINE void stream_pair(Half* y, P32 a, P32 b) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(y), one_line(narrow_half(a.v), narrow_half(b.v)));
}
VM_INLINE void stream_pair(BFloat16* y, P32 a, P32 b) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(y), one_line(narrow_bfloat16(a.v), narrow_bfloat16(b.v)));
}

VM_INLINE __mmask16 first(std::size_t n) { return static_cast<__mmask16>((1u << n) - 1); }
VM_INLINE P32 load_first_piece(const float* x, std::size_t n, P32 fill) {
  return {_mm512_mask_loadu_ps(fill.v, first(n), x)};
}
VM_INLINE P64 load_first_piece(const double* x, std::size_t n, P64 fill) {
  return {_mm512_mask_loadu_pd(fill.v, static_cast<__mmask8>(first(n)), x)};
}
VM_INLINE P32 load_first_piece(const Half* x, std::size_t n, P32 fill) {
  return {_mm512_mask_mov_ps(fill.v, first(n), _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), x)))};
}
VM_INLINE P32 load_first_piece(const BFloat16* x, std::size_t n, P32 fill) {
  return {_mm512_mask_mov_ps(fill.v, first(n), widen_bfloat16(_mm256_maskz_loadu_epi16(first(n), x)))};
}
VM_INLINE P64 load_first_piece(const float* x, std::size_t n, P64 fill) {
  return {_mm512_mask_mov_pd(fill.v, static_cast<__mmask8>(first(n)),
                             _mm512_cvtps_pd(_mm256_maskz_loadu_ps(static_cast<__mmask8>(first(n)), x)))};
}
VM_INLINE void store_first_piece(float* y, std::size_t n, P32 p) { _mm512_mask_storeu_ps(y, first(n), p.v); }
VM_INLINE void store_first_piece(double* y, std::size_t n, P64 p) {
  _mm512_mask_storeu_pd(y, static_cast<__mmask8>(first(n)), p.v);
}
VM_INLINE void store_first_piece(Half* y, std::size_t n, P32 p) {
  _mm256_mask_storeu_epi16(y, first(n), narrow_half(p.v));
}
VM_INLINE void store_first_piece(BFloat16* y, std::size_t n, P32 p) {
  _mm256_mask_storeu_epi16(y, first(n), narrow_bfloat16(p.v));
}

}  // namespace vastmax::VM_ISA
