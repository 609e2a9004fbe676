// SPDX-License-Identifier: Apache-2.0
// Element-wise ops: dense stretches go to the kernels as they are, anything else is gathered a stretch at a time.
#include <algorithm>
#include <optional>
#include <vector>

#include "cpp/host/run/check.hpp"
#include "cpp/host/run/isa.hpp"
#include "cpp/host/run/lease.hpp"
#include "cpp/host/run/loop.hpp"
#include "cpp/host/run/policy.hpp"
#include "cpp/host/run/stream_copy.hpp"
#include "cpp/host/run/threads.hpp"

namespace vastmax {
namespace {

constexpr std::size_t stretch = 2048;  // gathered at a time, at most 16 KiB an operand
static_assert(policy::grain % stretch == 0);

template <class Byte>
struct Operand {
  Byte* data = nullptr;  // null: left out
  std::size_t item = 0;
  std::span<const std::int64_t> strides;

  template <class V>
  explicit Operand(const V* view) {
    if (view != nullptr) data = view->data, item = item_size(view->dtype), strides = view->strides;
  }
};
using In = Operand<const std::byte>;
using Out = Operand<std::byte>;

// A stretch of each operand that is not dense.
template <std::size_t count>
struct Stretches {
  alignas(64) std::byte at[count][stretch * 8];
  std::byte* operator[](std::size_t k) { return at[k]; }
};

enum class Order : std::uint8_t { any, index };  // index: whatever the strides, in stretches of that very length

// run(first, from, to, n, streaming) over stretches of elements [first, first + n).
template <std::size_t ins, std::size_t outs, class Fn>
void each_stretch(std::span<const std::int64_t> shape, const In (&in)[ins], const Out (&out)[outs], Order order,
                  const Exec& exec, const Fn& run) {
  Loop loop(shape);
  const auto add = [&](const auto& operand) {
    loop.add(operand.strides.size() == shape.size() ? operand.strides : in[0].strides);
  };
  std::ranges::for_each(in, add);
  std::ranges::for_each(out, add);
  const std::size_t count = loop.count();
  if (count == 0) return;
  if (order == Order::any) loop.sort(ins);
  loop.merge();
  bool dense[ins + outs], all_dense = true, apart = true;
  const auto look = [&](const auto& operand, std::size_t slot) {
    dense[slot] = operand.item == 0 || loop.plain(slot, operand.item);
    all_dense &= dense[slot];
  };
  for (std::size_t k = 0; k < ins; ++k) look(in[k], k), apart &= in[k].data != out[0].data;
  for (std::size_t k = 0; k < outs; ++k) look(out[k], ins + k);
  const bool streaming = all_dense && apart && count * out[0].item >= policy::stream_bytes;
  const std::size_t piece = all_dense && order == Order::any ? policy::grain : stretch;
  const int threads = count < 2 * policy::grain ? 1 : exec.threads > 0 ? exec.threads : get_num_threads();
  parallel((count + policy::grain - 1) / policy::grain, threads, exec, Task([&](std::size_t task) {
             const KernelScope scope;
             std::optional<Lease<Stretches<ins + outs>>> scratch;
             if (!all_dense) scratch.emplace();
             const auto place = [&](const auto& operand, std::size_t slot, std::size_t i) {
               return dense[slot] ? operand.data + i * operand.item : (**scratch)[slot];
             };
             const auto end = std::min(count, (task + 1) * policy::grain);
             for (std::size_t i = task * policy::grain; i < end; i += piece) {
               const std::size_t n = std::min(piece, end - i);
               Bytes from[ins];
               OutBytes to[outs];
               for (std::size_t k = 0; k < ins; ++k) {
                 if (!dense[k]) loop.gather(in[k].data, k, in[k].item, i, n, (**scratch)[k]);
                 from[k] = place(in[k], k, i);
               }
               for (std::size_t k = 0; k < outs; ++k) to[k] = place(out[k], ins + k, i);
               run(i, from, to, n, streaming);
               for (std::size_t k = 0; k < outs; ++k)
                 if (!dense[ins + k]) loop.scatter(out[k].data, ins + k, out[k].item, i, n, to[k]);
             }
           }));
}

void unary(Op op, const char* name, const ConstView& x, const View& out, double beta, const Exec& exec) {
  expect_like(name, "out", out, x);
  const auto kernel = of(kernels(exec), x.dtype).unary[static_cast<int>(op)];
  each_stretch(x.shape, {In(&x)}, {Out(&out)}, Order::any, exec,
               [&](std::size_t, const auto& from, const auto& to, std::size_t n, bool streaming) {
                 kernel(from[0], to[0], n, beta, streaming);
               });
}

void binary(Op op, const char* name, const ConstView& g, const ConstView& x, const View& out, double beta,
            const Exec& exec) {
  expect_like(name, "grad_output", g, x);
  expect_like(name, "out", out, x);
  const auto kernel = of(kernels(exec), x.dtype).binary[static_cast<int>(op)];
  each_stretch(x.shape, {In(&g), In(&x)}, {Out(&out)}, Order::any, exec,
               [&](std::size_t, const auto& from, const auto& to, std::size_t n, bool streaming) {
                 kernel(from[0], from[1], to[0], n, beta, streaming);
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
#include "cpp/ops.def"
#undef VM_OP

void stream_copy(const ConstView& x, const View& out, const Exec& exec) {
  expect_dtype("stream_copy", "x", x.dtype, DType::float32);
  expect_dtype("stream_copy", "out", out.dtype, DType::float32);
  expect_shape("stream_copy", "out", out.shape, x.shape);
  const auto kernel = kernels(exec).stream_copy;
  each_stretch(x.shape, {In(&x)}, {Out(&out)}, Order::any, exec,
               [&](std::size_t, const auto& from, const auto& to, std::size_t n, bool) { kernel(from[0], to[0], n); });
}

double bce_with_logits(const ConstView& x, const ConstView& target, const ConstView* weight,
                       const ConstView* pos_weight, const View* loss, const View* grad, double grad_scale,
                       const Exec& exec) {
  constexpr const char* op = "binary_cross_entropy_with_logits";
  for (const ConstView* in : {&target, weight, pos_weight})
    if (in != nullptr) {
      expect_like(op, "an input", *in, x);
    }
  for (const View* out : {loss, grad})
    if (out != nullptr) expect_shape(op, "an output", out->shape, x.shape);
  if (loss != nullptr) expect_dtype(op, "loss", loss->dtype, reduced(x.dtype));
  if (grad != nullptr) expect_dtype(op, "grad", grad->dtype, x.dtype);
  const auto kernel = of(kernels(exec), x.dtype).bce;
  std::size_t count = 1;
  for (const auto extent : x.shape) count *= static_cast<std::size_t>(extent);
  std::vector<TwoSum> sums((count + stretch - 1) / stretch);  // one a stretch, so that threads change no bit
  each_stretch(x.shape, {In(&x), In(&target), In(weight), In(pos_weight)}, {Out(loss), Out(grad)}, Order::index, exec,
               [&](std::size_t first, const auto& from, const auto& to, std::size_t n, bool) {
                 sums[first / stretch] = kernel(from[0], from[1], from[2], from[3], to[0], to[1], grad_scale, n);
               });
  TwoSum sum;
  for (const TwoSum& part : sums) sum.add(part.high), sum.low += part.low;
  return value_of(sum);
}

}  // namespace vastmax
