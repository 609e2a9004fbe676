// SPDX-License-Identifier: Apache-2.0
// Elements into another dtype or another memory order.
#include <type_traits>

#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 256;

// A float64 on the way to a 16-bit type: cut off, with a last bit that remembers whether anything was (rounding to
// odd), so that the second rounding is the only one.
VM_INLINE float rounded_to_odd(double v) {
  const auto near = static_cast<float>(v);
  const double back = near;
  if (back == v || v != v) return near;
  const bool beyond = v < 0 ? back < v : back > v;
  return bit_cast<float>((bit_cast<std::uint32_t>(near) - beyond) | 1u);
}

template <class To, class From>
VM_INLINE To converted(From stored) {
  using Wide = compute_t<From>;
  const auto v = number(stored).piece[0].v;
  if constexpr (sizeof(To) == 2 && std::is_same_v<Wide, double>)
    return rounded<To>(splat<vec<float>>(rounded_to_odd(v)));
  else
    return rounded<To>(splat<vec<compute_t<To>>>(static_cast<compute_t<To>>(v)));
}

template <class From, class To>
VM_KERNEL(block_threads, 4)
convert_kernel(ElementOperands e) {
  for (std::int64_t i = global_thread(); i < e.shape.count; i += global_threads())
    store_one<To>(e.shape.row(e.out, i), converted<To>(load_one<From>(e.shape.row(e.x, i))));
}

template <class Item>
VM_KERNEL(block_threads, 4)
copy_kernel(ElementOperands e) {
  for (std::int64_t i = global_thread(); i < e.shape.count; i += global_threads())
    store_one<Item>(e.shape.row(e.out, i), load_one<Item>(e.shape.row(e.x, i)));
}

void convert(DType from_dtype, DType to_dtype, const ElementOperands& e, const Stream& stream) {
  const Grid grid = grid_for(e.shape.count, block_threads, block_threads, stream);
  with_dtype(from_dtype, [&]<class From>(From) {
    with_dtype(to_dtype, [&]<class To>(To) {
      if constexpr (!std::is_same_v<From, To>) launch(convert_kernel<From, To>, grid, stream, e);
    });
  });
}

void copy(std::size_t item, const ElementOperands& e, const Stream& stream) {
  const Grid grid = grid_for(e.shape.count, block_threads, block_threads, stream);
  const auto start = [&]<class Item>(Item) { launch(copy_kernel<Item>, grid, stream, e); };
  item == 1   ? start(std::uint8_t{})
  : item == 2 ? start(std::uint16_t{})
  : item == 4 ? start(std::uint32_t{})
              : start(std::uint64_t{});
}

}  // namespace vastmax::VM_ISA
