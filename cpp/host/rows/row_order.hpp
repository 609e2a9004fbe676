// SPDX-License-Identifier: Apache-2.0
// A row's logits as given, for who puts them in order: no temperature, and -inf where `where` leaves one out.
#pragma once

#include <bit>

#include "cpp/host/rows/norm_run.hpp"
#include "cpp/math/threshold.hpp"

namespace vastmax {

class RowOrder : protected NormRun {
 public:
  using NormRun::NormRun;

 protected:
  struct Piece {  // of the compute type where staged
    Bytes x;
    bool staged;
  };
  bool as_given() const { return x_.plain() && where_.data == nullptr; }
  Piece piece(const Source& s, std::size_t first, std::size_t n, Scratch& scratch) const {
    if (as_given()) return {s.x + static_cast<std::int64_t>(first) * x_.step, false};
    return {staged_piece(s, first, n, scratch), true};
  }
  // The same in the compute type.
  Bytes numbers(const Source& s, std::size_t first, std::size_t n, Scratch& scratch) const {
    if (as_given() && x_.item == compute_size(dtype_)) return s.x + static_cast<std::int64_t>(first) * x_.step;
    return staged_piece(s, first, n, scratch);
  }
  double number(const Piece& p, std::size_t i) const {
    if (p.staged || x_.item == compute_size(dtype_))
      return load_number(p.x + i * compute_size(dtype_), reduced(dtype_));
    std::byte one[sizeof(double)];
    k_.stage({p.x + i * x_.item, x_.step, nullptr, 0, 1, 0}, 1, one);
    return load_number(one, reduced(dtype_));
  }

  using Marks = std::uint64_t[block_length(DType::float32) / 64];
  // fn(i) for what is at least a limit, and for NaN; n at most a block.
  template <class Fn>
  void each_marked(const Piece& p, std::size_t n, double limit, Marks& marks, const Fn& fn) const {
    k_.mark_from[p.staged](p.x, n, std::isnan(limit) ? infinity : limit, true, marks);
    each_mark(marks, n, fn);
  }
  template <class Fn>
  static void each_mark(Marks& marks, std::size_t n, const Fn& fn) {
    for (std::size_t w = 0; w < (n + 63) / 64; ++w)
      for (; marks[w] != 0; marks[w] &= marks[w] - 1) fn(w * 64 + static_cast<std::size_t>(std::countr_zero(marks[w])));
  }
  // fn(entry) for logits of [first, first + n), n at most a block, from a limit up
  template <class Fn>
  void each_from(const Source& s, std::size_t first, std::size_t n, double limit, Scratch& scratch,
                 const Fn& fn) const {
    const Piece p = piece(s, first, n, scratch);
    Marks marks;
    each_marked(p, n, limit, marks,
                [&](std::size_t i) { fn(Entry{number(p, i), static_cast<std::int64_t>(first + i)}); });
  }

  // fn(first block, last block, scratch) over all blocks, in order where one thread has them.  Vast rows are divided
  // even then: Ctrl-C is looked at between tasks.
  template <class Fn>
  void each_part(int threads, Scratch& scratch, const Fn& fn) {
    if (threads > 1 || n_ >= policy::vast)
      each_run(threads, fn);
    else
      fn(std::size_t{0}, blocks_, scratch);
  }

 private:
  Bytes staged_piece(const Source& s, std::size_t first, std::size_t n, Scratch& scratch) const {
    Source given = s;
    given.divisor = 1;
    k_.stage(staging(given, static_cast<std::int64_t>(first), 0), n, scratch.in);
    return scratch.in;
  }
};

}  // namespace vastmax
