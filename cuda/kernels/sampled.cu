// SPDX-License-Identifier: Apache-2.0
// Losses over sampled classes: a warp adds up the draws of a row, and finishes it.
#include "cpp/math/sampled_row.hpp"
#include "cpp/ops/sigmoid.hpp"
#include "cpp/ops/softplus.hpp"
#include "cuda/device/class_rows.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned row_threads = 128;

VM_INLINE double warp_sum(double v) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}
VM_INLINE std::int64_t warp_sum(std::int64_t v) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

// Terms of a softmax against their largest logit, or answers to yes-no questions (NCE).
template <class F>
class Terms {
  using V = vec<F>;

 public:
  VM_MEMBER explicit Terms(bool questions) : questions_(questions), exp_(splat<V>(0)) {}
  VM_MEMBER V operator()(V z, double max) const {
    return questions_ ? Sigmoid<V, false>(1)(z) : exp_(z - splat<V>(static_cast<F>(weighed_from(max))));
  }
  VM_MEMBER static double question(V z) { return static_cast<double>(Softplus<V, false>(1)(z).piece[0].v); }
  VM_MEMBER bool questions() const { return questions_; }

 private:
  bool questions_;
  ScaledExp<V> exp_;
};

// Turns what the lanes have seen and the logits of the targets into the loss of the row, and its targets' slopes;
// returns what the terms of the draws are multiplied with.
template <class F>
VM_INLINE double finish_row(const SampledLoss& o, std::int64_t row, Seen seen) {
  seen.sum = warp_sum(seen.sum), seen.squares = warp_sum(seen.squares), seen.hits = warp_sum(seen.hits);
  seen.nan = any(seen.nan);
  const RowMath<F> math{};
  const SampledRow<RowMath<F>> row_of(math, o, static_cast<std::size_t>(row));
  double factor = 0;
  sync_warp();
  if (lane() == 0) {
    o.hits[row] = seen.hits;
    if (o.kind == SampledKind::nce)
      row_of.ask(seen.sum), factor = row_of.scale();
    else
      factor = row_of.weigh(seen);
  }
  sync_warp();
  return shuffle(factor, 0);
}

// fn(t) for the targets of a row one by one, each alone in a tile of rows.
template <class Rows, class Fn>
VM_INLINE void each_target(const SampledLoss& o, std::int64_t row, Rows& rows, const Fn& fn) {
  for (std::int64_t t = o.targets.offsets[row]; t < o.targets.offsets[row + 1]; ++t) {
    std::int64_t ids[Rows::tile];
    VM_UNROLL(8)
    for (int u = 0; u < Rows::tile; ++u) ids[u] = u == 0 ? o.targets.ids[t] : no_class;
    rows.take(ids);
    fn(t);
  }
}
template <class F, class Rows>
VM_INLINE void target_logits(const SampledLoss& o, const TableOperand& table, std::int64_t row, Rows& rows) {
  each_target(o, row, rows, [&](std::int64_t t) {
    F dot[Rows::tile];
    rows.dots(dot);
    const double logit = with_bias(table, o.targets.ids[t], static_cast<double>(dot[0])) * o.inverse_temperature;
    if (lane() == 0) o.target_slope[t] = logit + o.targets.shift[t];
  });
}
template <class F, class Rows>
VM_INLINE void add_target_rows(const SampledLoss& o, std::int64_t row, Rows& rows) {
  each_target(o, row, rows, [&](std::int64_t t) {
    const F weight[Rows::tile] = {static_cast<F>(o.target_slope[t])};
    rows.add(weight);
  });
}

template <class F, class Rows>
VM_INLINE void own_row(const OwnOperands& a, std::int64_t row) {
  using V = vec<F>;
  constexpr auto item = static_cast<std::int64_t>(sizeof(F));
  const SampledLoss& o = a.loss;
  const RowMath<F> math{};
  const SampledRow<RowMath<F>> row_of(math, o, static_cast<std::size_t>(row));
  const auto n = static_cast<std::int64_t>(o.draws);
  const std::int64_t* const ids = a.ids + row * n;
  OutBytes const slopes = a.slopes == nullptr ? nullptr : a.slopes + row * n * item;
  Rows rows(a.table, o.input + row * a.table.features * item,
            a.grad == nullptr ? nullptr : a.grad + row * a.table.features * item);
  const Terms<F> terms(o.kind == SampledKind::nce);

  // Draw d of a step is row d / teams of team d % teams; lane d corrects its logit.
  const unsigned teams = lanes_of_warp / rows.team(), step = Rows::tile * teams, me = lane();
  Seen seen;
  for (std::int64_t first = 0; first < n; first += step) {
    std::int64_t wanted[Rows::tile];
    F dot[Rows::tile], weight[Rows::tile];
    VM_UNROLL(8)
    for (unsigned u = 0; u < Rows::tile; ++u) {
      const std::int64_t j = first + u * teams + me / rows.team();
      wanted[u] = j < n ? ids[j] : no_class;
    }
    rows.take(wanted);
    rows.dots(dot);
    F mine = 0;
    VM_UNROLL(8)
    for (unsigned u = 0; u < Rows::tile; ++u) {
      const F other = teams == 1 ? dot[u] : shuffle(dot[u], me % teams * rows.team());
      mine = me / teams == u ? other : mine;
    }
    const std::int64_t j = first + me;
    const bool drawn = me < step && j < n;
    V z = splat<V>(-Number<F>::infinity);
    if (drawn) {
      const bool hit = row_of.is_target(ids[j]);
      seen.hits += hit;
      const double logit = with_bias(a.table, ids[j], static_cast<double>(mine)) * o.inverse_temperature;
      const double expected = a.log_expected == nullptr ? 0 : a.log_expected[row * n + j];
      if (!(hit && o.drop_hits)) z = splat<V>(static_cast<F>(logit + (a.added - expected)));
    }
    if (!terms.questions()) {
      const double most = static_cast<double>(warp_max(max(z, splat<V>(-Number<F>::infinity))).piece[0].v);
      if (most > seen.max) {
        const double down = math.exp_difference(seen.max - most);
        seen.sum *= down, seen.squares *= down * down, seen.max = most;
        if (a.grad != nullptr) rows.scale(static_cast<F>(down));
      }
    }
    F term = 0;
    if (drawn) {
      term = terms(z, seen.max).piece[0].v;
      const auto wide = static_cast<double>(term);
      seen.nan |= is_nan(z).piece[0];
      seen.sum += terms.questions() ? terms.question(z) : wide;
      seen.squares += wide * wide;
      if (slopes != nullptr) store_one<F>(slopes + j * item, terms.questions() ? term : z.piece[0].v);
    }
    if (a.grad == nullptr) continue;
    VM_UNROLL(8)
    for (unsigned u = 0; u < Rows::tile; ++u) weight[u] = shuffle(term, u * teams + me / rows.team());
    rows.add(weight);
  }

  target_logits<F>(o, a.table, row, rows);
  const double factor = finish_row<F>(o, row, seen);
  const V by = splat<V>(static_cast<F>(factor));
  if (slopes != nullptr)
    for (std::int64_t j = me; j < n; j += lanes_of_warp) {
      const V stored = splat<V>(load_one<F>(slopes + j * item));
      store_one<F>(slopes + j * item, ((terms.questions() ? stored : terms(stored, seen.max)) * by).piece[0].v);
    }
  if (a.grad == nullptr) return;
  rows.scale(by.piece[0].v);
  rows.join();
  add_target_rows<F>(o, row, rows);
  rows.store();
}

template <class T, class Rows>
VM_KERNEL(row_threads, Rows::blocks - fewer_blocks)
own_kernel(VM_PARAMETER OwnOperands a) {
  for (auto row = global_warp(); row < static_cast<std::int64_t>(a.loss.rows); row += global_warps())
    own_row<compute_t<T>, Rows>(a, row);
}

// The draws of a batch: the largest corrected logit of the row, then what the terms add up to, then slopes; the logits
// come from second-level cache, where the product has left them.
template <class T>
VM_INLINE void shared_row(const SharedOperands& a, std::int64_t row, OutBytes z) {
  using F = compute_t<T>;
  using V = vec<F>;
  constexpr auto item = static_cast<std::int64_t>(sizeof(F));
  const SampledLoss& o = a.loss;
  const auto n = static_cast<std::int64_t>(a.draws.n);
  LongRows<T> rows(a.table, o.input + row * a.table.features * item, nullptr);
  target_logits<F>(o, a.table, row, rows);

  Seen seen;
  for (std::int64_t t = o.targets.offsets[row] + lane(); t < o.targets.offsets[row + 1]; t += lanes_of_warp) {
    std::int64_t low = 0, high = n;
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      a.draws.ids[middle] < o.targets.ids[t] ? low = middle + 1 : high = middle;
    }
    if (low == n || a.draws.ids[low] != o.targets.ids[t]) continue;
    seen.hits += static_cast<std::int64_t>(a.draws.counts[low]);
    if (o.drop_hits) store_one<F>(z + low * item, -Number<F>::infinity);
  }
  sync_warp();

  const V by = splat<V>(static_cast<F>(o.inverse_temperature)), none = splat<V>(-Number<F>::infinity);
  const auto column = [&](Bytes of, std::int64_t j) { return splat<V>(load_one<F>(of + j * item)); };
  const auto corrected = [&](std::int64_t j) {
    const V v = column(z, j), biased = a.biases == nullptr ? v : v + column(a.biases, j);
    return select(v == none, none, fma(biased, by, column(a.draws.adjust, j)));
  };
  const Terms<F> terms(o.kind == SampledKind::nce);
  if (!terms.questions()) {
    V most = none;
    for (std::int64_t j = lane(); j < n; j += lanes_of_warp) most = max(corrected(j), most);
    seen.max = static_cast<double>(warp_max(most).piece[0].v);
  }
  for (std::int64_t j = lane(); j < n; j += lanes_of_warp) {
    const V v = corrected(j), term = terms(v, seen.max);
    const auto wide = static_cast<double>(term.piece[0].v);
    seen.nan |= is_nan(v).piece[0];
    if (terms.questions()) {
      seen.sum += a.draws.counts[j] * terms.question(v);
    } else {
      seen.sum += wide;
      seen.squares += wide * wide * static_cast<double>(load_one<F>(a.draws.shares + j * item));
    }
  }
  const double factor = finish_row<F>(o, row, seen);
  if (!a.slopes) return;
  for (std::int64_t j = lane(); j < n; j += lanes_of_warp) {
    const V term = terms(corrected(j), seen.max), times = column(a.draws.staged_counts, j);
    store_one<F>(z + j * item,
                 ((terms.questions() ? times * term : term) * splat<V>(static_cast<F>(factor))).piece[0].v);
  }
}

template <class T>
VM_KERNEL(row_threads, 4)
shared_kernel(VM_PARAMETER SharedOperands a) {
  for (std::int64_t i = global_warp(); i < a.count; i += global_warps())
    shared_row<T>(a, a.first + i, a.logits + i * static_cast<std::int64_t>(a.draws.n * sizeof(compute_t<T>)));
}

// grad [count, features] += slope * class
template <class T>
VM_KERNEL(row_threads, 4)
targets_kernel(VM_PARAMETER SampledLoss o, TableOperand table, std::int64_t first, std::int64_t count,
               std::byte* grad) {
  using F = compute_t<T>;
  constexpr auto item = static_cast<std::int64_t>(sizeof(F));
  for (std::int64_t i = global_warp(); i < count; i += global_warps()) {
    LongRows<T> rows(table, nullptr, grad + i * table.features * item, false);
    add_target_rows<F>(o, first + i, rows);
  }
}

// fn(Rows) with what holds the rows of the table.
template <class T, class Rows>
struct Holding {};
template <class T, class Fn>
void with_rows(const TableOperand& table, const Fn& fn) {
  constexpr std::int64_t warp_bytes = lanes_of_warp * 16;
  const std::int64_t bytes = table.features * static_cast<std::int64_t>(sizeof(T));
  if (bytes > 4 * warp_bytes) return fn(Holding<T, LongRows<T>>{});
  if (bytes > 2 * warp_bytes) return fn(Holding<T, HeldRows<T, 4>>{});
  if (bytes > warp_bytes) return fn(Holding<T, HeldRows<T, 2>>{});
  fn(Holding<T, HeldRows<T, 1>>{});
}

static Grid grid_for_rows(std::int64_t count, const Stream& stream) {
  return grid_for(count, row_threads / lanes_of_warp, row_threads, stream);
}

void sampled_shared(DType dtype, const SharedOperands& a, const Stream& stream) {
  with_dtype(dtype, [&]<class T>(T) { launch(shared_kernel<T>, grid_for_rows(a.count, stream), stream, a); });
}

void add_targets(DType dtype, const SampledLoss& loss, const TableOperand& table, std::int64_t first,
                 std::int64_t count, std::byte* grad, const Stream& stream) {
  with_dtype(dtype, [&]<class T>(T) {
    launch(targets_kernel<T>, grid_for_rows(count, stream), stream, loss, table, first, count, grad);
  });
}

void sampled_own(DType dtype, const OwnOperands& a, const Stream& stream) {
  const Grid grid = grid_for_rows(static_cast<std::int64_t>(a.loss.rows), stream);
  with_dtype(dtype, [&]<class T>(T) {
    with_rows<T>(a.table, [&]<class Rows>(Holding<T, Rows>) { launch(own_kernel<T, Rows>, grid, stream, a); });
  });
}

}  // namespace vastmax::VM_ISA
