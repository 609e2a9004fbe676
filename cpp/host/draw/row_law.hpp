// SPDX-License-Identifier: Apache-2.0
// The probabilities of a row, ready for draws: what filters leave of e^((z - max) / T), and the inverse of its
// distribution function, classes in index order.
//
// One read leaves the sums of blocks and, lane by lane, of their stretches; a draw then makes the terms of one stretch
// again.  Filters cut the row first, and what they keep of it is a list or is read once more.
#pragma once

#include <atomic>
#include <mutex>
#include <numeric>
#include <optional>

#include "cpp/host/draw/inverse.hpp"
#include "cpp/host/select/cuts.hpp"

namespace vastmax {

class RowLaw : protected CutRun {
 public:
  RowLaw(DType dtype, std::span<const std::int64_t> shape, const Exec& exec)
      : CutRun(dtype, shape, exec), stretches_(block_ / stretch_length) {}

 protected:
  struct Row {
    Filter filter;
    double temperature;
    bool filtered;
    bool pending;                 // the cut is not made yet, and the law is that without the filter
    Kept kept;                    // by the filter
    std::vector<double> largest;  // of each block, where there is a filter

    std::vector<Partial> parts;  // of the blocks; max: the largest logit of any size; terms: see `tempered`
    std::unique_ptr<std::byte[]> lanes;
    double total;              // over the largest term, where the blocks have been read without the filter; else 0
    std::vector<double> ends;  // running sums over the blocks or the list, in one unit
    bool summed;               // by the filter; what blocks have left is not in `parts`
    double max;
    std::size_t where;  // the block that holds it, or its place in the list
    bool valid;         // something can be drawn

    // Terms are e^((z - max) / T) with the block's largest; else those of NormRun::norm_block.
    bool tempered() const { return (temperature != 1 && temperature != 0) || cut(); }
    bool cut() const { return filtered && kept.cut.least > -infinity; }
    bool listed() const { return filtered && kept.listed; }
    // Only the first class that has the largest logit is ever drawn.
    bool certain() const { return max == infinity || temperature == 0; }
  };

  Row empty_row() const {
    Row row;
    row.parts.resize(blocks_);
    row.lanes = std::make_unique_for_overwrite<std::byte[]>(blocks_ * stretches_ * lanes_bytes);
    return row;
  }

  // Reads a row whose filter and temperature are set, and whether the cut may wait.  `more`: another one follows; `max`
  // is NAN, or what the last call left.
  void read(const Source& s, Row& row, bool more, double& max, int threads, Scratch& scratch) {
    const Filter& f = row.filter;
    const bool count = f.counts(static_cast<std::int64_t>(n_)), mass = f.top_p < 1;
    row.filtered = row.temperature != 0 && (count || mass || f.min_p > 0);
    row.kept.cut = {}, row.kept.listed = row.summed = false;
    row.total = 0;
    if (!row.filtered || (mass && !count)) {  // who looks for a mass wants to know it all
      read_blocks(s, row, more, max, threads, scratch);
      if (interrupted_) return;
      weigh(row);
      if (row.filtered && row.valid && !row.certain()) row.total = row.ends.back() / largest_term(row);
    } else {
      max = NAN;
      maxima(s, block_, threads, row.largest, scratch);
      find_largest(row);
    }
    const bool cuts = row.filtered && row.valid && !row.certain();
    row.pending &= cuts;
    if (cuts && !row.pending) cut_row(s, row, threads, scratch);
  }

  // Makes the cut: the law is that of what the filter keeps.
  void cut_row(const Source& s, Row& row, int threads, Scratch& scratch) {
    row.pending = false;
    if (row.total > 0) {
      row.largest.resize(blocks_);
      for (std::size_t b = 0; b < blocks_; ++b) row.largest[b] = row.parts[b].max;
    }
    find(s, row.filter, row.temperature, row.largest, threads, row.kept, scratch, row.total);
    if (interrupted_ || (row.total > 0 && !row.cut())) return;
    row.summed = sums_tell(row);
    if (row.summed) return;
    if (!row.listed() && row.cut()) list_few(s, row, threads, scratch);
    if (row.listed()) return weigh_list(row);
    double max = NAN;
    read_blocks(s, row, false, max, threads, scratch);
    if (!interrupted_) weigh(row);
  }

  // Whether a pending cut will keep a class, by the mass of those before it in the order; nothing if it takes better
  // sums to tell.
  std::optional<bool> keeps(const Source& s, const Row& row, std::int64_t id, int threads, Scratch& scratch) {
    const double z = logit(s, id), after = Top::next_above(dtype_, z);
    if (row.filter.min_p > 0 && z < least_of(row.max, row.filter.min_p, row.temperature)) return false;
    const auto at = static_cast<std::size_t>(id);
    const double rate = 1 / row.temperature;
    std::mutex mutex;
    double before = 0;  // in any order of the parts: the bound holds for all
    each_part(threads, scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      double sum = 0;
      for (std::size_t b = first; b < last; ++b) {
        const Partial& part = row.parts[b];
        if (part.max < z) continue;
        const std::size_t start = b * block_, end = start + length(b), middle = std::clamp(at, start, end);
        const double unit = math().exp_difference(gap(row, part.max));
        if (middle > start) sum += unit * mass_about(s, start, middle - start, part.max, rate, z, own);
        if (end > middle) sum += unit * mass_about(s, middle, end - middle, part.max, rate, after, own);
      }
      const std::lock_guard lock(mutex);
      before += sum;
    });
    const double share = before / (row.filter.top_p * row.total);
    if (std::abs(share - 1) > about) return share < 1;
    return std::nullopt;
  }

  static double gap(const Row& row, double z) {  // (z - max) / T, 0 for any z where T is inf
    if (row.temperature == infinity) return z == -infinity ? z : 0;
    return (z - row.max) / row.temperature;
  }

  // log of the sum over the largest term
  double log_mass(const Source& s, const Row& row, Scratch& scratch) const {
    const double one = largest_term(row), sum = row.ends.back();
    if (sum > 1.75 * one) return math().log1p((sum - one) / one);
    TwoSum others;
    if (row.listed()) {
      for (std::size_t i = 0; i < row.ends.size(); ++i)
        if (i != row.where) others.add(row.ends[i] - (i == 0 ? 0 : row.ends[i - 1]));
      return math().log1p(others.value() / one);
    }
    for (std::size_t b = 0; b < blocks_; ++b)
      if (b != row.where) others.add(weight(row, row.parts[b]));
    const std::size_t n = length(row.where);
    const Terms terms = logits(s, row, row.where * block_, n, row.max, scratch);
    if (!terms.staged) stage(s, row.where, 0, scratch.in);
    others.add(k_.rest(scratch.in, n, row.tempered() || shifted(row.max) ? 0 : row.max, row.parts[row.where].ref));
    return math().log1p(others.value() / one);
  }

  // Draws that fall into one block: which they are, and how far into it.
  static constexpr std::size_t handful = 256;
  struct Fallen {
    std::size_t count = 0;
    std::uint32_t draw[handful];
    double share[handful];
  };
  void resolve(const Source& s, const Row& row, std::size_t block, const Fallen& fallen, std::int64_t* ids,
               Scratch& scratch) const {
    const Partial part = row.summed ? kept_block(s, row, block, scratch) : row.parts[block];
    const std::size_t parts = (length(block) + stretch_length - 1) / stretch_length;
    double ends[most_stretches], sum = 0;
    for (std::size_t k = 0; k < parts; ++k) ends[k] = sum += k_.stretch_sum(lanes(row, block) + k * lanes_bytes);
    Place places[handful];
    for (std::size_t i = 0; i < fallen.count; ++i) places[i] = place({ends, parts}, fallen.share[i]);
    for (std::size_t k = 0; k < parts; ++k) {
      double shares[handful];
      std::uint32_t draws[handful], found[handful];
      std::size_t count = 0;
      for (std::size_t i = 0; i < fallen.count; ++i)
        if (places[i].part == k) draws[count] = fallen.draw[i], shares[count++] = places[i].share;
      if (count == 0) continue;
      const std::size_t start = block * block_ + k * stretch_length, n = std::min(stretch_length, n_ - start);
      const Terms terms = logits(s, row, start, n, part.max, scratch);
      k_.find_shares[terms.staged](terms.x, n, part.ref, shares, count, found);
      for (std::size_t i = 0; i < count; ++i)
        ids[draws[i]] = static_cast<std::int64_t>(start + std::min<std::size_t>(found[i], n - 1));
    }
  }

  std::int64_t first_largest(const Source& s, const Row& row, Scratch& scratch) const {
    std::int64_t found = -1;
    for (std::size_t b = row.where; b < blocks_ && found < 0; ++b) {
      Marks marks;
      each_marked(piece(s, b * block_, length(b), scratch), length(b), row.max, marks, [&](std::size_t i) {
        if (found < 0) found = static_cast<std::int64_t>(b * block_ + i);
      });
    }
    return found;
  }

 private:
  // Twice what mass_about and a normaliser of float32 terms may be off by.
  static constexpr double about = 0x1p-10;
  static constexpr std::size_t lanes_bytes = 64;  // of a stretch
  static constexpr std::size_t most_stretches = block_length(DType::float32) / stretch_length;

  std::byte* lanes(const Row& row, std::size_t block) const {
    return row.lanes.get() + block * stretches_ * lanes_bytes;
  }

  void find_largest(Row& row) const {
    row.max = -infinity, row.where = 0, row.valid = !interrupted_;
    for (std::size_t b = 0; b < blocks_; ++b) {
      row.valid &= !std::isnan(row.largest[b]);
      if (row.largest[b] > row.max) row.max = row.largest[b], row.where = b;
    }
    row.valid &= row.max > -infinity;
  }

  double mass_about(const Source& s, std::size_t start, std::size_t n, double max, double rate, double limit,
                    Scratch& scratch) const {
    const Piece p = piece(s, start, n, scratch);
    return k_.mass_about[p.staged](p.x, n, max, rate, limit);
  }

  // Whether the filter's sums of the blocks are all that is to be known: next to one class that has most of the mass,
  // they say too little of the others.
  static bool sums_tell(Row& row) {
    const std::vector<double>& sums = row.kept.sums;
    if (std::accumulate(sums.begin(), sums.end(), 0.0) <= 1.75 * mass_unit) return false;
    row.ends.resize(sums.size());
    std::inclusive_scan(sums.begin(), sums.end(), row.ends.begin());
    return true;
  }
  // Lists what is kept unless it is more than a few.
  void list_few(const Source& s, Row& row, int threads, Scratch& scratch) {
    const std::size_t most = std::max<std::size_t>(64, n_ / 64);
    std::atomic<std::size_t> count = 0;
    std::mutex mutex;
    std::vector<Entry>& entries = row.kept.entries;
    entries.clear();
    each_part(threads, scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      std::vector<Entry> found;
      for (std::size_t b = first; b < last && count <= most; ++b) {
        if (row.largest[b] < row.kept.cut.least) continue;
        const std::size_t before = found.size();
        const Piece p = piece(s, b * block_, length(b), own);
        Marks marks;
        each_marked(p, length(b), row.kept.cut.least, marks, [&](std::size_t i) {
          const Entry e{number(p, i), static_cast<std::int64_t>(b * block_ + i)};
          if (row.kept.cut.keeps(e.value, e.index)) found.push_back(e);
        });
        count += found.size() - before;
      }
      const std::lock_guard lock(mutex);
      entries.insert(entries.end(), found.begin(), found.end());
    });
    row.kept.listed = count <= most && !interrupted_;
    if (row.kept.listed && threads > 1)
      std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.index < b.index; });
  }

  // Logits [start, start + n) as the row's terms see them; base: the largest of their block.
  struct Terms {
    Bytes x;
    bool staged;
  };
  Terms logits(const Source& s, const Row& row, std::size_t start, std::size_t n, double base, Scratch& scratch) const {
    if (row.tempered()) {
      const Piece p = row.cut() ? what_is_kept(s, row.kept.cut, start, n, scratch) : piece(s, start, n, scratch);
      k_.temper[p.staged](p.x, n, base, 1 / row.temperature, scratch.in);
    } else if (plain() && !shifted(base)) {
      return {s.x + static_cast<std::int64_t>(start) * x_.step, false};
    } else {
      k_.stage(staging(s, static_cast<std::int64_t>(start), shifted(base) ? base : 0), n, scratch.in);
    }
    return {scratch.in, true};
  }
  Piece what_is_kept(const Source& s, const Cut& cut, std::size_t start, std::size_t n, Scratch& scratch) const {
    const DTypeKernels& k = of(all_, reduced(dtype_));
    const auto first = static_cast<std::int64_t>(start), count = static_cast<std::int64_t>(n);
    const auto ties = static_cast<std::size_t>(std::clamp<std::int64_t>(cut.last - first, -1, count - 1) + 1);
    const Bytes x = numbers(s, start, n, scratch);
    const std::size_t skip = ties * compute_size(dtype_);
    k.keep_from[0](x, ties, cut.least, scratch.in, false);
    k.keep_from[0](x + skip, n - ties, Top::next_above(dtype_, cut.least), scratch.in + skip, false);
    return {scratch.in, true};
  }

  void read_blocks(const Source& s, Row& row, bool more, double& max, int threads, Scratch& scratch) {
    each_part(threads, scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      double found = first == 0 ? max : NAN;
      for (std::size_t b = first; b < last; ++b) {
        if (row.cut()) {
          row.parts[b] = row.largest[b] < row.kept.cut.least ? Partial{-infinity, 0, 0, 0} : kept_block(s, row, b, own);
          continue;
        }
        const Bytes next = b + 1 < last || blocks_ == 1 ? ahead(s, b, more && !row.filtered) : nullptr;
        bool seen = false;
        row.parts[b] = row.tempered() ? tempered_block(s, row, b, next, found, own)
                                      : norm_block(s, b, next, found, own, seen, nullptr, lanes(row, b));
      }
      if (threads == 1) max = found;
    });
  }
  // As norm_block, of logits less the block's largest, over the temperature.
  Partial tempered_block(const Source& s, const Row& row, std::size_t block, Bytes ahead, double& max,
                         Scratch& scratch) const {
    const std::size_t n = length(block);
    const Piece p = piece(s, block * block_, n, scratch);
    double largest = max == max ? max : k_.block_max[p.staged](p.x, n);
    max = NAN;
    Partial part;
    if (!std::isfinite(largest)) {  // a look for NaN
      k_.norm[0][p.staged](p.x, n, nullptr, largest, part);
      return part;
    }
    k_.temper[p.staged](p.x, n, largest, 1 / row.temperature, scratch.in);
    max = 0;
    k_.norm_stretches[1](scratch.in, n, x_.item == compute_size(dtype_) ? ahead : nullptr, max, part,
                         lanes(row, block));
    part.max = largest;
    return part;
  }
  Partial kept_block(const Source& s, const Row& row, std::size_t block, Scratch& scratch) const {
    Partial part;
    double zero = 0;
    logits(s, row, block * block_, length(block), row.largest[block], scratch);
    k_.norm_stretches[1](scratch.in, length(block), nullptr, zero, part, lanes(row, block));
    part.max = row.largest[block];
    return part;
  }

  double largest_term(const Row& row) const {
    if (row.listed() || row.summed) return mass_unit;
    return math().exp_scaled(row.tempered() || shifted(row.max) ? 0 : row.max, row.parts[row.where].ref);
  }
  double weight(const Row& row, const Partial& part) const {
    if (part.max == -infinity) return 0;
    const double sum = part.sum + part.lost;
    return row.tempered() ? sum * math().exp_difference(gap(row, part.max))
                          : sum * ratio(math(), part, row.parts[row.where]);
  }
  void weigh(Row& row) const {
    row.max = -infinity, row.where = 0, row.valid = true;
    for (std::size_t b = 0; b < blocks_; ++b) {
      row.valid &= row.parts[b].sum == row.parts[b].sum;
      if (row.parts[b].max > row.max) row.max = row.parts[b].max, row.where = b;
    }
    row.valid &= row.max > -infinity;
    if (!row.valid || row.certain()) return;
    row.ends.resize(blocks_);
    double sum = 0;
    for (std::size_t b = 0; b < blocks_; ++b) row.ends[b] = sum += weight(row, row.parts[b]);
  }
  void weigh_list(Row& row) const {
    std::vector<Entry>& entries = row.kept.entries;
    std::erase_if(entries, [](const Entry& e) { return e.value == -infinity; });
    std::vector<std::byte> numbers(entries.size() * compute_size(dtype_));
    for (std::size_t i = 0; i < entries.size(); ++i)
      store_number(numbers.data() + i * compute_size(dtype_), reduced(dtype_), entries[i].value);
    row.ends.assign(entries.size(), mass_unit);
    if (row.temperature < infinity)
      k_.masses(numbers.data(), entries.size(), row.max,
                std::min(1 / row.temperature, std::numeric_limits<double>::max()), row.ends.data());
    double sum = 0;
    for (double& end : row.ends) end = sum += end;
    const auto top = std::max_element(entries.begin(), entries.end(),
                                      [](const Entry& a, const Entry& b) { return a.value < b.value; });
    row.where = static_cast<std::size_t>(top - entries.begin());
    row.valid = !entries.empty();  // unless somebody else writes the logits meanwhile
  }

  static constexpr double mass_unit = 0x1p62;
  const std::size_t stretches_;  // of a block
};

}  // namespace vastmax
