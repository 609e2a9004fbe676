// SPDX-License-Identifier: Apache-2.0
// Arrays of the tests in device memory, and every op of the CUDA backend behind one call.
#pragma once

#include <cstdio>

#include "cpp/testing/every_op.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::testing {

using CudaRow = void (*)(const ConstView&, const View&, const RowOptions&, const cuda::Exec&);
using CudaGrad = void (*)(const ConstView&, const ConstView&, const View&, const RowOptions&, const cuda::Exec&);
using CudaUnary = void (*)(const ConstView&, const View&, double, const cuda::Exec&);
using CudaBinary = void (*)(const ConstView&, const ConstView&, const View&, double, const cuda::Exec&);

// The bytes of an array, `offset` bytes into an allocation of their own.
class Copy {
 public:
  Copy(const Array& host, const cuda::Stream& stream, std::size_t offset)
      : stream_(stream),
        memory_(cuda::allocate(offset + host.bytes() + 1, stream, "test")),
        bytes_(host.bytes()),
        data_(static_cast<std::byte*>(memory_) + offset) {
    cuda::check(cudaMemcpyAsync(data_, host.data(), bytes_, cudaMemcpyDefault, stream.handle()));
  }
  ~Copy() { cuda::release(memory_, stream_); }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;

  void read_into(const Array& host) const {
    cuda::check(cudaMemcpyAsync(host.data(), data_, bytes_, cudaMemcpyDefault, stream_.handle()));
    cuda::check(cudaStreamSynchronize(stream_.handle()));
  }
  std::byte* data() const { return data_; }

 private:
  const cuda::Stream& stream_;
  void* memory_;
  std::size_t bytes_;
  std::byte* data_;
};

// Runs `fn` on copies of the operands that lie `offset` items off a boundary; the result replaces on.out.
template <class Fn>
void call_cuda(Fn fn, Operands& on, const cuda::Exec& exec, std::size_t offset = 0) {
  const auto at = [&](const Array& a) { return offset * item_size(a.in().dtype); };
  const Copy first(on.first, exec.stream, at(on.first)), second(on.second, exec.stream, at(on.second)),
      out(on.out, exec.stream, at(on.out));
  ConstView a = on.first.in(), b = on.second.in();
  View y = on.out.out();
  a.data = first.data(), b.data = second.data(), y.data = out.data();
  if constexpr (std::is_same_v<Fn, CudaRow>) fn(a, y, {}, exec);
  if constexpr (std::is_same_v<Fn, CudaGrad>) fn(a, b, y, {}, exec);
  if constexpr (std::is_same_v<Fn, CudaUnary>) fn(a, y, 1, exec);
  if constexpr (std::is_same_v<Fn, CudaBinary>) fn(a, b, y, 1, exec);
  out.read_into(on.out);
}

// The gradient of cross_entropy against a class of each row, and with a weight for every class.
inline void cross_entropy_grad(const ConstView& x, const View& out, const RowOptions& options, const cuda::Exec& exec,
                               double label_smoothing) {
  const std::int64_t rows = x.shape[0], n = x.shape[1];
  const std::vector<std::int64_t> classes(static_cast<std::size_t>(rows), n / 2 - (n == 0 ? 100 : 0));
  const cuda::Workspace<std::int64_t> ids(rows, exec.stream, "test");
  const cuda::Workspace<double> loss(rows, exec.stream, "test"), total(2, exec.stream, "test");
  cuda::check(cudaMemcpyAsync(ids.data(), classes.data(), classes.size() * sizeof(std::int64_t), cudaMemcpyDefault,
                              exec.stream.handle()));
  CrossEntropy with;
  with.ids = ids.data(), with.loss = loss.data(), with.label_smoothing = label_smoothing;
  cuda::cross_entropy(x, &out, with, total.data(), options, exec);
}

// Every `step`-th of float64 numbers in device memory, as a result.
inline void put(const double* numbers, std::int64_t step, const View& out, const cuda::Exec& exec) {
  const std::int64_t stride = step * static_cast<std::int64_t>(sizeof(double));
  cuda::convert({reinterpret_cast<const std::byte*>(numbers), DType::float64, out.shape, {&stride, 1}}, out, exec);
}

inline void entropy(const ConstView& x, const View& out, const RowOptions& options, const cuda::Exec& exec) {
  const cuda::Workspace<double> found(x.shape[0], exec.stream, "test");
  RowStats stats;
  stats.entropy = found.data();
  cuda::softmax_stats(x, stats, options, exec);
  put(found.data(), 1, out, exec);
}

// The smallest of the five largest log-probabilities.
inline void fifth(const ConstView& x, const View& out, const RowOptions& options, const cuda::Exec& exec) {
  const std::int64_t rows = x.shape[0], n = std::min<std::int64_t>(5, x.shape[1]);
  if (n == 0) return entropy(x, out, options, exec);
  const cuda::Workspace<double> log_probs(rows * n, exec.stream, "test");
  const cuda::Workspace<std::int64_t> indices(rows * n, exec.stream, "test");
  RowStats stats;
  stats.top_n = static_cast<std::size_t>(n), stats.top_log_probs = log_probs.data();
  stats.top_indices = indices.data();
  cuda::softmax_stats(x, stats, options, exec);
  put(log_probs.data() + n - 1, n, out, exec);
}

inline void divergence(const ConstView& p, const ConstView& q, const View& out, const RowOptions&,
                       const cuda::Exec& exec) {
  const cuda::Workspace<double> found(p.shape[0], exec.stream, "test");
  cuda::kl_divergence(p, q, found.data(), exec);
  put(found.data(), 1, out, exec);
}

// visit(name, CPU function, CUDA function, layout) for each op that both have.
template <class Visit>
void every_op_of_both(const Visit& visit) {
#define VM_OP(shape, name, Formula) visit(#name, &vastmax::name, &cuda::name, layout_of(#name));
#include "cpp/ops.def"
#undef VM_OP
  const Layout reduction{.out_per_row = true, .out_reduced = true};
  visit("logsumexp", &vastmax::logsumexp, &cuda::logsumexp, reduction);
  visit("logsumexp_weighted",
        Grad([](const ConstView& x, const ConstView& b, const View& out, const RowOptions& options, const Exec& exec) {
          vastmax::logsumexp_weighted(x, b, out, nullptr, options, exec);
        }),
        CudaGrad([](const ConstView& x, const ConstView& b, const View& out, const RowOptions& options,
                    const cuda::Exec& exec) { cuda::logsumexp_weighted(x, b, out, nullptr, options, exec); }),
        reduction);
  visit("cross_entropy_with_grad", &vastmax::softmax,
        CudaRow([](const ConstView& x, const View& out, const RowOptions& options, const cuda::Exec& exec) {
          cross_entropy_grad(x, out, options, exec, 0);
        }),
        Layout{});
  visit("cross_entropy_with_grad of smoothed classes", &vastmax::softmax,
        CudaRow([](const ConstView& x, const View& out, const RowOptions& options, const cuda::Exec& exec) {
          cross_entropy_grad(x, out, options, exec, 0.125);
        }),
        Layout{});
  visit("entropy", &vastmax::logsumexp, CudaRow(&entropy), reduction);
  visit("softmax_stats", &vastmax::logsumexp, CudaRow(&fifth), reduction);
  visit("kl_divergence", Grad(nullptr), CudaGrad(&divergence), reduction);
}

}  // namespace vastmax::testing
