// SPDX-License-Identifier: Apache-2.0
// Views as the operands of kernels: dimensions merged where they can be, strides by value.
#pragma once

#include "cpp/host/run/loop.hpp"
#include "cuda/host/access.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::cuda {

inline Shape shape_of(const char* op, const Loop& loop, std::int64_t n) {
  Shape shape;
  const auto extents = loop.shape();
  if (extents.size() > most_dims)
    throw std::invalid_argument(std::string(op) + ": the arrays have " + std::to_string(extents.size()) +
                                " dimensions that cannot be merged; accepted: up to " + std::to_string(most_dims));
  shape.count = static_cast<std::int64_t>(loop.count());
  shape.n = n;
  shape.dims = static_cast<int>(extents.size());
  std::copy(extents.begin(), extents.end(), shape.extent);
  return shape;
}

inline Operand operand_of(const Loop& loop, std::size_t slot, const void* data, std::int64_t step) {
  Operand o;
  o.data = static_cast<std::byte*>(const_cast<void*>(data));
  o.step = step;
  for (std::size_t d = 0; d < loop.shape().size(); ++d) o.stride[d] = loop.stride(d, slot);
  return o;
}

}  // namespace vastmax::cuda
