// SPDX-License-Identifier: Apache-2.0
// No vectors: one lane a piece, any machine, and a lane of a warp on a GPU.  __builtin_fma rounds once even where the
// machine has no FMA, so the bits agree with the other sets; there it is slow.
#pragma once

#include "cpp/simd/isa.hpp"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#define VM_UNROLL_PIECES VM_UNROLL(1)  // sixteen pieces unrolled are minutes of compile time and no faster

namespace vastmax::VM_ISA {

inline constexpr int pieces_in_flight = 1;

template <class To, class From>
VM_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// What arithmetic gives.  On an NVIDIA GPU every float32 operation with a NaN result gives this one (PTX ISA, floating
// point instructions; float64 keeps payloads, as hosts do), so on the SIMT machine too: its low bits are ones, where
// those of the host's NaN are zeros.
#ifdef VASTMAX_SIMT
VM_INLINE float computed(float f) { return f != f ? bit_cast<float>(0x7fffffffu) : f; }
#else
VM_INLINE float computed(float f) { return f; }
#endif
VM_INLINE double computed(double f) { return f; }

template <class F>
struct Piece {
  using scalar = F;
  using mask = bool;
  static constexpr int lanes = 1;
  F v;
  VM_MEMBER static Piece splat(F s) { return {s}; }
};
using P32 = Piece<float>;
using P64 = Piece<double>;

template <class F>
VM_INLINE Piece<F> add_piece(Piece<F> a, Piece<F> b) {
  return {computed(a.v + b.v)};
}
template <class F>
VM_INLINE Piece<F> sub_piece(Piece<F> a, Piece<F> b) {
  return {computed(a.v - b.v)};
}
template <class F>
VM_INLINE Piece<F> mul_piece(Piece<F> a, Piece<F> b) {
  return {computed(a.v * b.v)};
}
template <class F>
VM_INLINE Piece<F> div_piece(Piece<F> a, Piece<F> b) {
  return {computed(a.v / b.v)};
}
template <class F>
VM_INLINE Piece<F> max_piece(Piece<F> a, Piece<F> b) {
  return {a.v > b.v ? a.v : b.v};
}
VM_INLINE P32 fma_piece(P32 a, P32 b, P32 c) { return {computed(__builtin_fmaf(a.v, b.v, c.v))}; }
VM_INLINE P64 fma_piece(P64 a, P64 b, P64 c) { return {__builtin_fma(a.v, b.v, c.v)}; }
template <class F>
VM_INLINE Piece<F> negate_piece(Piece<F> a) {
  return {-a.v};
}
template <class F>
VM_INLINE Piece<F> nfma_piece(Piece<F> a, Piece<F> b, Piece<F> c) {
  return fma_piece(negate_piece(a), b, c);
}
VM_INLINE P32 abs_piece(P32 a) { return {__builtin_fabsf(a.v)}; }
VM_INLINE P64 abs_piece(P64 a) { return {__builtin_fabs(a.v)}; }

VM_INLINE void widen_piece(P32 a, P64* out) { out[0].v = a.v; }
VM_INLINE P32 narrow_piece(const P64* a) { return {computed(static_cast<float>(a[0].v))}; }
VM_INLINE P64 round_to_odd_piece(P64 a, P64 left) {
  const std::uint64_t bits = bit_cast<std::uint64_t>(a.v), beyond = (bits ^ bit_cast<std::uint64_t>(left.v)) >> 63;
  return {bit_cast<double>(left.v == 0 ? bits : (bits - beyond) | 1)};
}

VM_INLINE P32 shift_exponent_piece(P32 a, P32 b) {
  return {bit_cast<float>(bit_cast<std::uint32_t>(a.v) + (bit_cast<std::uint32_t>(b.v) << 23))};
}
VM_INLINE P64 shift_exponent_piece(P64 a, P64 b) {
  return {bit_cast<double>(bit_cast<std::uint64_t>(a.v) + (bit_cast<std::uint64_t>(b.v) << 52))};
}
VM_INLINE P32 power_of_two_piece(P32 a) { return {bit_cast<float>(bit_cast<std::uint32_t>(a.v) << 23)}; }
VM_INLINE P64 power_of_two_piece(P64 a) { return {bit_cast<double>(bit_cast<std::uint64_t>(a.v) << 52)}; }
VM_INLINE P32 exponent_sqrt2_piece(P32 a) {
  return {static_cast<float>(static_cast<std::int32_t>(bit_cast<std::uint32_t>(a.v) - 0x3f3504f3u) >> 23)};
}
VM_INLINE P64 exponent_sqrt2_piece(P64 a) {
  return {static_cast<double>(static_cast<std::int64_t>(bit_cast<std::uint64_t>(a.v) - 0x3fe6a09e667f3bcdu) >> 52)};
}

template <class F>
VM_INLINE bool less_piece(Piece<F> a, Piece<F> b) {
  return a.v < b.v;
}
template <class F>
VM_INLINE bool equal_piece(Piece<F> a, Piece<F> b) {
  return a.v == b.v;
}
template <class F>
VM_INLINE bool not_less_piece(Piece<F> a, Piece<F> b) {
  return !(a.v < b.v);
}
template <class F>
VM_INLINE bool is_nan_piece(Piece<F> a) {
  return a.v != a.v;
}
VM_INLINE unsigned bits_piece(bool m) { return m; }
template <class F>
VM_INLINE Piece<F> select_piece(bool m, Piece<F> yes, Piece<F> no) {
  return m ? yes : no;
}
template <class F>
VM_INLINE Piece<F> keep_piece(bool m, Piece<F> a) {
  return {m ? a.v : F(0)};
}

#ifdef __CUDACC__
// One instruction each; those of the hardware make another NaN.
VM_INLINE float widen(Half h) { return __half2float(__ushort_as_half(h.bits)); }
VM_INLINE Half narrow_half(float f) { return {f != f ? std::uint16_t{0x7e00} : __half_as_ushort(__float2half_rn(f))}; }
VM_INLINE BFloat16 narrow_bfloat16(float f) {
  return {f != f ? std::uint16_t{0x7fc0} : __bfloat16_as_ushort(__float2bfloat16_rn(f))};
}
#else
VM_INLINE float widen(Half h) {
  const std::uint32_t sign = (h.bits & 0x8000u) << 16, magnitude = h.bits & 0x7fffu;
  // 2^112 moves the exponent bias from 15 to 127 and normalises subnormals; infinities and NaN keep an exponent of all
  // ones.
  const float scaled = bit_cast<float>(magnitude << 13) * 0x1p112f;
  return bit_cast<float>(sign |
                         (magnitude >= 0x7c00u ? (magnitude << 13) | 0x7f800000u : bit_cast<std::uint32_t>(scaled)));
}
VM_INLINE Half narrow_half(float f) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(f), sign = bits & 0x80000000u, magnitude = bits ^ sign;
  std::uint32_t out;
  if (magnitude >= 0x47800000u)  // 65,536 and more, infinity, NaN
    out = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  else if (magnitude < 0x38800000u)  // below 2^-14: adding 0.5 rounds to a multiple of 2^-24
    out = bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  else
    out = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  return {static_cast<std::uint16_t>(out | (sign >> 16))};
}
VM_INLINE BFloat16 narrow_bfloat16(float f) {
  if (f != f) return {0x7fc0};
  const std::uint32_t bits = bit_cast<std::uint32_t>(f);
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
#endif
VM_INLINE float widen(BFloat16 h) { return bit_cast<float>(static_cast<std::uint32_t>(h.bits) << 16); }

template <class T>
VM_INLINE T read(const T* x) {  // memcpy: the address may be odd
  T t;
  std::memcpy(&t, x, sizeof t);
  return t;
}
VM_INLINE void load_piece(P32& p, const float* x) { p.v = read(x); }
VM_INLINE void load_piece(P64& p, const double* x) { p.v = read(x); }
VM_INLINE void load_piece(P32& p, const Half* x) { p.v = computed(widen(read(x))); }
VM_INLINE void load_piece(P32& p, const BFloat16* x) { p.v = widen(read(x)); }
VM_INLINE void load_piece(P64& p, const float* x) { p.v = read(x); }

template <class T, class U>
VM_INLINE void write(T* y, U u) {
  static_assert(sizeof(T) == sizeof(U));
  std::memcpy(y, &u, sizeof u);
}
VM_INLINE void store_piece(float* y, P32 p) { write(y, p.v); }
VM_INLINE void store_piece(double* y, P64 p) { write(y, p.v); }
VM_INLINE void store_piece(float* y, P64 p) { write(y, computed(static_cast<float>(p.v))); }
VM_INLINE void store_piece(Half* y, P32 p) { write(y, narrow_half(p.v)); }
VM_INLINE void store_piece(BFloat16* y, P32 p) { write(y, narrow_bfloat16(p.v)); }

template <class T, class P>
VM_INLINE void stream_piece(T* y, P p) {
  store_piece(y, p);
}

}  // namespace vastmax::VM_ISA
