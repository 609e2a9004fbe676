// SPDX-License-Identifier: Apache-2.0
// Rows of a table of classes by number: gathered, summed in groups, updated.
#include <array>
#include <cmath>
#include <vector>

#include "cpp/host/table/class_rows.hpp"

namespace vastmax {
namespace {

class Gather : ClassRows {
 public:
  using ClassRows::ClassRows;
  void run(std::span<const std::int64_t> ids, OutBytes to) const {
    spread(ids.size(), features(), [&](std::size_t i) {
      if (i + ahead() < ids.size()) prefetch(ids[i + ahead()]);
      k_.copy_row(at(ids[i]), features(), to + i * width());
    });
  }
};

class Update : ClassRows {
 public:
  using ClassRows::ClassRows;
  void run(std::span<const std::int64_t> ids, Bytes changes, double rate, double* state, double eps) const {
    const DTypeKernels& staged = of(all_, table_.dtype == DType::float64 ? DType::float64 : DType::float32);
    spread(ids.size(), features(), [&](std::size_t i) {
      if (i + ahead() < ids.size()) prefetch(ids[i + ahead()]);
      const Bytes change = changes + i * width();
      double step = rate;
      if (state != nullptr) {
        double& total = state[ids[i]];
        total += staged.dot_row(change, change, features()) / static_cast<double>(features());
        step /= std::sqrt(total) + eps;
      }
      k_.subtract_row(change, step, features(), at(ids[i]));
    });
  }
};

class Groups : ClassRows {
 public:
  using ClassRows::ClassRows;
  void run(const Entries& first, const Entries& second, const std::int64_t* order, std::span<const std::int64_t> starts,
           OutBytes sums) const {
    spread(starts.size() - 1, 2 * features(), [&](std::size_t g) {
      OutBytes const sum = sums + g * width();
      std::memset(sum, 0, width());
      for (auto at = starts[g]; at < starts[g + 1]; ++at) {
        if (const auto later = at + static_cast<std::int64_t>(ahead()); later < starts.back())
          fetch(row_of(first, second, static_cast<std::size_t>(order[later])));
        const auto e = static_cast<std::size_t>(order[at]);
        const Entries& from = e < first.count ? first : second;
        const std::size_t i = e < first.count ? e : e - first.count;
        const double by = from.coefficients == nullptr ? 1 : load_staged(from.coefficients + i * item(), table_.dtype);
        k_.add_row(row_of(first, second, e), by, features(), sum);
      }
    });
  }

 private:
  Bytes row_of(const Entries& first, const Entries& second, std::size_t e) const {
    const Entries& from = e < first.count ? first : second;
    const std::size_t i = e < first.count ? e : e - first.count;
    return from.rows + (from.numbers != nullptr ? static_cast<std::size_t>(from.numbers[i]) : i / from.width) * width();
  }
};

}  // namespace

void gather_rows(const ClassTable& table, std::span<const std::int64_t> ids, std::byte* to, const Exec& exec) {
  Gather(table, exec).run(ids, to);
}

void update_rows(const ClassTable& table, std::span<const std::int64_t> ids, const std::byte* changes, double rate,
                 double* state, double eps, const Exec& exec) {
  Update(table, exec).run(ids, changes, rate, state, eps);
}

void sum_groups(DType staged, std::size_t features, const Entries& first, const Entries& second,
                const std::int64_t* order, std::span<const std::int64_t> starts, std::byte* sums, const Exec& exec) {
  const ClassTable table{nullptr, staged, 0, 0, features};
  Groups(table, exec).run(first, second, order, starts, sums);
}

// Radix sort, least digit first: as many passes as the number of classes has digits of 11 bits.
void sort_ids(std::span<const std::int64_t> ids, std::int64_t classes, std::int64_t* order) {
  constexpr int bits = 11;
  constexpr std::size_t buckets = std::size_t{1} << bits;
  struct Entry {
    std::int64_t id, at;
  };
  std::vector<Entry> from(ids.size()), to(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) from[i] = {ids[i], static_cast<std::int64_t>(i)};
  for (int shift = 0; shift < 63 && (classes - 1) >> shift != 0; shift += bits) {
    const auto digit = [shift](std::int64_t id) { return static_cast<std::size_t>(id >> shift) % buckets; };
    std::array<std::size_t, buckets> start{};
    for (const Entry& e : from) ++start[digit(e.id)];
    std::size_t sum = 0;
    for (std::size_t& s : start) sum += std::exchange(s, sum);
    for (const Entry& e : from) to[start[digit(e.id)]++] = e;
    from.swap(to);
  }
  for (std::size_t i = 0; i < from.size(); ++i) order[i] = from[i].at;
}

}  // namespace vastmax
