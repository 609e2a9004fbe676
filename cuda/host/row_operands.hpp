// SPDX-License-Identifier: Apache-2.0
// The operands of a call over rows.
#pragma once

#include "cuda/host/operands.hpp"

namespace vastmax::cuda {

// The operands of a call over rows, checked and merged.
class Rows {
 public:
  Rows(const char* op, const ConstView& x)
      : op_(op), access_(op), loop_(x.shape.first(x.shape.size() - 1)), shape_(x.shape), dtype_(x.dtype) {}

  template <class V>
  std::size_t full(const char* what, const V& view) {
    access_.add(what, view);
    loop_.add(view.strides.first(view.strides.size() - 1));
    return slots_++;
  }
  template <class V>
  std::size_t per_row(const char* what, const V& view) {
    access_.add(what, view);
    loop_.add(view.strides);
    return slots_++;
  }
  void options(const RowOptions& o) {
    const auto rows = shape_.first(shape_.size() - 1);
    if (o.temperature != nullptr) {
      access_.add("temperature", o.temperature, rows, o.temperature_strides, sizeof(double));
      loop_.add(o.temperature_strides);
      temperature_ = slots_++;
    }
    if (o.where != nullptr) {
      access_.add("where", o.where, shape_, o.where_strides, 1);
      loop_.add(o.where_strides.first(o.where_strides.size() - 1));
      where_ = slots_++;
    }
    options_ = o;
  }
  RowOperands merged() {
    loop_.merge();
    RowOperands a;
    a.shape = shape_of(op_, loop_, shape_.back());
    if (options_.temperature != nullptr) a.temperature = operand_of(loop_, temperature_, options_.temperature, 0);
    if (options_.where != nullptr) a.where = operand_of(loop_, where_, options_.where, options_.where_strides.back());
    return a;
  }
  template <class V>
  Operand full_operand(std::size_t slot, const V& view) const {
    return operand_of(loop_, slot, view.data, view.strides.back());
  }
  template <class V>
  Operand row_operand(std::size_t slot, const V& view) const {
    return operand_of(loop_, slot, view.data, 0);
  }
  bool options_given() const { return options_.temperature != nullptr || options_.where != nullptr; }
  bool dense(const Operand& o) const { return o.step == static_cast<std::int64_t>(item_size(dtype_)); }

 private:
  const char* op_;
  Access access_;
  Loop loop_;
  std::span<const std::int64_t> shape_;
  DType dtype_;
  RowOptions options_;
  std::size_t slots_ = 0, temperature_ = 0, where_ = 0;
};

}  // namespace vastmax::cuda
