// SPDX-License-Identifier: Apache-2.0
// Copies between arrays on the device.
#include "cuda/host/operands.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::cuda {
namespace {

// run(operands) with the dimensions of both merged.
template <class From, class To, class Run>
void each_pair(const From& from, const To& to, std::size_t from_item, std::size_t to_item, const Run& run) {
  constexpr const char* op = "convert";
  expect_shape(op, "out", to.shape, from.shape);
  Access access(op);
  access.add("x", from.data, from.shape, from.strides, from_item);
  access.add("out", to.data, to.shape, to.strides, to_item);
  Loop loop(from.shape);
  loop.add(from.strides), loop.add(to.strides);
  loop.sort(1);
  loop.merge();
  const ElementOperands e{
      shape_of(op, loop, 1), operand_of(loop, 0, from.data, 0), {}, operand_of(loop, 1, to.data, 0), false};
  if (e.shape.count != 0) run(e);
}

}  // namespace

void convert(const ConstView& x, const View& out, const Exec& exec) {
  const auto items = [](const auto& view) {
    return Items{const_cast<std::byte*>(view.data), item_size(view.dtype), view.shape, view.strides};
  };
  if (x.dtype == out.dtype) return copy(items(x), items(out), exec);
  each_pair(x, out, item_size(x.dtype), item_size(out.dtype),
            [&](const ElementOperands& e) { convert(x.dtype, out.dtype, e, exec.stream); });
}

void copy(const Items& from, const Items& to, const Exec& exec) {
  if (from.item != to.item || (from.item != 1 && from.item != 2 && from.item != 4 && from.item != 8))
    throw std::invalid_argument("copy: items of " + std::to_string(from.item) + " and " + std::to_string(to.item) +
                                " bytes; accepted: 1, 2, 4 or 8, the same for both");
  each_pair(from, to, from.item, to.item, [&](const ElementOperands& e) { copy(from.item, e, exec.stream); });
}

}  // namespace vastmax::cuda
