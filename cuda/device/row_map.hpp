// SPDX-License-Identifier: Apache-2.0
// The logits of a row through its formula, and what stands where the row has none.
#pragma once

#include "cpp/ops/row.hpp"
#include "cuda/device/norm.hpp"

namespace vastmax::VM_ISA {

template <class T>
VM_INLINE T special_bits(Role role, const RowResult& r, bool in, vec<compute_t<T>> x) {
  using F = compute_t<T>;
  const Special s = special_value(role, r.has_nan, r.max, in, x.piece[0].v == Number<F>::infinity);
  return rounded<T>(splat<vec<F>>(s == Special::zero             ? F(0)
                                  : s == Special::minus_infinity ? -Number<F>::infinity
                                                                 : Number<F>::nan));
}

// A row's formula, ready to be applied: constants of the row in registers.
template <template <class, bool> class Formula, class T>
class RowMap {
  using V = vec<compute_t<T>>;

 public:
  VM_MEMBER explicit RowMap(const RowResult& r)
      : formula_(RowValues<V>(r.params)), shift_(splat<V>(static_cast<compute_t<T>>(r.shift))) {}
  VM_MEMBER V operator()(V x) const { return formula_(x - shift_); }

 private:
  Formula<V, sizeof(T) == 2> formula_;
  V shift_;
};

// n classes by thread `me` of `team`.
template <template <class, bool> class Formula, class T>
VM_INLINE void map_plain(Role role, Bytes x, OutBytes y, std::int64_t n, std::int64_t me, std::int64_t team,
                         const RowResult& r) {
  if (!r.special) return map_dense<T>(y, n, me, team, RowMap<Formula, T>(r), x);
  constexpr auto item = static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t i = me; i < n; i += team)
    store_one<T>(y + i * item, special_bits<T>(role, r, true, number(load_one<T>(x + i * item))));
}
template <template <class, bool> class Formula, class T>
VM_INLINE void map_staged(Role role, const Staged<T>& x, OutBytes y, std::int64_t step, std::int64_t begin,
                          std::int64_t end, std::int64_t team, const RowResult& r) {
  const RowMap<Formula, T> map(r);
  for (std::int64_t i = begin; i < end; i += team)
    store_one<T>(y + i * step, r.special ? special_bits<T>(role, r, x.in(i), x.number_at(i)) : rounded<T>(map(x(i))));
}

}  // namespace vastmax::VM_ISA
