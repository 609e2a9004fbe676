// SPDX-License-Identifier: Apache-2.0
// The normaliser of rows of logits: plain, staged, split over threads, or side by side.
#pragma once

#include "cpp/host/run/row_run.hpp"

namespace vastmax {

// The float64 arithmetic that finishes a row, on the instruction set of the call.
struct CallMath {
  const Kernels& all;
  const DTypeKernels& k;
  double exp_scaled(double x, int ref) const { return all.exp_scaled(x, ref); }
  double exp_difference(double x) const { return all.exp_difference(x); }
  double log1p(double x) const { return all.log1p(x); }
  double log(double x) const { return all.log(x); }
  double above_tangent(double u) const { return all.above_tangent(u); }
  Peak peak(double max, int ref) const { return k.peak(max, ref); }
};

inline Norm norm_of(const RowState& s) {
  Norm norm;
  norm.max = s.max, norm.top = s.top, norm.top_lost = s.top_lost;
  norm.others = {s.others, s.others_lost};
  norm.ref = static_cast<int>(s.ref), norm.seen = s.seen != 0;
  return norm;
}

inline RowState state_of(const Norm& norm, double rest) {
  return {norm.max,
          norm.top,
          norm.top_lost,
          norm.others.high,
          norm.others.low,
          rest,
          static_cast<double>(norm.ref),
          norm.seen ? 1.0 : 0.0};
}

class NormRun : protected RowRun {
 public:
  using RowRun::RowRun;

 protected:
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
  bool plain() const {
    return x_.plain() && where_.data == nullptr && temperature_.data == nullptr && cap_ == 0 && bias_ == nullptr &&
           narrow_ == nullptr;
  }

  bool stage(const Source& s, std::size_t block, double shift, std::byte* to) const {
    const auto start = static_cast<std::int64_t>(block * block_);
    if (narrow_ == nullptr) return k_.stage(staging(s, start, shift), length(block), to);
    if (x_.plain() && s.where == nullptr && s.divisor == 1 && cap_ == 0) {
      narrow_->widened(at(s.x, x_, block), length(block), shift, to);
      return true;
    }
    alignas(64) std::byte narrow[scratch_bytes / 2];
    const bool live = narrow_->stage(staging(s, start, 0), length(block), narrow);
    of(all_, DType::float32).widened(narrow, length(block), shift, to);
    return live;
  }
  Staging staging(const Source& s, std::int64_t start, double shift) const {
    return {s.x + start * x_.step,
            x_.step,
            s.where == nullptr ? nullptr : s.where + start * where_.step,
            where_.step,
            s.divisor,
            shift,
            cap_,
            head_,
            bias_ == nullptr ? nullptr : bias_ + start * static_cast<std::int64_t>(compute_size(dtype_))};
  }
  // One logit as the row's formulas see it.
  double logit(const Source& s, std::int64_t index) const {
    std::byte one[sizeof(double)];
    k_.stage(staging(s, index, 0), 1, one);
    return load_number(one, reduced(dtype_));
  }

  // What else a run wants of each block while it is in cache.
  struct Nothing {
    void operator()(std::size_t, const Partial&, Scratch&) const {}
  };
  template <class Also>
  static TwoSum* gaps_of(const Also& also, std::size_t block) {
    if constexpr (requires { also.gaps(block); })
      return also.gaps(block);
    else
      return nullptr;
  }

  // The normaliser of one block.  `seen`: the mask left something in.  What comes along: see norm_gaps, norm_stretches.
  Partial norm_block(const Source& s, std::size_t block, Bytes ahead, double& max, Scratch& scratch, bool& seen,
                     TwoSum* gaps = nullptr, OutBytes stretches = nullptr) const {
    Partial part;
    double unknown = NAN;
    const auto normalise = [&](int staged, Bytes x, Bytes next, double& found) {
      if (gaps != nullptr)
        k_.norm_gaps[staged](x, length(block), next, found, part, *gaps);
      else if (stretches != nullptr)
        k_.norm_stretches[staged](x, length(block), next, found, part, stretches);
      else
        k_.norm[brief_][staged](x, length(block), next, found, part);
    };
    if (plain()) {
      seen = true;
      normalise(0, at(s.x, x_, block), ahead, max);
    } else {
      seen |= stage(s, block, 0, scratch.in);
      normalise(1, scratch.in, nullptr, unknown);
    }
    if (shifted(part.max) && std::isfinite(part.max)) {
      const double shift = part.max;
      stage(s, block, shift, scratch.in);
      normalise(1, scratch.in, nullptr, unknown);
      part.max = shift;
    }
    return part;
  }

  CallMath math() const { return {all_, k_}; }

  void merge(Norm& norm, const Partial& part, std::size_t block) const {
    norm.merge(part, block, [this](const Partial& from, const Partial& to) { return ratio(math(), from, to); });
  }

  double log_over_max(const Norm& norm, const Source& s, Scratch& scratch) const {
    return vastmax::log_over_max(math(), norm, [&] { return rest(norm, s, scratch); });
  }

  double rest(const Norm& norm, const Source& s, Scratch& scratch) const {
    const double shift = shifted(norm.max) ? norm.max : 0;
    stage(s, norm.where, shift, scratch.in);
    return k_.rest(scratch.in, length(norm.where), norm.max - shift, norm.ref);
  }

  // What is kept of a row until its next chunk.
  RowState state(const Norm& norm, const Source& s, Scratch& scratch) const {
    const bool here = norm.where < blocks_;  // else the largest logit came earlier
    const double left = !here ? states_[s.row].rest : dominated(norm) ? rest(norm, s, scratch) : 0;
    return state_of(norm, left);
  }
  // Whether over_max may ever ask for the rest: it does below 1.75, and a sum only grows.
  bool dominated(const Norm& norm) const {
    return !norm.special() && norm.sum() <= 2 * top_of(math(), norm.max, norm.ref);
  }

  // What is read after a block, if it is as long: the next block, or the next row where each is a single one.  `more`:
  // another row follows.
  Bytes ahead(const Source& s, std::size_t block, bool more) const {
    if (!plain()) return nullptr;
    if (blocks_ == 1) return more ? x_.row(loop_, s.row + 1) : nullptr;
    return block + 1 < blocks_ && length(block + 1) == block_ ? at(s.x, x_, block + 1) : nullptr;
  }
  // What is known of a row before these logits; `where` is then none of their blocks.
  Norm before(std::size_t row) const {
    if (states_ == nullptr) return {};
    Norm norm = norm_of(states_[row]);
    norm.where = blocks_;
    return norm;
  }
  // also(block, its part, scratch)
  template <class Also = Nothing>
  Norm norm_row(const Source& s, bool more, double& max, Scratch& scratch, const Also& also = {}) const {
    Norm norm = before(s.row);
    for (std::size_t b = 0; b < blocks_; ++b) {
      const Partial part = norm_block(s, b, ahead(s, b, more), max, scratch, norm.seen, gaps_of(also, b));
      also(b, part, scratch);
      merge(norm, part, b);
    }
    return norm;
  }
  template <class Also = Nothing>
  Norm norm_parallel(const Source& s, int threads, const Also& also = {}) {
    const auto parts = std::make_unique_for_overwrite<Partial[]>(blocks_);
    const auto seen = std::make_unique<bool[]>(blocks_);
    each_run(threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
      double max = NAN;
      for (std::size_t b = first; b < last; ++b) {
        parts[b] =
            norm_block(s, b, b + 1 < last ? ahead(s, b, false) : nullptr, max, scratch, seen[b], gaps_of(also, b));
        also(b, parts[b], scratch);
      }
    });
    Norm norm = before(s.row);
    for (std::size_t b = 0; b < blocks_ && !interrupted_; ++b) {
      norm.seen |= seen[b];
      merge(norm, parts[b], b);
    }
    return norm;
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

  // Rows side by side, `width` of them from row `first` on.
  struct Group {
    std::size_t first, width;
  };
  struct GroupState {
    Norm norm[most_columns];
    RowParams row[most_columns];
    bool ordinary = true;  // no column is special or shifted
  };
  std::size_t groups_across() const { return (loop_.inner() + most_columns - 1) / most_columns; }
  std::size_t groups() const { return loop_.count() / loop_.inner() * groups_across(); }
  Group group(std::size_t i) const {
    const std::size_t start = i % groups_across() * most_columns;
    return {i / groups_across() * loop_.inner() + start, std::min(most_columns, loop_.inner() - start)};
  }
  GroupState before(const Group& g) const {
    GroupState state;
    for (std::size_t c = 0; c < g.width; ++c) state.norm[c] = before(g.first + c);
    return state;
  }
  bool columns(bool maps) const {
    const auto item = static_cast<std::int64_t>(x_.item);
    return where_.data == nullptr && temperature_.data == nullptr && cap_ == 0 && bias_ == nullptr && !x_.plain() &&
           loop_.inner() >= policy::least_columns && loop_.inner_stride(x_.slot) == item &&
           (!maps || loop_.inner_stride(y_.slot) == item);
  }
  void norm_columns(const Group& g, std::size_t block, Partial* parts, Scratch& scratch) const {
    const Bytes row = x_.row(loop_, g.first), ahead = block + 1 < blocks_ ? at(row, x_, block + 1) : nullptr;
    k_.norm_columns[brief_](at(row, x_, block), x_.step, length(block), g.width, ahead, parts);
    for (std::size_t c = 0; c < g.width; ++c)
      if (shifted(parts[c].max)) {
        bool seen = true;
        double unknown = NAN;
        parts[c] = norm_block(source(g.first + c), block, nullptr, unknown, scratch, seen);
      }
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
    const int wanted = exec_.threads > 0 ? exec_.threads : get_num_threads();
    const int threads = loop_.count() * n_ < 2 * policy::grain ? 1 : wanted;
    if (groups() >= 2 * static_cast<std::size_t>(threads) && blocks_ < 128) {
      spread(groups(), 1, threads, [&](std::size_t i, Scratch& scratch) {
        const Group g = group(i);
        GroupState state = before(g);
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
    for (std::size_t i = 0; i < groups(); ++i) {
      const Group g = group(i);
      spread(blocks_, 1, threads,
             [&](std::size_t b, Scratch& scratch) { norm_columns(g, b, &parts[b * most_columns], scratch); });
      if (interrupted_) return;
      GroupState state = before(g);
      for (std::size_t b = 0; b < blocks_; ++b) merge_group(state, g, b, &parts[b * most_columns]);
      const KernelScope scope;
      const Lease<Scratch> lease;
      Scratch& scratch = *lease;
      finish(g, state, scratch);
      spread(blocks_, 1, threads, [&](std::size_t b, Scratch& own) { map(g, b, state, own); });
    }
  }

  // fn(norm, source, scratch) for every row, once it has been read
  template <class Fn>
  void reduce(const Fn& fn) {
    if (loop_.count() == 0) return;
    const Plan plan = cut();
    if (columns(false)) {
      each_group(
          [&](const Group& g, GroupState& state, Scratch& scratch) {
            for (std::size_t c = 0; c < g.width; ++c) fn(state.norm[c], source(g.first + c), scratch);
          },
          [](const Group&, std::size_t, const GroupState&, Scratch&) {});
    } else if (plan.strategy == Strategy::split) {
      const KernelScope scope;
      const Lease<Scratch> lease;
      Scratch& scratch = *lease;
      for (std::size_t r = 0; r < loop_.count() && !interrupted_; ++r)
        fn(norm_parallel(source(r), plan.threads), source(r), scratch);
    } else {
      each_norm(plan, [&](const Source& s, const Norm& norm, Scratch& scratch) { fn(norm, s, scratch); });
    }
  }

  RowOperand x_, y_;
  const RowState* states_ = nullptr;  // what earlier calls saw of the rows
  bool brief_ = false;                // the normaliser serves only to make 16-bit numbers
  double cap_ = 0;                    // softcap of the logits, 0 for none
  bool head_ = false;                 // see Staging
  Bytes bias_ = nullptr;
  const DTypeKernels* narrow_ = nullptr;  // of float32 and narrower logits that are computed in float64
};

}  // namespace vastmax
