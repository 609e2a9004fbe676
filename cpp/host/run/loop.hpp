// SPDX-License-Identifier: Apache-2.0
// Strided operands walked together: dimensions that can be merged are, so that the usual case is one stride per
// operand.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "cpp/kernels/kernel_table.hpp"

namespace vastmax {

class Loop {
 public:
  static constexpr std::size_t most = 6;  // operands
  using Strides = std::array<std::int64_t, most>;

  explicit Loop(std::span<const std::int64_t> shape)
      : shape_(shape.begin(), shape.end()), strides_(shape.size(), Strides{}) {
    for (const auto extent : shape) count_ *= static_cast<std::size_t>(extent);
  }
  void add(std::span<const std::int64_t> strides) {
    for (std::size_t d = 0; d < shape_.size(); ++d) strides_[d][operands_] = strides[d];
    ++operands_;
  }
  // Order does not matter to element-wise ops: put the dimension with the smallest step of operand `of` last.
  void sort(std::size_t of) {
    for (std::size_t d = 1; d < shape_.size(); ++d)
      for (std::size_t e = d; e > 0 && std::abs(strides_[e - 1][of]) < std::abs(strides_[e][of]); --e) {
        std::swap(shape_[e], shape_[e - 1]);
        std::swap(strides_[e], strides_[e - 1]);
      }
  }
  void merge() {
    std::vector<std::int64_t> shape;
    std::vector<Strides> strides;
    for (std::size_t d = 0; d < shape_.size(); ++d) {
      if (shape_[d] == 1) continue;
      bool joins = !shape.empty();
      for (std::size_t k = 0; joins && k < operands_; ++k) joins = strides.back()[k] == strides_[d][k] * shape_[d];
      if (joins) {
        shape.back() *= shape_[d];
        strides.back() = strides_[d];
      } else {
        shape.push_back(shape_[d]);
        strides.push_back(strides_[d]);
      }
    }
    shape_ = std::move(shape);
    strides_ = std::move(strides);
  }

  std::size_t count() const { return count_; }
  std::span<const std::int64_t> shape() const { return shape_; }
  std::int64_t stride(std::size_t dim, std::size_t operand) const { return strides_[dim][operand]; }
  std::size_t inner() const { return shape_.empty() ? 1 : static_cast<std::size_t>(shape_.back()); }
  std::int64_t inner_stride(std::size_t operand) const { return shape_.empty() ? 0 : strides_.back()[operand]; }
  bool plain(std::size_t operand, std::size_t item) const {  // one dense stretch
    return shape_.empty() || (shape_.size() == 1 && strides_[0][operand] == static_cast<std::int64_t>(item));
  }

  // Byte offset of an operand at a position in index order.
  std::int64_t offset(std::size_t index, std::size_t operand) const {
    std::int64_t at = 0;
    for (std::size_t d = shape_.size(); d-- > 0;) {
      const auto extent = static_cast<std::size_t>(shape_[d]);
      if (d == 0) {
        at += static_cast<std::int64_t>(index) * strides_[0][operand];
      } else {
        at += static_cast<std::int64_t>(index % extent) * strides_[d][operand];
        index /= extent;
      }
    }
    return at;
  }

  // Elements [begin, begin + n) of an operand into a dense stretch, and back.
  void gather(Bytes data, std::size_t operand, std::size_t item, std::size_t begin, std::size_t n, OutBytes to) const {
    runs(operand, begin, n, [&](std::int64_t at, std::int64_t step, std::size_t length) {
      copy(to, static_cast<std::int64_t>(item), data + at, step, item, length);
      to += length * item;
    });
  }
  void scatter(OutBytes data, std::size_t operand, std::size_t item, std::size_t begin, std::size_t n,
               Bytes from) const {
    runs(operand, begin, n, [&](std::int64_t at, std::int64_t step, std::size_t length) {
      copy(data + at, step, from, static_cast<std::int64_t>(item), item, length);
      from += length * item;
    });
  }

  static void copy(OutBytes to, std::int64_t to_step, Bytes from, std::int64_t from_step, std::size_t item,
                   std::size_t n) {
    const auto dense = static_cast<std::int64_t>(item);
    if (to_step == dense && from_step == dense) {
      std::memcpy(to, from, n * item);
      return;
    }
    const auto each = [&]<class T>(T) {
      for (std::size_t i = 0; i < n; ++i, to += to_step, from += from_step) std::memcpy(to, from, sizeof(T));
    };
    item == 8 ? each(std::uint64_t{}) : item == 4 ? each(std::uint32_t{}) : each(std::uint16_t{});
  }

 private:
  template <class Fn>
  void runs(std::size_t operand, std::size_t begin, std::size_t n, const Fn& fn) const {
    const std::size_t length = inner();
    const std::int64_t step = inner_stride(operand);
    while (n > 0) {
      const std::size_t some = std::min(n, length - begin % length);
      fn(offset(begin, operand), step, some);
      begin += some;
      n -= some;
    }
  }

  std::vector<std::int64_t> shape_;
  std::vector<Strides> strides_;
  std::size_t operands_ = 0, count_ = 1;
};

}  // namespace vastmax
