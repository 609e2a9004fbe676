// SPDX-License-Identifier: Apache-2.0
// The virtual vector: 64 bytes on every machine, as K hardware registers ("pieces") of the ISA. Sixteen floats or eight
// doubles are one AVX-512 register, two of AVX2, four of NEON and sixteen of scalar, so a sum over lanes has one order
// everywhere.
//
// Formulas work on vec<F>: the virtual vector, or a single lane where the machine has no vectors (sixteen copies of
// each formula would take the compiler minutes).
#pragma once

#include "cpp/simd/isa.hpp"

namespace vastmax::VM_ISA {

#define VM_EACH(i) VM_UNROLL_PIECES for (int i = 0; i < K; ++i)

template <class P, int K_>
struct Mask {
  static constexpr int K = K_;
  typename P::mask piece[K];
};

template <class P, int K_>
struct Wide {
  using piece_type = P;
  using scalar = typename P::scalar;
  using mask = Mask<P, K_>;
  static constexpr int K = K_, lanes = K_ * P::lanes;
  P piece[K];
};

using F32 = Wide<P32, 16 / P32::lanes>;
using F64 = Wide<P64, 8 / P64::lanes>;

template <class F>
struct WideOf;
template <>
struct WideOf<float> {
  using type = F32;
};
template <>
struct WideOf<double> {
  using type = F64;
};
template <class F>
using wide = typename WideOf<F>::type;

template <class V>
using PerPiece = Wide<typename V::piece_type, V::K <= 4 ? V::K : 1>;
template <class F>
using vec = PerPiece<wide<F>>;

// Several virtual vectors side by side, operation by operation: one vector's chain of dependent operations is longer
// than the processor looks ahead (docs/development/measured.md).
template <class V>
using Batch = Wide<typename V::piece_type, (V::K < pieces_in_flight ? pieces_in_flight : V::K)>;

// The j-th V of a Batch.
template <class V, class P, int K>
VM_INLINE V part(const Wide<P, K>& batch, int j) {
  V out;
  for (int i = 0; i < V::K; ++i) out.piece[i] = batch.piece[j * V::K + i];
  return out;
}

// op, a formula on vec<F>, on a virtual vector.
template <class Op, class P, int K>
VM_INLINE Wide<P, K> through(const Op& op, Wide<P, K> v) {
  if constexpr (K <= 4) {
    return op(v);
  } else {
    for (int i = 0; i < K; ++i) v.piece[i] = op(Wide<P, 1>{{v.piece[i]}}).piece[0];
    return v;
  }
}

template <class V>
VM_INLINE V splat(typename V::scalar s) {
  constexpr int K = V::K;
  V out;
  VM_EACH(i) out.piece[i] = V::piece_type::splat(s);
  return out;
}

// One piece-wise operation, lifted to the virtual vector.
#define VM_LIFT1(result, name)                          \
  template <class P, int K>                             \
  VM_INLINE result<P, K> name(Wide<P, K> a) {           \
    result<P, K> out;                                   \
    VM_EACH(i) out.piece[i] = name##_piece(a.piece[i]); \
    return out;                                         \
  }
#define VM_LIFT2(result, name, piece_name)                                \
  template <class P, int K>                                               \
  VM_INLINE result<P, K> name(Wide<P, K> a, Wide<P, K> b) {               \
    result<P, K> out;                                                     \
    VM_EACH(i) out.piece[i] = piece_name##_piece(a.piece[i], b.piece[i]); \
    return out;                                                           \
  }
#define VM_LIFT3(name)                                                          \
  template <class P, int K>                                                     \
  VM_INLINE Wide<P, K> name(Wide<P, K> a, Wide<P, K> b, Wide<P, K> c) {         \
    Wide<P, K> out;                                                             \
    VM_EACH(i) out.piece[i] = name##_piece(a.piece[i], b.piece[i], c.piece[i]); \
    return out;                                                                 \
  }

VM_LIFT2(Wide, operator+, add)
VM_LIFT2(Wide, operator-, sub)
VM_LIFT2(Wide, operator*, mul)
VM_LIFT2(Wide, operator/, div)
VM_LIFT2(Wide, max, max)  // b where either is NaN, and where both are zero
VM_LIFT3(fma)             // a b + c, rounded once
VM_LIFT3(nfma)            // c - a b, rounded once
VM_LIFT1(Wide, abs)
VM_LIFT1(Wide, negate)
VM_LIFT2(Wide, shift_exponent, shift_exponent)  // a times 2^j, where j is the integer in the low mantissa bits of b
VM_LIFT1(Wide, power_of_two)  // 2^j, where j and the bias of exponents are the integer in the low mantissa bits
VM_LIFT2(Mask, operator<, less)
VM_LIFT2(Mask, operator==, equal)
VM_LIFT2(Mask, not_less, not_less)  // true for NaN
VM_LIFT1(Mask, is_nan)
// a + left for |left| up to half an ulp of a, rounded to odd: to the neighbour whose last bit is 1 where a is not
// exact. Rounded once more, to fewer bits, it is what one rounding gives.
VM_LIFT2(Wide, round_to_odd, round_to_odd)
VM_LIFT1(Wide, exponent_sqrt2)  // e with x = m 2^e, m in [sqrt(1/2), sqrt(2)); x finite, normal, > 0

// Lane i in bit i, for up to 64 lanes.
template <class P, int K>
VM_INLINE std::uint64_t bits(Mask<P, K> m) {
  static_assert(K * P::lanes <= 64);
  std::uint64_t out = 0;
  VM_EACH(i) out |= static_cast<std::uint64_t>(bits_piece(m.piece[i])) << (i * P::lanes);
  return out;
}
template <class P, int K>
VM_INLINE Wide<P, K> select(Mask<P, K> m, Wide<P, K> yes, Wide<P, K> no) {
  Wide<P, K> out;
  VM_EACH(i) out.piece[i] = select_piece(m.piece[i], yes.piece[i], no.piece[i]);
  return out;
}
// a where m, else +0
template <class P, int K>
VM_INLINE Wide<P, K> keep(Mask<P, K> m, Wide<P, K> a) {
  Wide<P, K> out;
  VM_EACH(i) out.piece[i] = keep_piece(m.piece[i], a.piece[i]);
  return out;
}
// keep(m, a * b)
template <class P, int K>
VM_INLINE Wide<P, K> multiply_where(Mask<P, K> m, Wide<P, K> a, Wide<P, K> b) {
#ifdef VM_MULTIPLY_WHERE
  Wide<P, K> out;
  VM_EACH(i) out.piece[i] = multiply_where_piece(m.piece[i], a.piece[i], b.piece[i]);
  return out;
#else
  return keep(m, a * b);
#endif
}
// a + keep(m, b)
template <class P, int K>
VM_INLINE Wide<P, K> add_where(Mask<P, K> m, Wide<P, K> a, Wide<P, K> b) {
#ifdef VM_ADD_WHERE
  Wide<P, K> out;
  VM_EACH(i) out.piece[i] = add_where_piece(m.piece[i], a.piece[i], b.piece[i]);
  return out;
#else
  return a + keep(m, b);
#endif
}

template <class V>
struct InFloat64 {
  using type = V;
};
template <int K>
struct InFloat64<Wide<P32, K>> {
  using type = Wide<P64, K * P32::lanes / P64::lanes>;
};
template <class V>
using in_float64 = typename InFloat64<V>::type;

// The same lanes in W, which is V or in_float64<V>, and back, rounded.
template <class W, class V>
VM_INLINE W widened(V a) {
  if constexpr (sizeof(typename W::scalar) == sizeof(typename V::scalar)) {
    return a;
  } else {
    constexpr int K = V::K;
    W out;
    VM_EACH(i) widen_piece(a.piece[i], out.piece + i * (W::K / K));
    return out;
  }
}
template <class V, class W>
VM_INLINE V narrowed(W a) {
  if constexpr (sizeof(typename W::scalar) == sizeof(typename V::scalar)) {
    return a;
  } else {
    constexpr int K = V::K;
    V out;
    VM_EACH(i) out.piece[i] = narrow_piece(a.piece + i * (W::K / K));
    return out;
  }
}
VM_INLINE void widen(F32 a, F64& low, F64& high) {  // the lower and the upper half of the lanes
  const auto both = widened<in_float64<F32>>(a);
  low = part<F64>(both, 0), high = part<F64>(both, 1);
}

// Memory. T is a storage type: float, double, Half or BFloat16; addresses need no alignment, except for stream.
template <class V, class T>
VM_INLINE V load(const std::byte* at, const T*) {
  constexpr int K = V::K;
  V out;
  VM_EACH(i) load_piece(out.piece[i], reinterpret_cast<const T*>(at) + i * V::piece_type::lanes);
  return out;
}
template <class T, class P, int K>
VM_INLINE void store(std::byte* at, Wide<P, K> a, T*) {
  VM_EACH(i) store_piece(reinterpret_cast<T*>(at) + i * P::lanes, a.piece[i]);
}
template <class T, class P, int K>
VM_INLINE void stream(std::byte* at, Wide<P, K> a, T*) {
  T* const y = reinterpret_cast<T*>(at);
#ifdef VM_STREAM_PAIRS
  if constexpr (sizeof(T) == 2 && K % 2 == 0) {
    VM_UNROLL_PIECES for (int i = 0; i < K; i += 2) stream_pair(y + i * P::lanes, a.piece[i], a.piece[i + 1]);
    return;
  }
#endif
  VM_EACH(i) stream_piece(y + i * P::lanes, a.piece[i]);
}

#ifdef VM_MASKED_MEMORY
template <class V>
inline constexpr bool masked_memory = V::K == 1;
#else
template <class V>
inline constexpr bool masked_memory = false;
#endif

// The first n lanes; the others read as `fill`, and nothing beyond them is touched.
template <class V, class T>
VM_INLINE V load_first(const std::byte* at, std::size_t n, typename V::scalar fill, const T* type) {
  if constexpr (masked_memory<V>) {
    return V{{load_first_piece(reinterpret_cast<const T*>(at), n, V::piece_type::splat(fill))}};
  } else {
    alignas(64) std::byte whole[V::lanes * sizeof(T)];
    store(whole, splat<V>(fill), static_cast<T*>(nullptr));
    std::memcpy(whole, at, n * sizeof(T));
    return load<V>(whole, type);
  }
}
template <class T, class V>
VM_INLINE void store_first(std::byte* at, std::size_t n, V a, T* type) {
  if constexpr (masked_memory<V>) {
    store_first_piece(reinterpret_cast<T*>(at), n, a.piece[0]);
  } else {
    alignas(64) std::byte whole[V::lanes * sizeof(T)];
    store(whole, a, type);
    std::memcpy(at, whole, n * sizeof(T));
  }
}
// All lanes, or the first n of them.
template <class V, class T>
VM_INLINE V load_up_to(const std::byte* at, std::size_t n, typename V::scalar fill, const T* type) {
  return n == V::lanes ? load<V>(at, type) : load_first<V>(at, n, fill, type);
}

// Lanes as an array, for the end of a reduction.
template <class V>
struct Lanes {
  alignas(64) typename V::scalar at[V::lanes];
  VM_MEMBER explicit Lanes(V a) { store(reinterpret_cast<std::byte*>(at), a, at); }
};

}  // namespace vastmax::VM_ISA
