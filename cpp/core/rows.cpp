// SPDX-License-Identifier: Apache-2.0
// Ops over rows: cut into canonical blocks, spread over threads, normalise, apply.
//
// A task is a run of rows, or a run of blocks of one row when rows are few and vast.  Either way a row is the same
// blocks, merged in the same order, so its bits do not depend on the cut.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "core/check.hpp"
#include "core/isa.hpp"
#include "core/loop.hpp"
#include "core/policy.hpp"
#include "core/threads.hpp"

namespace vastmax {
namespace {

constexpr std::size_t scratch_bytes = 16384;  // a block of the compute type

struct Scratch {
  alignas(64) std::byte in[scratch_bytes], second[scratch_bytes], out[scratch_bytes];
};

// A row operand: where its rows are (through a Loop) and how its classes follow each other.
struct RowOperand {
  std::byte* data = nullptr;
  std::size_t item = 0;
  std::int64_t step = 0;
  std::size_t slot = 0;  // in the Loop

  std::byte* row(const Loop& loop, std::size_t index) const { return data + loop.offset(index, slot); }
  bool plain() const { return step == static_cast<std::int64_t>(item); }
};

// Special numbers in the bits of a dtype.
enum class Special { zero, minus_infinity, nan };
std::uint64_t bits(DType d, Special s) {
  constexpr std::uint64_t table[dtype_count][3] = {{0, 0xfc00, 0x7e00},
                                                   {0, 0xff80, 0x7fc0},
                                                   {0, 0xff800000, 0x7fc00000},
                                                   {0, 0xfff0000000000000, 0x7ff8000000000000}};
  return table[static_cast<int>(d)][static_cast<int>(s)];
}

void store_number(std::byte* to, DType d, double value) {
  if (std::isnan(value)) value = std::numeric_limits<double>::quiet_NaN();
  if (d == DType::float64) {
    std::memcpy(to, &value, sizeof value);
  } else {
    const auto narrow = static_cast<float>(value);
    std::memcpy(to, &narrow, sizeof narrow);
  }
}
double load_number(Bytes from, DType d) {
  if (d == DType::float64) {
    double value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  float value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// 1 / sum as scale (1 + correction), in a type that holds neither exactly.
template <class F>
void reciprocal(const TwoSum& sum, RowParams& row) {
  row.scale = static_cast<F>(1 / sum.value());
  row.correction = std::fma(-row.scale, sum.high, 1) - row.scale * sum.low;
}

class RowRun {
 public:
  RowRun(const char* op, DType dtype, std::span<const std::int64_t> shape, const Exec& exec)
      : op_(op),
        dtype_(dtype),
        all_(kernels(exec)),
        k_(of(all_, dtype)),
        exec_(exec),
        loop_(shape.first(shape.size() - 1)),
        n_(static_cast<std::size_t>(shape.back())),
        block_(block_length(dtype)),
        blocks_((n_ + block_ - 1) / block_) {}

  template <class V>
  RowOperand operand(const V& view) {
    loop_.add(view.strides.first(view.strides.size() - 1));
    return {const_cast<std::byte*>(view.data), item_size(view.dtype), view.strides.back(), slots_++};
  }
  RowOperand per_row(const void* data, std::size_t item, std::span<const std::int64_t> strides) {
    loop_.add(strides);
    return {static_cast<std::byte*>(const_cast<void*>(data)), item, 0, slots_++};
  }
  void options(const RowOptions& o) {
    if (o.temperature != nullptr) temperature_ = per_row(o.temperature, sizeof(double), o.temperature_strides);
    if (o.where != nullptr) {
      loop_.add(o.where_strides.first(o.where_strides.size() - 1));
      where_ = {reinterpret_cast<std::byte*>(const_cast<std::uint8_t*>(o.where)), 1, o.where_strides.back(), slots_++};
    }
  }

  // --- the shapes of run
  void norm_map(Op op, const ConstView& x, const ConstView* grad, const View& out, const RowOptions& o);
  void norm_reduce(const ConstView& x, const View& out, const RowOptions& o);
  void row_grad(Op op, const ConstView& g, const ConstView& y, const View& out, const RowOptions& o);
  void weighted(const ConstView& a, const ConstView& b, const View& out, const View* sign, const RowOptions& o);

 private:
  struct Source {  // one row of logits, and how to read it
    Bytes x;
    const std::uint8_t* where;
    double divisor;
    std::size_t row;
  };
  Source source(std::size_t row) const {
    return {x_.row(loop_, row),
            where_.data == nullptr ? nullptr : reinterpret_cast<const std::uint8_t*>(where_.row(loop_, row)),
            temperature(row), row};
  }
  double temperature(std::size_t row) const {
    if (temperature_.data == nullptr) return 1;
    double t;
    std::memcpy(&t, temperature_.row(loop_, row), sizeof t);
    return t;
  }
  bool plain() const { return x_.plain() && where_.data == nullptr && temperature_.data == nullptr; }
  std::size_t length(std::size_t block) const { return std::min(block_, n_ - block * block_); }
  Bytes at(Bytes row, const RowOperand& operand, std::size_t block) const {
    return row + static_cast<std::int64_t>(block * block_) * operand.step;
  }

  bool stage(const Source& s, std::size_t block, double shift, std::byte* to) const {
    const auto start = static_cast<std::int64_t>(block * block_);
    return k_.stage({s.x + start * x_.step, x_.step, s.where == nullptr ? nullptr : s.where + start * where_.step,
                     where_.step, s.divisor, shift},
                    length(block), to);
  }

  // The normaliser of one block.  `seen`: the mask left something in.
  Partial norm_block(const Source& s, std::size_t block, Bytes ahead, double& max, Scratch& scratch, bool& seen) const {
    Partial part;
    double unknown = NAN;
    if (plain()) {
      seen = true;
      k_.norm[0](at(s.x, x_, block), length(block), ahead, max, part);
    } else {
      seen |= stage(s, block, 0, scratch.in);
      k_.norm[1](scratch.in, length(block), nullptr, unknown, part);
    }
    if (shifted(part.max) && std::isfinite(part.max)) {
      const double shift = part.max;
      stage(s, block, shift, scratch.in);
      k_.norm[1](scratch.in, length(block), nullptr, unknown, part);
      part.max = shift;
    }
    return part;
  }

  double ratio(const Partial& from, const Partial& to) const {
    if (from.max == -INFINITY) return 0;
    if (std::isinf(to.max)) return 0;  // the row is special; its sum does not matter
    if (!shifted(from.max) && !shifted(to.max)) return std::ldexp(1.0, from.ref - to.ref);
    return all_.exp_difference(from.max - to.max) * top_of(to.max, to.ref) / top_of(from.max, from.ref);
  }
  // e^(max - base) 2^-ref
  double top_of(double max, int ref) const { return all_.exp_scaled(shifted(max) ? 0 : max, ref); }

  void merge(Norm& norm, const Partial& part, std::size_t block) const {
    norm.merge(part, block, [this](const Partial& from, const Partial& to) { return ratio(from, to); });
  }

  // sum / e^max - 1, to full relative accuracy: below 1 the largest logit is left out of the sum rather than subtracted
  // from it.
  double over_max(const Norm& norm, const Source& s, Scratch& scratch) const {
    const double top = top_of(norm.max, norm.ref), sum = norm.sum();
    if (sum > 1.75 * top) return (sum - top) / top;  // two equal logits make 2, give or take a rounding
    const double shift = shifted(norm.max) ? norm.max : 0;
    stage(s, norm.where, shift, scratch.in);
    return (norm.others.value() + k_.rest(scratch.in, length(norm.where), norm.max - shift, norm.ref)) / top;
  }

  static bool special(const Norm& norm) { return !std::isfinite(norm.max) || std::isnan(norm.sum()); }

  RowParams params(Op op, const Norm& norm, const Source& s, Scratch& scratch) const {
    RowParams row;
    if (special(norm)) return row;
    row.ref = norm.ref;
    row.max = shifted(norm.max) ? 0 : norm.max;
    if (op == Op::log_softmax) {
      row.log = 0.0 - all_.log1p(over_max(norm, s, scratch));
    } else {
      TwoSum sum = norm.others;
      sum.add(norm.top);
      sum.add(k_.peak_error(row.max, norm.ref));
      sum.scale(dtype_ == DType::float64 ? 0x1p-500
                                         : 0x1p-64);  // to the unit of the largest term; a scale stays a normal number
      dtype_ == DType::float64 ? reciprocal<double>(sum, row) : reciprocal<float>(sum, row);
      if (op == Op::logsumexp_backward) row.grad = load_number(grad_.row(loop_, s.row), reduced(dtype_)) / s.divisor;
    }
    return row;
  }

  // A row with a NaN, a +inf, nothing but -inf, or everything masked: see the table of special values.
  void map_special(Op op, const Norm& norm, const Source& s, std::size_t block, Scratch& scratch) const {
    const bool nan_row = std::isnan(norm.sum()) && norm.seen;
    stage(s, block, 0, scratch.in);
    std::byte* to = y_.row(loop_, s.row) + static_cast<std::int64_t>(block * block_) * y_.step;
    const std::size_t compute = compute_size(dtype_);
    const Special hidden = op == Op::log_softmax ? Special::minus_infinity : Special::zero;
    for (std::size_t i = 0; i < length(block); ++i, to += y_.step) {
      Special value = Special::nan;
      const bool in = s.where == nullptr || s.where[static_cast<std::int64_t>(block * block_ + i) * where_.step] != 0;
      if (!in)
        value = hidden;
      else if (!nan_row && op == Op::log_softmax && norm.max == INFINITY &&
               load_number(scratch.in + i * compute, dtype_ == DType::float64 ? dtype_ : DType::float32) != INFINITY)
        value = Special::minus_infinity;
      else if (!nan_row && op == Op::logsumexp_backward && norm.max == -INFINITY)
        value = Special::zero;
      const std::uint64_t b = bits(dtype_, value);
      std::memcpy(to, &b, y_.item);
    }
  }

  void map_block(Op op, const Norm& norm, const RowParams& row, const Source& s, std::size_t block,
                 Scratch& scratch) const {
    if (special(norm)) return map_special(op, norm, s, block, scratch);
    const int index = static_cast<int>(op);
    const bool staged = !plain() || shifted(norm.max);
    if (staged) stage(s, block, shifted(norm.max) ? norm.max : 0, scratch.in);
    Bytes from = staged ? scratch.in : at(s.x, x_, block);
    std::byte* to = y_.row(loop_, s.row) + static_cast<std::int64_t>(block * block_) * y_.step;
    if (y_.plain()) {
      k_.norm_map[index][staged](from, to, length(block), row, stream_);
    } else {
      k_.norm_map[index][staged](from, scratch.out, length(block), row, false);
      Loop::copy(to, y_.step, scratch.out, static_cast<std::int64_t>(y_.item), y_.item, length(block));
    }
  }

  double reduce(const Norm& norm, const Source& s, Scratch& scratch) const {
    if (!norm.seen || norm.max == -INFINITY) return std::isnan(norm.sum()) && norm.seen ? NAN : -INFINITY;
    if (special(norm)) return std::isnan(norm.sum()) ? NAN : norm.max;
    return norm.max + all_.log1p(over_max(norm, s, scratch));
  }

  Bytes ahead(const Source& s, std::size_t block) const {  // the next block, if it is a whole one
    return plain() && block + 1 < blocks_ && length(block + 1) == block_ ? at(s.x, x_, block + 1) : nullptr;
  }
  // `more`: another row follows; `max` goes from one to the next where each is a single block.
  Norm norm_row(const Source& s, bool more, double& max, Scratch& scratch) const {
    Norm norm;
    const Bytes next_row = more && plain() && blocks_ == 1 ? x_.row(loop_, s.row + 1) : nullptr;
    for (std::size_t b = 0; b < blocks_; ++b) {
      merge(norm, norm_block(s, b, next_row != nullptr ? next_row : ahead(s, b), max, scratch, norm.seen), b);
    }
    return norm;
  }
  Norm norm_parallel(const Source& s, int threads) {
    const auto parts = std::make_unique_for_overwrite<Partial[]>(blocks_);
    const auto seen = std::make_unique<bool[]>(blocks_);
    each_run(threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
      double max = NAN;
      for (std::size_t b = first; b < last; ++b)
        parts[b] = norm_block(s, b, b + 1 < last ? ahead(s, b) : nullptr, max, scratch, seen[b]);
    });
    Norm norm;
    for (std::size_t b = 0; b < blocks_; ++b) {
      norm.seen |= seen[b];
      merge(norm, parts[b], b);
    }
    return norm;
  }

  double log(double x) const {  // x > 0; the kernel wants normal numbers
    return x < 0x1p-900 ? all_.log(x * 0x1p200) - 200 * 0.693147180559945309417 : all_.log(x);
  }

  // fn(first, last, scratch) over runs of `run` of `count`; nothing more once the call is interrupted.
  template <class Fn>
  void spread_runs(std::size_t count, std::size_t run, int threads, const Fn& fn) {
    if (interrupted_) return;
    interrupted_ = !parallel((count + run - 1) / run, threads, exec_, Task([&](std::size_t task) {
                               const KernelScope scope;
                               Scratch scratch;
                               fn(task * run, std::min(count, (task + 1) * run), scratch);
                             }));
  }
  template <class Fn>
  void spread(std::size_t count, std::size_t run, int threads, const Fn& fn) {
    spread_runs(count, run, threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
      for (std::size_t i = first; i < last; ++i) fn(i, scratch);
    });
  }
  template <class Fn>
  void each_run(int threads, const Fn& fn) {
    spread_runs(blocks_, policy::grain / block_, threads, fn);
  }
  std::size_t rows_a_task() const { return std::max<std::size_t>(1, policy::grain / std::max<std::size_t>(1, n_)); }
  template <class Fn>
  void each_row(const Plan& plan, const Fn& fn) {
    spread(loop_.count(), rows_a_task(), plan.threads, fn);
  }
  // fn(source, norm, scratch) for every row
  template <class Fn>
  void each_norm(const Plan& plan, const Fn& fn) {
    spread_runs(loop_.count(), rows_a_task(), plan.threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
      double max = NAN;
      for (std::size_t r = first; r < last; ++r) {
        const Source s = source(r);
        fn(s, norm_row(s, r + 1 < last, max, scratch), scratch);
      }
    });
  }
  template <class Fn>
  void each_block(int threads, const Fn& fn) {
    spread(blocks_, policy::grain / block_, threads, fn);
  }
  // Rows side by side, `width` of them from row `first` on.
  struct Group {
    std::size_t first, width;
  };
  struct GroupState {
    Norm norm[most_columns];
    RowParams row[most_columns];
    bool ordinary = true;  // no column is special or shifted
  };
  bool columns(bool maps) const {
    const auto item = static_cast<std::int64_t>(x_.item);
    return where_.data == nullptr && temperature_.data == nullptr && !x_.plain() &&
           loop_.inner() >= policy::least_columns && loop_.inner_stride(x_.slot) == item &&
           (!maps || loop_.inner_stride(y_.slot) == item);
  }
  void norm_columns(const Group& g, std::size_t block, Partial* parts, Scratch& scratch) const {
    k_.norm_columns(at(x_.row(loop_, g.first), x_, block), x_.step, length(block), g.width, parts);
    for (std::size_t c = 0; c < g.width; ++c)
      if (shifted(parts[c].max)) {
        bool seen = true;
        double unknown = NAN;
        parts[c] = norm_block(source(g.first + c), block, nullptr, unknown, scratch, seen);
      }
  }
  void map_columns(Op op, const Group& g, std::size_t block, const GroupState& state, Scratch& scratch) const {
    if (!state.ordinary) {
      for (std::size_t c = 0; c < g.width; ++c)
        map_block(op, state.norm[c], state.row[c], source(g.first + c), block, scratch);
      return;
    }
    std::byte* to = y_.row(loop_, g.first) + static_cast<std::int64_t>(block * block_) * y_.step;
    k_.map_columns[static_cast<int>(op)](at(x_.row(loop_, g.first), x_, block), x_.step, to, y_.step, length(block),
                                         g.width, state.row, stream_);
  }
  void merge_group(GroupState& state, const Group& g, std::size_t block, const Partial* parts) const {
    for (std::size_t c = 0; c < g.width; ++c) {
      state.norm[c].seen = true;
      merge(state.norm[c], parts[c], block);
    }
  }
  // finish(group, state) once all blocks of a group are merged, then map(group, block, state) for each of them.  Groups
  // go to threads while there are enough to balance, else the blocks of each do.
  template <class Finish, class Map>
  void each_group(const Finish& finish, const Map& map) {
    const std::size_t inner = loop_.inner(), per = (inner + most_columns - 1) / most_columns,
                      groups = loop_.count() / inner * per;
    const int wanted = exec_.threads > 0 ? exec_.threads : get_num_threads();
    const int threads = loop_.count() * n_ < 2 * policy::grain ? 1 : wanted;
    const auto group = [&](std::size_t i) {
      const std::size_t start = i % per * most_columns;
      return Group{i / per * inner + start, std::min(most_columns, inner - start)};
    };
    if (groups >= 2 * static_cast<std::size_t>(threads) && blocks_ < 128) {
      spread(groups, 1, threads, [&](std::size_t i, Scratch& scratch) {
        const Group g = group(i);
        GroupState state;
        for (std::size_t b = 0; b < blocks_; ++b) {
          Partial parts[most_columns];
          norm_columns(g, b, parts, scratch);
          merge_group(state, g, b, parts);
        }
        finish(g, state, scratch);
        for (std::size_t b = 0; b < blocks_; ++b) map(g, b, state, scratch);
      });
      return;
    }
    const auto parts = std::make_unique_for_overwrite<Partial[]>(blocks_ * most_columns);
    for (std::size_t i = 0; i < groups; ++i) {
      const Group g = group(i);
      spread(blocks_, 1, threads,
             [&](std::size_t b, Scratch& scratch) { norm_columns(g, b, &parts[b * most_columns], scratch); });
      if (interrupted_) return;
      GroupState state;
      for (std::size_t b = 0; b < blocks_; ++b) merge_group(state, g, b, &parts[b * most_columns]);
      const KernelScope scope;
      Scratch scratch;
      finish(g, state, scratch);
      spread(blocks_, 1, threads, [&](std::size_t b, Scratch& own) { map(g, b, state, own); });
    }
  }
  Plan cut() const {
    return vastmax::plan(static_cast<std::int64_t>(loop_.count()), static_cast<std::int64_t>(n_), exec_.threads);
  }

  const char* op_;
  DType dtype_;
  const Kernels& all_;
  const DTypeKernels& k_;
  const Exec& exec_;
  Loop loop_;
  std::size_t slots_ = 0, n_, block_, blocks_;
  RowOperand x_, y_, grad_, temperature_, where_;
  bool stream_ = false, interrupted_ = false;
};

void RowRun::norm_map(Op op, const ConstView& x, const ConstView* grad, const View& out, const RowOptions& o) {
  x_ = operand(x), y_ = operand(out);
  if (grad != nullptr) grad_ = per_row(grad->data, item_size(grad->dtype), grad->strides);
  options(o);
  loop_.merge();
  const std::size_t rows = loop_.count();
  if (rows == 0 || n_ == 0) return;
  stream_ = x.data != out.data && rows * n_ * y_.item >= policy::stream_bytes;
  if (columns(true))
    return each_group(
        [&](const Group& g, GroupState& state, Scratch& scratch) {
          for (std::size_t c = 0; c < g.width; ++c) {
            state.row[c] = params(op, state.norm[c], source(g.first + c), scratch);
            state.ordinary &= !special(state.norm[c]) && !shifted(state.norm[c].max);
          }
        },
        [&](const Group& g, std::size_t b, const GroupState& state, Scratch& scratch) {
          map_columns(op, g, b, state, scratch);
        });
  const Plan plan = cut();
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    Scratch scratch;
    for (std::size_t r = 0; r < rows && !interrupted_; ++r) {
      const Source s = source(r);
      const Norm norm = norm_parallel(s, plan.threads);
      const RowParams row = params(op, norm, s, scratch);
      each_block(plan.threads, [&](std::size_t b, Scratch& own) { map_block(op, norm, row, s, b, own); });
    }
    return;
  }
  each_norm(plan, [&](const Source& s, const Norm& norm, Scratch& scratch) {
    const RowParams row = params(op, norm, s, scratch);
    for (std::size_t b = 0; b < blocks_; ++b) map_block(op, norm, row, s, b, scratch);
  });
}

void RowRun::norm_reduce(const ConstView& x, const View& out, const RowOptions& o) {
  x_ = operand(x), y_ = per_row(out.data, item_size(out.dtype), out.strides);
  options(o);
  loop_.merge();
  const std::size_t rows = loop_.count();
  if (rows == 0) return;
  const Plan plan = cut();
  const auto put = [&](const Norm& norm, const Source& s, Scratch& scratch) {
    store_number(y_.row(loop_, s.row), reduced(dtype_), reduce(norm, s, scratch));
  };
  if (columns(false))
    return each_group(
        [&](const Group& g, GroupState& state, Scratch& scratch) {
          for (std::size_t c = 0; c < g.width; ++c) put(state.norm[c], source(g.first + c), scratch);
        },
        [](const Group&, std::size_t, const GroupState&, Scratch&) {});
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    Scratch scratch;
    for (std::size_t r = 0; r < rows && !interrupted_; ++r)
      put(norm_parallel(source(r), plan.threads), source(r), scratch);
    return;
  }
  each_norm(plan, [&](const Source& s, const Norm& norm, Scratch& scratch) { put(norm, s, scratch); });
}

void RowRun::row_grad(Op op, const ConstView& g, const ConstView& y, const View& out, const RowOptions& o) {
  x_ = operand(g), grad_ = operand(y), y_ = operand(out);
  options(o);
  loop_.merge();
  const std::size_t rows = loop_.count();
  if (rows == 0 || n_ == 0) return;
  const int index = static_cast<int>(op);
  stream_ = g.data != out.data && y.data != out.data && rows * n_ * y_.item >= policy::stream_bytes;
  const bool staged = !(x_.plain() && grad_.plain());
  const auto stage_operand = [&](const RowOperand& operand, Bytes row, std::size_t b, std::byte* to) {
    const auto start = static_cast<std::int64_t>(b * block_);
    k_.stage({row + start * operand.step, operand.step, nullptr, 0, 1, 0}, length(b), to);
  };
  struct Inputs {
    Bytes g, y;
  };
  const auto inputs = [&](std::size_t r, std::size_t b, Scratch& scratch) -> Inputs {
    const Bytes rg = x_.row(loop_, r), ry = grad_.row(loop_, r);
    if (!staged) return {at(rg, x_, b), at(ry, grad_, b)};
    stage_operand(x_, rg, b, scratch.in);
    stage_operand(grad_, ry, b, scratch.second);
    return {scratch.in, scratch.second};
  };
  const auto dot = [&](std::size_t r, std::size_t b, Scratch& scratch) {
    const Inputs in = inputs(r, b, scratch);
    return k_.row_dot[index][staged](in.g, in.y, length(b));
  };
  const auto apply = [&](std::size_t r, std::size_t b, const RowParams& row, Scratch& scratch) {
    const Inputs in = inputs(r, b, scratch);
    std::byte* to = y_.row(loop_, r) + static_cast<std::int64_t>(b * block_) * y_.step;
    if (y_.plain()) {
      k_.row_grad[index][staged](in.g, in.y, to, length(b), row, stream_);
    } else {
      k_.row_grad[index][staged](in.g, in.y, scratch.out, length(b), row, false);
      Loop::copy(to, y_.step, scratch.out, static_cast<std::int64_t>(y_.item), y_.item, length(b));
    }
  };
  const auto params = [&](std::size_t r, double sum) {
    RowParams row;
    row.grad = sum;
    row.scale = 1 / temperature(r);
    return row;
  };
  const Plan plan = cut();
  if (plan.strategy == Strategy::split) {
    const auto parts = std::make_unique_for_overwrite<double[]>(blocks_);
    for (std::size_t r = 0; r < rows && !interrupted_; ++r) {
      each_block(plan.threads, [&](std::size_t b, Scratch& scratch) { parts[b] = dot(r, b, scratch); });
      TwoSum sum;
      for (std::size_t b = 0; b < blocks_; ++b) sum.add(parts[b]);
      const RowParams row = params(r, sum.value());
      each_block(plan.threads, [&](std::size_t b, Scratch& scratch) { apply(r, b, row, scratch); });
    }
    return;
  }
  each_row(plan, [&](std::size_t r, Scratch& scratch) {
    TwoSum sum;
    for (std::size_t b = 0; b < blocks_; ++b) sum.add(dot(r, b, scratch));
    const RowParams row = params(r, sum.value());
    for (std::size_t b = 0; b < blocks_; ++b) apply(r, b, row, scratch);
  });
}

void RowRun::weighted(const ConstView& a, const ConstView& b, const View& out, const View* sign, const RowOptions& o) {
  x_ = operand(a), grad_ = operand(b), y_ = per_row(out.data, item_size(out.dtype), out.strides);
  RowOperand sign_operand;
  if (sign != nullptr) sign_operand = per_row(sign->data, item_size(sign->dtype), sign->strides);
  options(o);
  loop_.merge();
  each_row(cut(), [&](std::size_t r, Scratch& scratch) {
    const Source s = source(r);
    const Bytes weights = grad_.row(loop_, r);
    const auto load_block = [&](std::size_t block) {
      stage(s, block, 0, scratch.in);
      const auto start = static_cast<std::int64_t>(block * block_);
      k_.stage({weights + start * grad_.step, grad_.step, nullptr, 0, 1, 0}, length(block), scratch.second);
      const std::size_t item = compute_size(dtype_);
      for (std::size_t i = 0; s.where != nullptr && i < length(block); ++i)  // a masked term has no weight
        if (s.where[static_cast<std::int64_t>(block * block_ + i) * where_.step] == 0)
          std::memset(scratch.second + i * item, 0, item);
    };
    double max = -INFINITY;
    for (std::size_t i = 0; i < blocks_; ++i) {
      load_block(i);
      max = std::max(max, k_.weighted_max(scratch.in, scratch.second, length(i)));
    }
    TwoSum sum;
    for (std::size_t i = 0; i < blocks_; ++i) {
      load_block(i);
      k_.weighted(scratch.in, scratch.second, length(i), max, sum);
    }
    const double total = std::isinf(sum.high) ? sum.high : sum.value();  // in the unit e^max
    double value = std::isnan(total) || (sign == nullptr && total < 0) ? NAN : total == 0 ? -INFINITY : INFINITY;
    if (std::isfinite(total) && value == INFINITY) value = max + log(std::fabs(total));
    const double direction = std::isnan(total) ? NAN : total > 0 ? 1 : total < 0 ? -1 : 0;
    store_number(y_.row(loop_, r), reduced(dtype_), value);
    if (sign != nullptr) store_number(sign_operand.row(loop_, r), reduced(dtype_), direction);
  });
}

void check_rows(const char* op, const ConstView& x, const View& out, const RowOptions&) {
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  expect_dtype(op, "out", out.dtype, x.dtype);
  expect_shape(op, "out", out.shape, x.shape);
}
void check_reduced(const char* op, const ConstView& x, DType dtype, std::span<const std::int64_t> shape,
                   const char* what) {
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  expect_dtype(op, what, dtype, reduced(x.dtype));
  expect_shape(op, what, shape, x.shape.first(x.shape.size() - 1));
}

}  // namespace

Plan plan(std::int64_t rows, std::int64_t classes, int threads) {
  if (threads <= 0) threads = get_num_threads();
  const auto grain = static_cast<std::int64_t>(policy::grain);
  if (static_cast<double>(rows) * static_cast<double>(classes) < 2.0 * static_cast<double>(grain))
    return {Strategy::serial, 1, 1};
  // Rows go to threads whole while there are enough of them to balance; else each is split, if it is worth waking
  // anybody.  Vast rows are always split: they fit no cache, and Ctrl-C is looked at between tasks.
  if ((rows < 4 * threads && classes >= 2 * grain) || classes >= 128 * grain) {
    const std::int64_t tasks = (classes + grain - 1) / grain;
    return {Strategy::split, static_cast<int>(std::min<std::int64_t>(threads, tasks)), tasks};
  }
  const std::int64_t run =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(policy::grain) / std::max<std::int64_t>(1, classes));
  const std::int64_t tasks = (rows + run - 1) / run;
  return {Strategy::rows, static_cast<int>(std::min<std::int64_t>(threads, tasks)), tasks};
}

#define VM_OP(shape, name, Formula) VM_DEFINE_##shape(name)
#define VM_DEFINE_norm_map(name)
#define VM_DEFINE_row_grad(name)                                                                              \
  void name(const ConstView& g, const ConstView& y, const View& out, const RowOptions& o, const Exec& exec) { \
    check_rows(#name, y, out, o);                                                                             \
    expect_dtype(#name, "grad_output", g.dtype, y.dtype);                                                     \
    expect_shape(#name, "grad_output", g.shape, y.shape);                                                     \
    RowRun(#name, y.dtype, y.shape, exec).row_grad(Op::name, g, y, out, o);                                   \
  }
#define VM_DEFINE_unary(name)
#define VM_DEFINE_binary(name)
#include "ops.def"
#undef VM_OP

void softmax(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_rows("softmax", x, out, o);
  RowRun("softmax", x.dtype, x.shape, exec).norm_map(Op::softmax, x, nullptr, out, o);
}

void log_softmax(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_rows("log_softmax", x, out, o);
  RowRun("log_softmax", x.dtype, x.shape, exec).norm_map(Op::log_softmax, x, nullptr, out, o);
}

void logsumexp_backward(const ConstView& grad, const ConstView& x, const View& out, const RowOptions& o,
                        const Exec& exec) {
  check_rows("logsumexp_backward", x, out, o);
  check_reduced("logsumexp_backward", x, grad.dtype, grad.shape, "grad_output");
  RowRun("logsumexp_backward", x.dtype, x.shape, exec).norm_map(Op::logsumexp_backward, x, &grad, out, o);
}

void logsumexp(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_reduced("logsumexp", x, out.dtype, out.shape, "out");
  RowRun("logsumexp", x.dtype, x.shape, exec).norm_reduce(x, out, o);
}

void logsumexp_weighted(const ConstView& a, const ConstView& b, const View& out, const View* sign, const RowOptions& o,
                        const Exec& exec) {
  check_reduced("logsumexp", a, out.dtype, out.shape, "out");
  expect_dtype("logsumexp", "b", b.dtype, a.dtype);
  expect_shape("logsumexp", "b", b.shape, a.shape);
  if (sign != nullptr) check_reduced("logsumexp", a, sign->dtype, sign->shape, "sign");
  RowRun("logsumexp", a.dtype, a.shape, exec).weighted(a, b, out, sign, o);
}

}  // namespace vastmax
