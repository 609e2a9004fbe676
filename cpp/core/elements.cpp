// SPDX-License-Identifier: Apache-2.0
// Element-wise ops: dense stretches go to the kernels as they are, anything else is gathered a stretch at a time.
#include <algorithm>
#include <memory>

#include "core/check.hpp"
#include "core/isa.hpp"
#include "core/loop.hpp"
#include "core/policy.hpp"
#include "core/threads.hpp"

namespace vastmax {
namespace {

constexpr std::size_t stretch = 2048;  // gathered at a time, at most 16 KiB an operand

template <class V>
struct Operand {
  const V* view;
  std::size_t slot, item;
  bool dense;
};

template <class V>
Operand<V> operand(Loop& loop, const V& view, std::size_t slot) {
  loop.add(view.strides);
  return {&view, slot, item_size(view.dtype), false};
}

// run(inputs, output, n) over stretches of two inputs (the second may be the first) and one output.
template <class Fn>
void each_stretch(const ConstView& a, const ConstView& b, const View& out, const Exec& exec, const Fn& run) {
  Loop loop(a.shape);
  auto first = operand(loop, a, 0), second = operand(loop, b, 1);
  auto to = operand(loop, out, 2);
  if (loop.count() == 0) return;
  loop.sort(2);
  loop.merge();
  first.dense = loop.plain(0, first.item), second.dense = loop.plain(1, second.item), to.dense = loop.plain(2, to.item);
  const bool dense = first.dense && second.dense && to.dense;
  const bool streaming =
      dense && a.data != out.data && b.data != out.data && loop.count() * to.item >= policy::stream_bytes;
  const std::size_t count = loop.count(), piece = dense ? policy::grain : stretch;
  const int threads = count < 2 * policy::grain ? 1 : exec.threads > 0 ? exec.threads : get_num_threads();
  const std::size_t per_task = policy::grain;
  parallel((count + per_task - 1) / per_task, threads, exec, Task([&](std::size_t task) {
             const KernelScope scope;
             alignas(64) std::byte scratch[3][stretch * 8];
             const auto end = std::min(count, (task + 1) * per_task);
             for (std::size_t i = task * per_task; i < end; i += piece) {
               const std::size_t n = std::min(piece, end - i);
               const auto input = [&](const Operand<ConstView>& in) -> Bytes {
                 if (in.dense) return in.view->data + i * in.item;
                 loop.gather(in.view->data, in.slot, in.item, i, n, scratch[in.slot]);
                 return scratch[in.slot];
               };
               const Bytes x = input(first), y = first.view == second.view ? x : input(second);
               run(x, y, to.dense ? out.data + i * to.item : scratch[2], n, streaming);
               if (!to.dense) loop.scatter(out.data, 2, to.item, i, n, scratch[2]);
             }
           }));
}

void unary(Op op, const char* name, const ConstView& x, const View& out, double beta, const Exec& exec) {
  expect_dtype(name, "out", out.dtype, x.dtype);
  expect_shape(name, "out", out.shape, x.shape);
  const auto kernel = of(kernels(exec), x.dtype).unary[static_cast<int>(op)];
  each_stretch(x, x, out, exec,
               [&](Bytes a, Bytes, OutBytes to, std::size_t n, bool streaming) { kernel(a, to, n, beta, streaming); });
}

void binary(Op op, const char* name, const ConstView& g, const ConstView& x, const View& out, double beta,
            const Exec& exec) {
  expect_dtype(name, "grad_output", g.dtype, x.dtype);
  expect_shape(name, "grad_output", g.shape, x.shape);
  expect_dtype(name, "out", out.dtype, x.dtype);
  expect_shape(name, "out", out.shape, x.shape);
  const auto kernel = of(kernels(exec), x.dtype).binary[static_cast<int>(op)];
  each_stretch(g, x, out, exec, [&](Bytes a, Bytes b, OutBytes to, std::size_t n, bool streaming) {
    kernel(a, b, to, n, beta, streaming);
  });
}

}  // namespace

#define VM_OP(shape, name, Formula) VM_DEFINE_##shape(name)
#define VM_DEFINE_norm_map(name)
#define VM_DEFINE_row_grad(name)
#define VM_DEFINE_unary(name)                                                     \
  void name(const ConstView& x, const View& out, double beta, const Exec& exec) { \
    unary(Op::name, #name, x, out, beta, exec);                                   \
  }
#define VM_DEFINE_binary(name)                                                                        \
  void name(const ConstView& g, const ConstView& x, const View& out, double beta, const Exec& exec) { \
    binary(Op::name, #name, g, x, out, beta, exec);                                                   \
  }
#include "ops.def"
#undef VM_OP

double bce_with_logits(const ConstView& x, const ConstView& target, const ConstView* weight,
                       const ConstView* pos_weight, const View* loss, const View* grad, double grad_scale,
                       const Exec& exec) {
  constexpr const char* op = "binary_cross_entropy_with_logits";
  const ConstView* inputs[] = {&x, &target, weight, pos_weight};
  const View* outputs[] = {loss, grad};
  Loop loop(x.shape);
  for (const ConstView* in : inputs) {
    const ConstView& view = in != nullptr ? *in : x;
    expect_dtype(op, "an input", view.dtype, x.dtype);
    expect_shape(op, "an input", view.shape, x.shape);
    loop.add(view.strides);
  }
  for (const View* out : outputs) {
    if (out != nullptr) expect_shape(op, "an output", out->shape, x.shape);
    loop.add(out != nullptr ? std::span<const std::int64_t>(out->strides) : x.strides);
  }
  if (loss != nullptr) expect_dtype(op, "loss", loss->dtype, reduced(x.dtype));
  if (grad != nullptr) expect_dtype(op, "grad", grad->dtype, x.dtype);
  const std::size_t count = loop.count();
  if (count == 0) return 0;
  loop.merge();
  const auto& k = of(kernels(exec), x.dtype);
  const std::size_t blocks = (count + stretch - 1) / stretch, run = policy::grain / stretch;
  const auto sums = std::make_unique_for_overwrite<double[]>(blocks);
  const int threads = count < 2 * policy::grain ? 1 : exec.threads > 0 ? exec.threads : get_num_threads();
  const std::size_t item = item_size(x.dtype), loss_item = item_size(reduced(x.dtype));
  parallel((blocks + run - 1) / run, threads, exec, Task([&](std::size_t task) {
             const KernelScope scope;
             alignas(64) std::byte scratch[6][stretch * 8];
             for (std::size_t b = task * run; b < std::min(blocks, (task + 1) * run); ++b) {
               const std::size_t begin = b * stretch, n = std::min(stretch, count - begin);
               Bytes in[4];
               for (std::size_t i = 0; i < 4; ++i) {
                 in[i] = inputs[i] == nullptr ? nullptr : scratch[i];
                 if (inputs[i] != nullptr) loop.gather(inputs[i]->data, i, item, begin, n, scratch[i]);
               }
               sums[b] = k.bce(in[0], in[1], in[2], in[3], loss != nullptr ? scratch[4] : nullptr,
                               grad != nullptr ? scratch[5] : nullptr, grad_scale, n);
               if (loss != nullptr) loop.scatter(loss->data, 4, loss_item, begin, n, scratch[4]);
               if (grad != nullptr) loop.scatter(grad->data, 5, item, begin, n, scratch[5]);
             }
           }));
  TwoSum sum;
  for (std::size_t b = 0; b < blocks; ++b) sum.add(sums[b]);
  return sum.value();
}

}  // namespace vastmax
