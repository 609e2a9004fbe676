// SPDX-License-Identifier: Apache-2.0
// softcap: c tanh(x / c), and its slope 4 e / (1 + e)^2 with e = e^(-2 |x| / c).  In float64 float32 logits are rounded
// once; in float32 it is good to 3 ULP.  `exact`: float64 logits are rounded once too.
#pragma once

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V, bool exact = false>
struct Softcap {
  using F = typename V::scalar;
  static constexpr F most = sizeof(F) == 4 ? 87 : 700;  // beyond, tanh is 1 and its slope 0
  V cap, inverse, inverse_low, one = splat<V>(1);       // inverse: of c / 2, in two parts
  VM_MEMBER explicit Softcap(double c)
      : cap(splat<V>(static_cast<F>(c))),
        inverse(splat<V>(static_cast<F>(2 / c))),
        inverse_low(nfma(inverse, cap, splat<V>(2)) / cap) {}

  // e = unit (1 + p), where p is e^r - 1 to full relative accuracy
  struct Parts {
    V unit, p;
  };
  VM_MEMBER Parts parts(V x) const {
    const V a = abs(x), product = a * inverse, exponent = max(splat<V>(-most), negate(product));
    const auto e = ScaledExp<V>(splat<V>(0)).parts(exponent);
    const V lost = keep(product < splat<V>(most), fma(a, inverse_low, fma(a, inverse, negate(product))));
    const V p = e.r * e.slope;
    return {power_of_two(e.rounded), nfma(lost, one + p, p)};
  }
  VM_MEMBER V operator()(V x) const {
    const Parts e = parts(x);
    const V tanh = nfma(e.unit, e.p, one - e.unit) / fma(e.unit, e.p, one + e.unit);
    return quiet(x, cap * select(x < splat<V>(0), negate(tanh), tanh));
  }
  VM_MEMBER V slope(V x) const {
    const Parts e = parts(x);
    const V divisor = fma(e.unit, e.p, one + e.unit);
    const V y = splat<V>(4) * fma(e.unit, e.p, e.unit) / (divisor * divisor);
    return quiet(x, keep(abs(x) * inverse < splat<V>(most), y));
  }
};

// A number as the sum of two, to about 2^-100.
template <class V>
struct Pair {
  V high, low;
};
template <class V>
VM_INLINE Pair<V> plus(V a, Pair<V> b) {
  V sum = a, lost = b.low;
  two_sum(sum, lost, b.high);
  return {sum, lost};
}
template <class V>
VM_INLINE Pair<V> times(Pair<V> a, Pair<V> b) {
  const V product = a.high * b.high;
  return {product, fma(a.high, b.high, negate(product)) + fma(a.high, b.low, a.low * b.high)};
}
template <class V>
VM_INLINE Pair<V> quotient(Pair<V> a, Pair<V> b) {
  const V high = a.high / b.high;
  return {high, nfma(high, b.low, nfma(high, b.high, a.high) + a.low) / b.high};
}

template <class V>
struct Softcap<V, true> {
  V cap;
  VM_MEMBER explicit Softcap(double c) : cap(splat<V>(c)) {}

  VM_MEMBER V operator()(V x) const {
    const V a = abs(x), one = splat<V>(1);
    const Parts parts(a, cap);
    V above = one, below = splat<V>(0);
    two_sum(above, below, negate(parts.power.unit));
    const Pair<V> numerator = plus(above, {negate(parts.scaled.high), below - parts.scaled.low});
    const Pair<V> y = times({cap, splat<V>(0)}, quotient(numerator, parts.one_more()));
    const V size = select(parts.ratio < splat<V>(0x1p-27), a, y.high + y.low);  // tanh u = u - u^3 / 3
    return quiet(x, select(x < splat<V>(0), negate(size), size));
  }
  VM_MEMBER V slope(V x) const {
    const Parts parts(abs(x), cap);
    const Pair<V> divisor = parts.one_more(),
                  y = quotient(quotient(plus(splat<V>(1), parts.less_one), divisor), divisor);
    return quiet(x, parts.power.scale(splat<V>(4) * (y.high + y.low)));
  }

 private:
  static constexpr double most = 380;  // |x| / c beyond which e^(-2 |x| / c) is 0

  // e^(-2 |x| / c) = 2^k (1 + less_one); `scaled` is 2^k less_one
  struct Parts {
    V ratio;
    Reduced<V> at;
    PowerOfTwo<V> power;
    Pair<V> less_one, scaled;
    VM_MEMBER Parts(V a, V c)
        : ratio(a / c),
          at(reduce(max(splat<V>(-2 * most), splat<V>(-2) * ratio), splat<V>(Number<double>::integer))),
          power(at.rounded),
          less_one(exp_less_one(remainder(at, keep(ratio < splat<V>(most), splat<V>(2) * (nfma(ratio, c, a) / c))))),
          scaled{power.unit * less_one.high, power.unit * less_one.low} {}
    VM_MEMBER Pair<V> one_more() const { return plus(splat<V>(1), plus(power.unit, scaled)); }
  };

  // What the reduction leaves, less `lost`.
  VM_MEMBER static Pair<V> remainder(const Reduced<V>& at, V lost) {
    const V log2_low = splat<V>(Number<double>::ln2_low), part = at.k * log2_low,
            rest = fma(at.k, log2_low, negate(part));
    return plus(at.r, {negate(part), negate(rest + lost)});
  }
  // The series of (e^(r / 16) - 1), and e^2s - 1 = (e^s - 1) (e^s + 1) four times.  What comes after s^3 / 6 is below
  // 2^-20 of the whole, so float64 holds it.
  VM_MEMBER static Pair<V> exp_less_one(Pair<V> r) {
    const V part = splat<V>(0x1p-4);
    const Pair<V> s{r.high * part, r.low * part};
    V tail = splat<V>(1.0 / 39916800);  // 1 / 11!
    double factorial = 3628800;
    VM_UNROLL(8)
    for (int i = 10; i >= 4; --i) {
      tail = fma(tail, s.high, splat<V>(1 / factorial));
      factorial /= i;
    }
    constexpr double sixth = 1.0 / 6, sixth_low = 0x1.5555555555555p-57;
    Pair<V> e = plus(splat<V>(sixth), {tail * s.high, splat<V>(sixth_low)});
    e = plus(splat<V>(0.5), times(e, s));
    e = times(plus(splat<V>(1), times(e, s)), s);
    VM_UNROLL(4)
    for (int i = 0; i < 4; ++i) e = times(e, plus(splat<V>(2), e));
    return e;
  }
};

}  // namespace vastmax::VM_ISA
