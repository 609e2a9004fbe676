// SPDX-License-Identifier: Apache-2.0
// Work space that a thread keeps from task to task.  On its stack it would be too large: the compiler holds frames
// below 32 KiB (cmake/compiler.cmake), because musl gives a thread 128.
#pragma once

#include <memory>
#include <vector>

namespace vastmax {

template <class T>
class Lease {
 public:
  Lease() {
    std::vector<std::unique_ptr<T>>& spare = spares();
    if (spare.empty()) {
      held_ = std::make_unique_for_overwrite<T>();
    } else {
      held_ = std::move(spare.back());
      spare.pop_back();
    }
  }
  ~Lease() { spares().push_back(std::move(held_)); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  T& operator*() const { return *held_; }
  T* operator->() const { return held_.get(); }

 private:
  static std::vector<std::unique_ptr<T>>& spares() {
    thread_local std::vector<std::unique_ptr<T>> spare;
    return spare;
  }
  std::unique_ptr<T> held_;
};

}  // namespace vastmax
