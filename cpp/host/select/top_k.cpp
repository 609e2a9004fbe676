// SPDX-License-Identifier: Apache-2.0
// top_k: the start of each row's order, with the logits as they are in memory.
#include "cpp/host/select/top_run.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax {
namespace {

class TopK : TopRun {
 public:
  using TopRun::TopRun;
  void run(const ConstView& x, std::size_t k, std::byte* values, std::int64_t* indices);

 private:
  void top(const Source& s, std::size_t k, int threads, std::vector<Entry>& entries, Scratch& scratch) {
    if (few(k)) return first_of(s, k, threads, entries, scratch);
    entries.clear();
    const Cut cut = k == n_ ? Cut{} : border(s, {}, NAN, {}, {k, 0}, threads, scratch).cut;
    list(s, cut, entries, scratch);
    std::sort(entries.begin(), entries.end(), precedes);
  }
};

void TopK::run(const ConstView& x, std::size_t k, std::byte* values, std::int64_t* indices) {
  x_ = operand(x);
  loop_.merge();
  const auto put = [&](std::size_t row, const std::vector<Entry>& entries) {
    const Bytes from = x_.row(loop_, row);
    for (std::size_t i = 0; i < k; ++i) {
      indices[row * k + i] = entries[i].index;
      std::memcpy(values + (row * k + i) * x_.item, from + entries[i].index * x_.step, x_.item);
    }
  };
  const Plan plan = cut();
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    const Lease<Scratch> lease;
    Scratch& scratch = *lease;
    std::vector<Entry> entries;
    for (std::size_t r = 0; r < loop_.count() && !interrupted_; ++r) {
      top(source(r), k, plan.threads, entries, scratch);
      if (!interrupted_) put(r, entries);
    }
    return;
  }
  spread_runs(loop_.count(), rows_a_task(), plan.threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
    std::vector<Entry> entries;
    for (std::size_t r = first; r < last; ++r) {
      top(source(r), k, 1, entries, scratch);
      put(r, entries);
    }
  });
}

}  // namespace

void top_k(const ConstView& x, std::size_t k, std::byte* values, std::int64_t* indices, const Exec& exec) {
  if (x.shape.empty()) throw std::invalid_argument("top_k: x has no axis to reduce");
  if (k < 1 || k > static_cast<std::size_t>(x.shape.back()))
    throw std::invalid_argument("top_k: k is " + std::to_string(k) + " of " + std::to_string(x.shape.back()) +
                                " classes");
  if (values == nullptr || indices == nullptr) throw std::invalid_argument("top_k: an output is missing");
  TopK(x.dtype, x.shape, exec).run(x, k, values, indices);
}

}  // namespace vastmax
