// SPDX-License-Identifier: Apache-2.0
// What a filter leaves of a row, and room to find it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <vector>

#include "cpp/math/threshold.hpp"

namespace vastmax {

// Keeps its memory, and writes nothing into it: vectors of a row's length spent a sixth of a draw on fresh pages.
template <class T>
class Buffer {
 public:
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  std::size_t size() const { return size_; }
  void resize(std::size_t size) {
    if (size > capacity_) {
      capacity_ = std::max(size, 2 * capacity_);
      auto larger = std::make_unique_for_overwrite<T[]>(capacity_);
      std::copy_n(data_.get(), size_, larger.get());
      data_ = std::move(larger);
    }
    size_ = size;
  }

 private:
  std::unique_ptr<T[]> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

// Some classes of a row, in their order: logits, and what each weighs.
template <class F>
struct ClassList {
  Buffer<F> number;
  Buffer<std::int64_t> index;
  Buffer<double> mass;

  std::size_t size() const { return index.size(); }
  void resize(std::size_t size) { number.resize(size), index.resize(size); }
  void add(const ClassList& other) {
    const std::size_t before = size();
    resize(before + other.size());
    std::copy_n(other.number.data(), other.size(), number.data() + before);
    std::copy_n(other.index.data(), other.size(), index.data() + before);
  }
  Entry entry(std::size_t i) const { return {static_cast<double>(number[i]), index[i]}; }
  // The first place of a class from `at` up.
  std::size_t from(std::int64_t at) const {
    return static_cast<std::size_t>(std::lower_bound(index.data(), index.data() + size(), at) - index.data());
  }
};

// What a filter leaves of a row.
struct Kept {
  Cut cut;
  double max = -infinity;      // the largest logit; NaN if there is a NaN, and then nothing is cut
  bool listed = false;         // where few are kept:
  std::vector<Entry> entries;  // all of them, by index
  std::vector<double> sums;    // where many are, if known: the mass of each block in units of 2^-62 of the largest
  std::tuple<ClassList<float>, ClassList<double>> room;
};

}  // namespace vastmax
