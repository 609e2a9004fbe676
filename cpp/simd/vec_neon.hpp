// SPDX-License-Identifier: Apache-2.0
// AArch64 Advanced SIMD.
#pragma once

#include <arm_neon.h>

#include "cpp/simd/isa.hpp"

#define VM_UNROLL_PIECES _Pragma("GCC unroll 16")

namespace vastmax::VM_ISA {

inline constexpr int pieces_in_flight = 4;

struct P32 {
  using scalar = float;
  using mask = uint32x4_t;
  static constexpr int lanes = 4;
  float32x4_t v;
  VM_MEMBER static P32 splat(float s) { return {vdupq_n_f32(s)}; }
};
struct P64 {
  using scalar = double;
  using mask = uint64x2_t;
  static constexpr int lanes = 2;
  float64x2_t v;
  VM_MEMBER static P64 splat(double s) { return {vdupq_n_f64(s)}; }
};

VM_INLINE P32 add_piece(P32 a, P32 b) { return {vaddq_f32(a.v, b.v)}; }
VM_INLINE P64 add_piece(P64 a, P64 b) { return {vaddq_f64(a.v, b.v)}; }
VM_INLINE P32 sub_piece(P32 a, P32 b) { return {vsubq_f32(a.v, b.v)}; }
VM_INLINE P64 sub_piece(P64 a, P64 b) { return {vsubq_f64(a.v, b.v)}; }
VM_INLINE P32 mul_piece(P32 a, P32 b) { return {vmulq_f32(a.v, b.v)}; }
VM_INLINE P64 mul_piece(P64 a, P64 b) { return {vmulq_f64(a.v, b.v)}; }
VM_INLINE P32 div_piece(P32 a, P32 b) { return {vdivq_f32(a.v, b.v)}; }
VM_INLINE P64 div_piece(P64 a, P64 b) { return {vdivq_f64(a.v, b.v)}; }
// Not vmaxq: b where either is NaN.
VM_INLINE P32 max_piece(P32 a, P32 b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
VM_INLINE P64 max_piece(P64 a, P64 b) { return {vbslq_f64(vcgtq_f64(a.v, b.v), a.v, b.v)}; }
VM_INLINE P32 fma_piece(P32 a, P32 b, P32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
VM_INLINE P64 fma_piece(P64 a, P64 b, P64 c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
VM_INLINE P32 nfma_piece(P32 a, P32 b, P32 c) { return {vfmsq_f32(c.v, a.v, b.v)}; }
VM_INLINE P64 nfma_piece(P64 a, P64 b, P64 c) { return {vfmsq_f64(c.v, a.v, b.v)}; }
VM_INLINE P32 abs_piece(P32 a) { return {vabsq_f32(a.v)}; }
VM_INLINE P64 abs_piece(P64 a) { return {vabsq_f64(a.v)}; }
VM_INLINE P32 negate_piece(P32 a) { return {vnegq_f32(a.v)}; }
VM_INLINE P64 negate_piece(P64 a) { return {vnegq_f64(a.v)}; }

VM_INLINE void widen_piece(P32 a, P64* out) {
  out[0].v = vcvt_f64_f32(vget_low_f32(a.v));
  out[1].v = vcvt_high_f64_f32(a.v);
}
VM_INLINE P32 narrow_piece(const P64* a) { return {vcvt_high_f32_f64(vcvt_f32_f64(a[0].v), a[1].v)}; }
VM_INLINE P64 round_to_odd_piece(P64 a, P64 left) {
  const int64x2_t bits = vreinterpretq_s64_f64(a.v);
  const uint64x2_t exact = vceqzq_f64(left.v);
  const int64x2_t beyond = vshrq_n_s64(veorq_s64(bits, vreinterpretq_s64_f64(left.v)), 63);
  const int64x2_t truncated = vaddq_s64(bits, vbicq_s64(beyond, vreinterpretq_s64_u64(exact)));
  const int64x2_t sticky = vbicq_s64(vdupq_n_s64(1), vreinterpretq_s64_u64(exact));
  return {vreinterpretq_f64_s64(vorrq_s64(truncated, sticky))};
}

VM_INLINE P32 shift_exponent_piece(P32 a, P32 b) {
  return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.v), vshlq_n_s32(vreinterpretq_s32_f32(b.v), 23)))};
}
VM_INLINE P64 shift_exponent_piece(P64 a, P64 b) {
  return {vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(a.v), vshlq_n_s64(vreinterpretq_s64_f64(b.v), 52)))};
}
VM_INLINE P32 power_of_two_piece(P32 a) { return {vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(a.v), 23))}; }
VM_INLINE P64 power_of_two_piece(P64 a) { return {vreinterpretq_f64_s64(vshlq_n_s64(vreinterpretq_s64_f64(a.v), 52))}; }
VM_INLINE P32 exponent_sqrt2_piece(P32 a) {
  return {vcvtq_f32_s32(vshrq_n_s32(vsubq_s32(vreinterpretq_s32_f32(a.v), vdupq_n_s32(0x3f3504f3)), 23))};
}
VM_INLINE P64 exponent_sqrt2_piece(P64 a) {
  return {vcvtq_f64_s64(vshrq_n_s64(vsubq_s64(vreinterpretq_s64_f64(a.v), vdupq_n_s64(0x3fe6a09e667f3bcd)), 52))};
}

VM_INLINE uint64x2_t flip(uint64x2_t m) { return vreinterpretq_u64_u32(vmvnq_u32(vreinterpretq_u32_u64(m))); }
VM_INLINE uint32x4_t less_piece(P32 a, P32 b) { return vcltq_f32(a.v, b.v); }
VM_INLINE uint64x2_t less_piece(P64 a, P64 b) { return vcltq_f64(a.v, b.v); }
VM_INLINE uint32x4_t equal_piece(P32 a, P32 b) { return vceqq_f32(a.v, b.v); }
VM_INLINE uint64x2_t equal_piece(P64 a, P64 b) { return vceqq_f64(a.v, b.v); }
VM_INLINE uint32x4_t not_less_piece(P32 a, P32 b) { return vmvnq_u32(vcltq_f32(a.v, b.v)); }
VM_INLINE uint64x2_t not_less_piece(P64 a, P64 b) { return flip(vcltq_f64(a.v, b.v)); }
VM_INLINE uint32x4_t is_nan_piece(P32 a) { return vmvnq_u32(vceqq_f32(a.v, a.v)); }
VM_INLINE uint64x2_t is_nan_piece(P64 a) { return flip(vceqq_f64(a.v, a.v)); }
VM_INLINE unsigned bits_piece(uint32x4_t m) {
  constexpr uint32_t weight[4] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(m, vld1q_u32(weight)));
}
VM_INLINE unsigned bits_piece(uint64x2_t m) {
  return static_cast<unsigned>((vgetq_lane_u64(m, 0) & 1) | (vgetq_lane_u64(m, 1) & 2));
}
VM_INLINE P32 select_piece(uint32x4_t m, P32 yes, P32 no) { return {vbslq_f32(m, yes.v, no.v)}; }
VM_INLINE P64 select_piece(uint64x2_t m, P64 yes, P64 no) { return {vbslq_f64(m, yes.v, no.v)}; }
VM_INLINE P32 keep_piece(uint32x4_t m, P32 a) {
  return {vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(a.v)))};
}
VM_INLINE P64 keep_piece(uint64x2_t m, P64 a) {
  return {vreinterpretq_f64_u64(vandq_u64(m, vreinterpretq_u64_f64(a.v)))};
}

VM_INLINE float32x4_t widen_bfloat16(uint16x4_t h) { return vreinterpretq_f32_u32(vshll_n_u16(h, 16)); }
VM_INLINE uint16x4_t narrow_bfloat16(float32x4_t a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), 16);
  return vmovn_u32(vbslq_u32(vceqq_f32(a, a), rounded, vdupq_n_u32(0x7fc0)));
}
VM_INLINE uint16x4_t narrow_half(float32x4_t a) { return vreinterpret_u16_f16(vcvt_f16_f32(a)); }

// Addresses may be odd: the byte-wise loads and stores promise no alignment to the compiler.
VM_INLINE uint8x16_t bytes16(const void* x) { return vld1q_u8(static_cast<const std::uint8_t*>(x)); }
VM_INLINE uint8x8_t bytes8(const void* x) { return vld1_u8(static_cast<const std::uint8_t*>(x)); }
VM_INLINE void load_piece(P32& p, const float* x) { p.v = vreinterpretq_f32_u8(bytes16(x)); }
VM_INLINE void load_piece(P64& p, const double* x) { p.v = vreinterpretq_f64_u8(bytes16(x)); }
VM_INLINE void load_piece(P32& p, const Half* x) { p.v = vcvt_f32_f16(vreinterpret_f16_u8(bytes8(x))); }
VM_INLINE void load_piece(P32& p, const BFloat16* x) { p.v = widen_bfloat16(vreinterpret_u16_u8(bytes8(x))); }
VM_INLINE void load_piece(P64& p, const float* x) { p.v = vcvt_f64_f32(vreinterpret_f32_u8(bytes8(x))); }

VM_INLINE void store_piece(float* y, P32 p) { vst1q_u8(reinterpret_cast<std::uint8_t*>(y), vreinterpretq_u8_f32(p.v)); }
VM_INLINE void store_piece(double* y, P64 p) {
  vst1q_u8(reinterpret_cast<std::uint8_t*>(y), vreinterpretq_u8_f64(p.v));
}
VM_INLINE void store_piece(float* y, P64 p) {
  vst1_u8(reinterpret_cast<std::uint8_t*>(y), vreinterpret_u8_f32(vcvt_f32_f64(p.v)));
}
VM_INLINE void store_piece(Half* y, P32 p) {
  vst1_u8(reinterpret_cast<std::uint8_t*>(y), vreinterpret_u8_u16(narrow_half(p.v)));
}
VM_INLINE void store_piece(BFloat16* y, P32 p) {
  vst1_u8(reinterpret_cast<std::uint8_t*>(y), vreinterpret_u8_u16(narrow_bfloat16(p.v)));
}

template <class T, class P>
VM_INLINE void stream_piece(T* y, P p) {  // no streaming stores among the intrinsics
  store_piece(y, p);
}

}  // namespace vastmax::VM_ISA
