// SPDX-License-Identifier: Apache-2.0
// The n largest of what is offered, ties to the lower index; NaN is larger than any number.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <vector>

#include "cpp/math/threshold.hpp"
#include "vastmax/dtype.hpp"

namespace vastmax {

class Top {
 public:
  explicit Top(std::size_t n) : n_(n) { heap_.reserve(n); }

  void clear() { heap_.clear(); }
  bool full() const { return heap_.size() == n_; }

  // What an element must be at least to be worth offering; NaN: nothing is.  `in_order`: an equal one comes too late.
  double least(DType d, bool in_order) const {
    if (!full()) return -INFINITY;
    const double worst = heap_.front().value;
    if (std::isnan(worst)) return in_order ? worst : INFINITY;
    return in_order ? next_above(d, worst) : worst;
  }
  static double next_above(DType d, double value) {  // the next number of the compute type, but for infinity
    if (d == DType::float64) return std::nextafter(value, INFINITY);
    return std::nextafter(static_cast<float>(value), std::numeric_limits<float>::infinity());
  }

  void offer(Entry entry) {
    if (!full()) {
      heap_.push_back(entry);
      std::push_heap(heap_.begin(), heap_.end(), precedes);
    } else if (precedes(entry, heap_.front())) {
      replace_worst(entry);
    }
  }

  std::span<const Entry> sorted() {
    std::sort(heap_.begin(), heap_.end(), precedes);
    return heap_;
  }

  std::mutex mutex;  // for who offers from several threads

 private:
  void replace_worst(const Entry& entry) {
    std::size_t at = 0;
    for (std::size_t child = 1; child < n_; child = 2 * at + 1) {
      if (child + 1 < n_ && precedes(heap_[child], heap_[child + 1])) ++child;
      if (!precedes(entry, heap_[child])) break;
      heap_[at] = heap_[child];
      at = child;
    }
    heap_[at] = entry;
  }

  std::size_t n_;
  std::vector<Entry> heap_;
};

}  // namespace vastmax
