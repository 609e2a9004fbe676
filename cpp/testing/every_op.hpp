// SPDX-License-Identifier: Apache-2.0
// Every op behind one call, for the benchmarks and the C++ tests.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "vastmax/sampling.hpp"

namespace vastmax::testing {

inline constexpr std::pair<DType, const char*> dtypes[] = {
    {DType::float16, "f16"}, {DType::bfloat16, "bf16"}, {DType::float32, "f32"}, {DType::float64, "f64"}};

// Bell-shaped multiples of 1/128 within +-16, or uniform in (0, 1) where an op takes probabilities.  Made of integers,
// so that every machine draws the same; float16 holds them exactly.
enum class Values { bell, unit };

class Array {
 public:
  // Starts `offset` bytes after a cache line and ends where its allocation ends, for the address sanitizer to see.
  Array(DType dtype, std::vector<std::int64_t> shape, Values values, std::size_t offset = 0)
      : dtype_(dtype), shape_(std::move(shape)), strides_(shape_.size()), offset_(offset), bytes_(item_size(dtype)) {
    for (std::size_t d = shape_.size(); d-- > 0; bytes_ *= static_cast<std::size_t>(shape_[d]))
      strides_[d] = static_cast<std::int64_t>(bytes_);
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, offset_ + bytes_) != 0) throw std::bad_alloc();
    memory_.reset(static_cast<std::byte*>(memory));
    fill(values);
  }

  ConstView in() const { return {data(), dtype_, shape_, strides_}; }
  View out() { return {data(), dtype_, shape_, strides_}; }
  std::byte* data() const { return memory_.get() + offset_; }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };

  void fill(Values values) {
    // A period that no power of two divides, repeated: drawing every element would take longer than measuring.
    const std::size_t item = item_size(dtype_), period = std::min(bytes_, 65'537 * item);
    std::uint64_t state = 1;
    const auto draw = [&state] {
      state = state * 6364136223846793005u + 1442695040888963407u;
      return static_cast<int>(state >> 54);
    };
    for (std::size_t i = 0; i < period; i += item) {
      int bell = -2046;
      for (int k = 0; k < 4; ++k) bell += draw();
      put(i, values == Values::bell ? static_cast<float>(bell) / 128 : (static_cast<float>(draw()) + 0.5f) / 1024);
    }
    for (std::size_t i = period; i < bytes_; i += period) std::memcpy(data() + i, data(), std::min(period, bytes_ - i));
  }

  void put(std::size_t at, float value) {
    const auto write = [&](auto converted) { std::memcpy(data() + at, &converted, sizeof converted); };
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (dtype_ == DType::float16)  // GCC 12 has no _Float16 on aarch64; the values are normal and exact
      write(static_cast<std::uint16_t>(
          value == 0 ? 0 : (bits >> 16 & 0x8000) | ((bits & 0x7fffffff) - (112u << 23)) >> 13));
    if (dtype_ == DType::bfloat16) write(static_cast<std::uint16_t>(bits >> 16));
    if (dtype_ == DType::float32) write(value);
    if (dtype_ == DType::float64) write(static_cast<double>(value));
  }

  DType dtype_;
  std::vector<std::int64_t> shape_, strides_;
  std::size_t offset_, bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

// The signatures of the public API.
using Map = void (*)(const ConstView&, const View&, const RowOptions&, const Exec&);
using Grad = void (*)(const ConstView&, const ConstView&, const View&, const RowOptions&, const Exec&);
using Unary = void (*)(const ConstView&, const View&, double, const Exec&);
using Binary = void (*)(const ConstView&, const ConstView&, const View&, double, const Exec&);

template <class Fn>
inline constexpr bool takes_two = std::is_same_v<Fn, Grad> || std::is_same_v<Fn, Binary>;

// Where an op departs from "operands and result have an element per class, of the same dtype".
struct Layout {
  bool first_per_row = false, out_per_row = false, out_reduced = false, out_double = false;
  Values first = Values::bell;
};

struct Operands {
  Array first, second, out;

  template <class Fn>
  static Operands of(Fn, Layout layout, DType dtype, std::int64_t rows, std::int64_t classes, std::size_t offset = 0) {
    const std::vector<std::int64_t> full{rows, classes}, per_row{rows};
    return {Array(layout.first_per_row ? reduced(dtype) : dtype, layout.first_per_row ? per_row : full, layout.first,
                  offset),
            Array(dtype, takes_two<Fn> ? full : per_row, Values::unit, offset),
            Array(layout.out_double    ? DType::float64
                  : layout.out_reduced ? reduced(dtype)
                                       : dtype,
                  layout.out_per_row ? per_row : full, Values::unit, offset)};
  }
};

template <class Fn>
void call(Fn fn, Operands& on, const Exec& exec) {
  if constexpr (std::is_same_v<Fn, Map>) fn(on.first.in(), on.out.out(), {}, exec);
  if constexpr (std::is_same_v<Fn, Grad>) fn(on.first.in(), on.second.in(), on.out.out(), {}, exec);
  if constexpr (std::is_same_v<Fn, Unary>) fn(on.first.in(), on.out.out(), 1, exec);
  if constexpr (std::is_same_v<Fn, Binary>) fn(on.first.in(), on.second.in(), on.out.out(), 1, exec);
}

inline Layout layout_of(std::string_view op) {
  if (op == "logsumexp_backward") return {.first_per_row = true};
  if (op == "logit") return {.first = Values::unit};
  return {};
}

// All that an op has found, in the bits of one number.
class Mixed {
 public:
  template <class T>
  void add(const std::vector<T>& numbers) {
    for (const T& each : numbers) {
      std::uint64_t own = 0;
      std::memcpy(&own, &each, sizeof each);
      bits_ = (bits_ ^ own) * 1099511628211u;
    }
  }
  void put(const View& out) const {
    std::vector<double> mixed(static_cast<std::size_t>(out.shape[0]));
    if (!mixed.empty()) std::memcpy(mixed.data(), &bits_, sizeof bits_);
    std::memcpy(out.data, mixed.data(), mixed.size() * sizeof(double));
  }

 private:
  std::uint64_t bits_ = 14695981039346656037u;
};

// What a row's statistics are.
inline void statistics(const ConstView& x, const View& out, const RowOptions& options, const Exec& exec) {
  const auto rows = static_cast<std::size_t>(x.shape[0]), n = static_cast<std::size_t>(x.shape[1]);
  const std::size_t top = std::min<std::size_t>(n, 20);
  std::vector<std::int64_t> target(rows, static_cast<std::int64_t>(n / 2)), whole(rows * (top + 2));
  std::vector<double> found(rows * (top + 4));
  RowStats stats;
  double* number = found.data();
  for (double** each : {&stats.lse, &stats.max, &stats.entropy, &stats.target_log_prob}) *each = number, number += rows;
  stats.argmax = whole.data(), stats.target_rank = whole.data() + rows, stats.top_indices = whole.data() + 2 * rows;
  stats.target = target.data(), stats.top_n = top, stats.top_log_probs = number;
  if (n != 0) softmax_stats(x, stats, options, exec);  // there is no class to be a target
  Mixed all;
  all.add(found), all.add(whole);
  all.put(out);
}

// 50 classes of each row, or a third of them.
template <bool few>
void top(const ConstView& x, const View& out, const RowOptions&, const Exec& exec) {
  const auto rows = static_cast<std::size_t>(x.shape[0]), n = static_cast<std::size_t>(x.shape[1]);
  const std::size_t k = few ? std::min<std::size_t>(n, 50) : n / 3 + 1;
  std::vector<std::byte> values(rows * k * item_size(x.dtype));
  std::vector<std::int64_t> indices(rows * k);
  if (n != 0) top_k(x, k, values.data(), indices.data(), exec);
  Mixed all;
  all.add(values), all.add(indices);
  all.put(out);
}

// A filter's value for each row.
struct RowFilters {
  std::vector<std::int64_t> top_k;
  std::vector<double> top_p, min_p;
  operator Filters() const {
    return {top_k.empty() ? nullptr : top_k.data(), top_p.empty() ? nullptr : top_p.data(),
            min_p.empty() ? nullptr : min_p.data()};
  }
};
enum class Filter : std::uint8_t { none, top_k, top_p, min_p, all };
template <Filter filter>
RowFilters filters(const ConstView& x) {
  const auto rows = static_cast<std::size_t>(x.shape[0]);
  const bool all = filter == Filter::all;
  RowFilters with;
  if (all || filter == Filter::top_k) with.top_k.assign(rows, x.shape[1] / 3 + 1);
  if (all || filter == Filter::top_p) with.top_p.assign(rows, 0.9);
  if (all || filter == Filter::min_p) with.min_p.assign(rows, all ? 0.001 : 0.05);
  return with;
}
template <Filter filter>
void masked(const ConstView& x, const View& out, const RowOptions&, const Exec& exec) {
  mask_logits(x, filters<filter>(x), out, exec);
}

// Draws of each row, without replacement no more than there are classes; with every filter at temperatures up to 2.
template <std::size_t size, bool replace, Filter filter>
void drawn(const ConstView& x, const View& out, const RowOptions& options, const Exec& exec) {
  const auto rows = static_cast<std::size_t>(x.shape[0]), n = static_cast<std::size_t>(x.shape[1]);
  const RowFilters with = filters<filter>(x);
  Sampling sampling;
  sampling.filters = with, sampling.replace = replace, sampling.size = replace ? size : std::min(size, n);
  sampling.draws = {.seed = 1, .step = 2, .row = 3};
  std::vector<double> temperature(rows, 1), log_prob(rows * sampling.size);
  if (filter == Filter::all)
    for (std::size_t r = 0; r < rows; ++r) temperature[r] = 0.25 * static_cast<double>(1 + r % 8);
  std::vector<std::int64_t> ids(rows * sampling.size);
  std::vector<std::uint8_t> valid(rows * sampling.size);
  sampling.temperature = temperature.data(), sampling.ids = ids.data();
  if (size > 1) sampling.log_prob = log_prob.data(), sampling.valid = valid.data();
  sample(x, sampling, options, exec);
  Mixed all;
  all.add(ids), all.add(log_prob), all.add(valid);
  all.put(out);
}

// visit(name, function, layout) for each.
template <class Visit>
void every_op(const Visit& visit) {
#define VM_OP(shape, name, Formula) visit(#name, &name, layout_of(#name));
#include "cpp/ops.def"
#undef VM_OP
  const Layout reduction{.out_per_row = true, .out_reduced = true};
  visit("logsumexp", &logsumexp, reduction);
  visit("logsumexp_weighted",
        Grad([](const ConstView& a, const ConstView& b, const View& out, const RowOptions& options, const Exec& exec) {
          logsumexp_weighted(a, b, out, nullptr, options, exec);
        }),
        reduction);
  visit("binary_cross_entropy",
        Binary([](const ConstView& x, const ConstView& target, const View& loss, double, const Exec& exec) {
          bce_with_logits(x, target, nullptr, nullptr, &loss, nullptr, 1, exec);
        }),
        Layout{.out_reduced = true});
  const Layout statistic{.out_per_row = true, .out_double = true};
  visit("softmax_stats", &statistics, statistic);
  visit("kl_divergence",
        Grad([](const ConstView& p, const ConstView& q, const View& out, const RowOptions&, const Exec& exec) {
          std::vector<double> found(static_cast<std::size_t>(p.shape[0]));
          kl_divergence(p, q, found.data(), exec);
          std::memcpy(out.data, found.data(), found.size() * sizeof(double));
        }),
        statistic);
  visit("cross_entropy_with_grad",
        Map([](const ConstView& x, const View& out, const RowOptions& options, const Exec& exec) {
          const auto rows = static_cast<std::size_t>(x.shape[0]);
          const std::vector<std::int64_t> ids(rows, x.shape[1] / 2 - (x.shape[1] == 0 ? 100 : 0));
          std::vector<double> loss(rows);
          CrossEntropy with;
          with.ids = ids.data(), with.loss = loss.data();
          cross_entropy(x, &out, with, options, exec);
        }),
        Layout{});
  visit("cross_entropy_with_grad of probabilities",
        Grad([](const ConstView& x, const ConstView& target, const View& out, const RowOptions& options,
                const Exec& exec) {
          std::vector<double> loss(static_cast<std::size_t>(x.shape[0]));
          CrossEntropy with;
          with.probabilities = &target, with.softcap = 30, with.label_smoothing = 0.125, with.loss = loss.data();
          cross_entropy(x, &out, with, options, exec);
        }),
        Layout{});
  visit("top_k", &top<true>, statistic);
  visit("top_k of many", &top<false>, statistic);
  visit("top_k_mask_logits", &masked<Filter::top_k>, Layout{});
  visit("top_p_mask_logits", &masked<Filter::top_p>, Layout{});
  visit("min_p_mask_logits", &masked<Filter::min_p>, Layout{});
  visit("sample", &drawn<1, true, Filter::none>, statistic);
  visit("sample of top_p", &drawn<1, true, Filter::top_p>, statistic);
  visit("sample of every filter", &drawn<70, true, Filter::all>, statistic);
  visit("sample without replacement", &drawn<30, false, Filter::none>, statistic);
  visit("sample of every filter without replacement", &drawn<70, false, Filter::all>, statistic);
  visit("add_gumbel", Map([](const ConstView& x, const View& out, const RowOptions&, const Exec& exec) {
          add_gumbel(x, out, {.seed = 4}, exec);
        }),
        Layout{.out_reduced = true});
}

}  // namespace vastmax::testing
