// SPDX-License-Identifier: Apache-2.0
// AVX2, FMA, F16C.
#pragma once

#include <immintrin.h>

#include "cpp/simd/isa.hpp"

#define VM_UNROLL_PIECES _Pragma("GCC unroll 16")

namespace vastmax::VM_ISA {

inline constexpr int pieces_in_flight = 4;

struct P32 {
  using scalar = float;
  using mask = __m256;
  static constexpr int lanes = 8;
  __m256 v;
  VM_MEMBER static P32 splat(float s) { return {_mm256_set1_ps(s)}; }
};
struct P64 {
  using scalar = double;
  using mask = __m256d;
  static constexpr int lanes = 4;
  __m256d v;
  VM_MEMBER static P64 splat(double s) { return {_mm256_set1_pd(s)}; }
};

VM_INLINE P32 add_piece(P32 a, P32 b) { return {_mm256_add_ps(a.v, b.v)}; }
VM_INLINE P64 add_piece(P64 a, P64 b) { return {_mm256_add_pd(a.v, b.v)}; }
VM_INLINE P32 sub_piece(P32 a, P32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
VM_INLINE P64 sub_piece(P64 a, P64 b) { return {_mm256_sub_pd(a.v, b.v)}; }
VM_INLINE P32 mul_piece(P32 a, P32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
VM_INLINE P64 mul_piece(P64 a, P64 b) { return {_mm256_mul_pd(a.v, b.v)}; }
VM_INLINE P32 div_piece(P32 a, P32 b) { return {_mm256_div_ps(a.v, b.v)}; }
VM_INLINE P64 div_piece(P64 a, P64 b) { return {_mm256_div_pd(a.v, b.v)}; }
VM_INLINE P32 max_piece(P32 a, P32 b) { return {_mm256_max_ps(a.v, b.v)}; }
VM_INLINE P64 max_piece(P64 a, P64 b) { return {_mm256_max_pd(a.v, b.v)}; }
VM_INLINE P32 fma_piece(P32 a, P32 b, P32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
VM_INLINE P64 fma_piece(P64 a, P64 b, P64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
VM_INLINE P32 nfma_piece(P32 a, P32 b, P32 c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
VM_INLINE P64 nfma_piece(P64 a, P64 b, P64 c) { return {_mm256_fnmadd_pd(a.v, b.v, c.v)}; }
VM_INLINE P32 abs_piece(P32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
VM_INLINE P64 abs_piece(P64 a) { return {_mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v)}; }
VM_INLINE P32 negate_piece(P32 a) { return {_mm256_xor_ps(a.v, _mm256_set1_ps(-0.0f))}; }
VM_INLINE P64 negate_piece(P64 a) { return {_mm256_xor_pd(a.v, _mm256_set1_pd(-0.0))}; }

VM_INLINE void widen_piece(P32 a, P64* out) {
  out[0].v = _mm256_cvtps_pd(_mm256_castps256_ps128(a.v));
  out[1].v = _mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1));
}
VM_INLINE P32 narrow_piece(const P64* a) { return {_mm256_set_m128(_mm256_cvtpd_ps(a[1].v), _mm256_cvtpd_ps(a[0].v))}; }
VM_INLINE P64 round_to_odd_piece(P64 a, P64 left) {
  const __m256i bits = _mm256_castpd_si256(a.v);
  const __m256i inexact = _mm256_castpd_si256(_mm256_cmp_pd(left.v, _mm256_setzero_pd(), _CMP_NEQ_UQ));
  const __m256i beyond =
      _mm256_cmpgt_epi64(_mm256_setzero_si256(), _mm256_xor_si256(bits, _mm256_castpd_si256(left.v)));
  const __m256i truncated = _mm256_add_epi64(bits, _mm256_and_si256(beyond, inexact));
  return {_mm256_castsi256_pd(_mm256_or_si256(truncated, _mm256_srli_epi64(inexact, 63)))};
}

VM_INLINE P32 shift_exponent_piece(P32 a, P32 b) {
  return {
      _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), _mm256_slli_epi32(_mm256_castps_si256(b.v), 23)))};
}
VM_INLINE P64 shift_exponent_piece(P64 a, P64 b) {
  return {
      _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(a.v), _mm256_slli_epi64(_mm256_castpd_si256(b.v), 52)))};
}
VM_INLINE P32 power_of_two_piece(P32 a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23))};
}
VM_INLINE P64 power_of_two_piece(P64 a) {
  return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a.v), 52))};
}
VM_INLINE P32 exponent_sqrt2_piece(P32 a) {
  const __m256i above = _mm256_sub_epi32(_mm256_castps_si256(a.v), _mm256_set1_epi32(0x3f3504f3));
  return {_mm256_cvtepi32_ps(_mm256_srai_epi32(above, 23))};
}
VM_INLINE P64 exponent_sqrt2_piece(P64 a) {
  // AVX2 has no 64-bit arithmetic shift: bias the exponent so that it is positive, and read it as the mantissa of 2^52
  // + e + 2048.
  const __m256i above = _mm256_sub_epi64(_mm256_castpd_si256(a.v), _mm256_set1_epi64x(0x3fe6a09e667f3bcd));
  const __m256i biased = _mm256_srli_epi64(_mm256_add_epi64(above, _mm256_set1_epi64x(int64_t{2047} << 52)), 52);
  const __m256d shifted = _mm256_castsi256_pd(_mm256_or_si256(biased, _mm256_castpd_si256(_mm256_set1_pd(0x1p52))));
  return {_mm256_sub_pd(shifted, _mm256_set1_pd(0x1p52 + 2047))};
}

VM_INLINE __m256 less_piece(P32 a, P32 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ); }
VM_INLINE __m256d less_piece(P64 a, P64 b) { return _mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ); }
VM_INLINE __m256 equal_piece(P32 a, P32 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ); }
VM_INLINE __m256d equal_piece(P64 a, P64 b) { return _mm256_cmp_pd(a.v, b.v, _CMP_EQ_OQ); }
VM_INLINE __m256 not_less_piece(P32 a, P32 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_NLT_UQ); }
VM_INLINE __m256d not_less_piece(P64 a, P64 b) { return _mm256_cmp_pd(a.v, b.v, _CMP_NLT_UQ); }
VM_INLINE __m256 is_nan_piece(P32 a) { return _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q); }
VM_INLINE __m256d is_nan_piece(P64 a) { return _mm256_cmp_pd(a.v, a.v, _CMP_UNORD_Q); }
VM_INLINE unsigned bits_piece(__m256 m) { return static_cast<unsigned>(_mm256_movemask_ps(m)); }
VM_INLINE unsigned bits_piece(__m256d m) { return static_cast<unsigned>(_mm256_movemask_pd(m)); }
VM_INLINE P32 select_piece(__m256 m, P32 yes, P32 no) { return {_mm256_blendv_ps(no.v, yes.v, m)}; }
VM_INLINE P64 select_piece(__m256d m, P64 yes, P64 no) { return {_mm256_blendv_pd(no.v, yes.v, m)}; }
VM_INLINE P32 keep_piece(__m256 m, P32 a) { return {_mm256_and_ps(m, a.v)}; }
VM_INLINE P64 keep_piece(__m256d m, P64 a) { return {_mm256_and_pd(m, a.v)}; }
// Both factors: a subnormal product takes 150 cycles, even where it is not kept.
VM_INLINE P32 multiply_where_piece(__m256 m, P32 a, P32 b) { return mul_piece(keep_piece(m, a), keep_piece(m, b)); }
VM_INLINE P64 multiply_where_piece(__m256d m, P64 a, P64 b) { return mul_piece(keep_piece(m, a), keep_piece(m, b)); }
#define VM_MULTIPLY_WHERE

VM_INLINE __m256 widen_bfloat16(__m128i h) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
VM_INLINE __m128i narrow_bfloat16(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i fixed = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(fixed), _mm256_extracti128_si256(fixed, 1));
}
VM_INLINE __m128i narrow_half(__m256 a) { return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

VM_INLINE void load_piece(P32& p, const float* x) { p.v = _mm256_loadu_ps(x); }
VM_INLINE void load_piece(P64& p, const double* x) { p.v = _mm256_loadu_pd(x); }
VM_INLINE void load_piece(P32& p, const Half* x) {
  p.v = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
VM_INLINE void load_piece(P32& p, const BFloat16* x) {
  p.v = widen_bfloat16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
VM_INLINE void load_piece(P64& p, const float* x) { p.v = _mm256_cvtps_pd(_mm_loadu_ps(x)); }

VM_INLINE void store_piece(float* y, P32 p) { _mm256_storeu_ps(y, p.v); }
VM_INLINE void store_piece(double* y, P64 p) { _mm256_storeu_pd(y, p.v); }
VM_INLINE void store_piece(float* y, P64 p) { _mm_storeu_ps(y, _mm256_cvtpd_ps(p.v)); }
VM_INLINE void store_piece(Half* y, P32 p) { _mm_storeu_si128(reinterpret_cast<__m128i*>(y), narrow_half(p.v)); }
VM_INLINE void store_piece(BFloat16* y, P32 p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y), narrow_bfloat16(p.v));
}

VM_INLINE void stream_piece(float* y, P32 p) { _mm256_stream_ps(y, p.v); }
VM_INLINE void stream_piece(double* y, P64 p) { _mm256_stream_pd(y, p.v); }
VM_INLINE void stream_piece(Half* y, P32 p) { _mm_stream_si128(reinterpret_cast<__m128i*>(y), narrow_half(p.v)); }
VM_INLINE void stream_piece(BFloat16* y, P32 p) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(y), narrow_bfloat16(p.v));
}

}  // namespace vastmax::VM_ISA
