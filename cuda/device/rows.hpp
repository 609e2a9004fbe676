// SPDX-License-Identifier: Apache-2.0
// Where rows are, and how a row that is not plain is read: any strides, a mask, a temperature.
#pragma once

#include "cpp/ops/quotient.hpp"
#include "cpp/ops/softcap.hpp"
#include "cuda/device/memory.hpp"

namespace vastmax::VM_ISA {

inline constexpr int most_dims = 8;  // of the rows, after those that can be merged have been

// A strided operand: `step` bytes from class to class, `stride` from row to row in each dimension of the rows.
struct Operand {
  std::byte* data = nullptr;
  std::int64_t step = 0;
  std::int64_t stride[most_dims] = {};
};

struct Shape {
  std::int64_t count = 1;  // rows
  std::int64_t n = 0;      // classes
  int dims = 0;
  std::int64_t extent[most_dims] = {};

  VM_MEMBER std::byte* row(const Operand& operand, std::int64_t index) const {
    std::byte* at = operand.data;
    for (int d = dims - 1; d > 0; --d) {
      at += index % extent[d] * operand.stride[d];
      index /= extent[d];
    }
    return at + index * operand.stride[0];
  }
};

// Operands of the row ops; which of them an op has, it knows.  Without a mask or a temperature `data` is null.
struct RowOperands {
  Shape shape;
  Operand x, second, out, temperature, where;
  double softcap = 0;  // 0 for none
};

// A row of logits as numbers of the compute type: x / temperature where the mask is set, -inf elsewhere.  capped: with
// the softcap, and its slope.
template <class T, bool capped = false>
class Staged {
  using V = vec<compute_t<T>>;

 public:
  VM_MEMBER Staged(const RowOperands& a, std::int64_t row, bool as_given = false)  // as_given: without the temperature
      : x_(a.shape.row(a.x, row)),
        where_(a.where.data == nullptr ? nullptr : a.shape.row(a.where, row)),
        step_(a.x.step),
        where_step_(a.where.step),
        divisor_(as_given || a.temperature.data == nullptr ? 1 : load_one<double>(a.shape.row(a.temperature, row))),
        quotient_(divisor_),
        cap_(capped ? a.softcap : 1) {}

  VM_MEMBER bool in(std::int64_t i) const {
    return where_ == nullptr || load_one<std::uint8_t>(where_ + i * where_step_) != 0;
  }
  VM_MEMBER V number_at(std::int64_t i) const {
    const V v = uncapped(i);
    if constexpr (capped) return narrow(cap_(wide(v)));
    return v;
  }
  VM_MEMBER V slope_at(std::int64_t i) const { return narrow(cap_.slope(wide(uncapped(i)))); }
  VM_MEMBER V operator()(std::int64_t i) const {
    return in(i) ? number_at(i) : splat<V>(-Number<compute_t<T>>::infinity);
  }
  VM_MEMBER double divisor() const { return divisor_; }

 private:
  using Wide = vec<double>;
  VM_MEMBER V uncapped(std::int64_t i) const {
    const V v = number(load_one<T>(x_ + i * step_));
    return divisor_ == 1 ? v : quotient_(v);
  }
  VM_MEMBER static Wide wide(V v) { return splat<Wide>(static_cast<double>(v.piece[0].v)); }
  VM_MEMBER static V narrow(Wide v) { return splat<V>(static_cast<compute_t<T>>(v.piece[0].v)); }

  Bytes x_, where_;
  std::int64_t step_, where_step_;
  double divisor_;
  Quotient<V> quotient_;
  Softcap<Wide, sizeof(compute_t<T>) == 8> cap_;
};

}  // namespace vastmax::VM_ISA
