// SPDX-License-Identifier: Apache-2.0
// What a call may touch: alignment is checked, and on the host machine of the tests so is every access.
#pragma once

#include <cstdlib>

#include "cpp/host/run/check.hpp"
#ifdef VASTMAX_SIMT
#include <vector>

#include "cuda/simt/fibers.hpp"
#endif

namespace vastmax::cuda {

inline void expect_aligned(const char* op, const char* what, const std::byte* data,
                           std::span<const std::int64_t> strides, std::size_t item) {
  bool aligned = reinterpret_cast<std::uintptr_t>(data) % item == 0;
  for (const auto stride : strides) aligned &= stride % static_cast<std::int64_t>(item) == 0;
  if (!aligned)
    throw std::invalid_argument(std::string(op) + ": " + what + " has an address or a stride that is no multiple of " +
                                std::to_string(item) + ", its item size; accepted: aligned arrays");
}

class Access {
 public:
  explicit Access(const char* op) : op_(op) {}
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  void add(const char* what, const void* data, std::span<const std::int64_t> shape,
           std::span<const std::int64_t> strides, std::size_t item) {
    const auto* bytes = static_cast<const std::byte*>(data);
    expect_aligned(op_, what, bytes, strides, item);
#ifdef VASTMAX_SIMT
    std::int64_t low = 0, high = static_cast<std::int64_t>(item);
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] == 0) return;
      (strides[d] < 0 ? low : high) += (shape[d] - 1) * strides[d];
    }
    spans_.emplace_back(bytes + low, static_cast<std::size_t>(high - low));
    simt::allow(spans_.back().first, spans_.back().second);
#else
    (void)shape;
#endif
  }
  template <class V>
  void add(const char* what, const V& view) {
    add(what, view.data, view.shape, view.strides, item_size(view.dtype));
  }

#ifdef VASTMAX_SIMT
  ~Access() {
    for (const auto& [begin, bytes] : spans_) simt::forbid(begin, bytes);
  }

 private:
  std::vector<std::pair<const std::byte*, std::size_t>> spans_;
#endif

 private:
  const char* op_;
};

}  // namespace vastmax::cuda
