// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cpp/host/run/isa.hpp"
#include "cpp/host/run/policy.hpp"
#include "cpp/host/run/threads.hpp"
#include "cpp/math/random.hpp"
#include "vastmax/sampler.hpp"

namespace vastmax {
namespace {

int threads_for(std::size_t count, const Exec& exec) {
  return count < 2 * policy::grain ? 1 : exec.threads > 0 ? exec.threads : get_num_threads();
}

void check(const Draws& draws, std::size_t rows, std::size_t n) {
  constexpr std::uint64_t most_rows = std::uint64_t{1} << 48;
  if (draws.row >= most_rows || rows > most_rows - draws.row) throw std::invalid_argument("draw: rows end at 2^48");
  if (n > std::uint64_t{1} << 32) throw std::invalid_argument("draw: a row has 2^32 draws");
}

// Classes that have been drawn: open addressing, at most half full.
class Seen {
 public:
  explicit Seen(std::size_t most) {
    while (std::size_t{1} << bits_ < 2 * most) ++bits_;
    slots_.assign(std::size_t{1} << bits_, -1);
  }
  bool insert(std::int64_t id) {  // whether it is new
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = static_cast<std::uint64_t>(id) * 0x9e3779b97f4a7c15 >> (64 - bits_);; at = (at + 1) & mask) {
      if (slots_[at] == id) return false;
      if (slots_[at] < 0) {
        slots_[at] = id;
        return true;
      }
    }
  }

 private:
  int bits_ = 4;
  std::vector<std::int64_t> slots_;
};

// When the n-th draw comes: a sum of n exponential times, sixteen to a logarithm.
double arrival(const Kernels& k, const Draws& draws, std::size_t n) {
  double time = 0;
  for (std::size_t i = 0; i < n; i += 16) {
    double product = 1;
    for (std::size_t j = i; j < std::min(n, i + 16); ++j) {
      const Bits bits = random_bits(draws, Purpose::clock, static_cast<std::uint32_t>(j / 2));
      product *= 1 - unit(bits.at[j % 2]);
    }
    time -= k.log(product);
  }
  return time;
}

constexpr std::size_t stretch = 4096;  // draws or classes at a time

bool stopped(std::size_t turn, const Exec& exec) {
  return turn % 256 == 255 && exec.interrupted != nullptr && exec.interrupted();
}

double by_rejection(const Sampler& s, const Draws& draws, std::size_t size, std::int64_t* ids, const Exec& exec) {
  const Kernels& k = kernels(exec);
  Seen seen(size + 1);
  std::vector<std::int64_t> drawn(stretch);
  std::size_t first = 0, found = 0;
  for (std::size_t turn = 0; !stopped(turn, exec); ++turn) {
    const std::size_t n = std::min(stretch, size - found + 16);
    check(draws, 1, first + n);
    k.draw(s, draws, first, n, drawn.data());
    for (std::size_t i = 0; i < n; ++i) {
      if (!seen.insert(drawn[i])) continue;
      if (found == size) return arrival(k, draws, first + i + 1);
      ids[found++] = drawn[i];
    }
    first += n;
  }
  return 0;
}

// The earliest clocks so far, at least `size` of them once there were that many.
class Earliest {
 public:
  explicit Earliest(std::size_t size) : size_(size) {}
  void add(double time, std::int64_t id) {
    if (!(time <= latest_)) return;
    clocks_.emplace_back(time, id);
    if (clocks_.size() < 2 * size_ + stretch) return;
    std::ranges::nth_element(clocks_, clocks_.begin() + static_cast<std::ptrdiff_t>(size_ - 1));
    clocks_.resize(size_);
    latest_ = clocks_.back().first;
  }
  const std::vector<std::pair<double, std::int64_t>>& sorted() {
    std::ranges::sort(clocks_);
    return clocks_;
  }

 private:
  std::size_t size_;
  double latest_ = std::numeric_limits<double>::max();  // a class that is never drawn comes later
  std::vector<std::pair<double, std::int64_t>> clocks_;
};

double by_clocks(const Sampler& s, const Draws& draws, std::size_t size, std::int64_t* ids, const Exec& exec) {
  const Kernels& k = kernels(exec);
  const auto classes = static_cast<std::size_t>(s.classes);
  check(draws, 1, classes / 2);
  Earliest earliest(size + 1);
  std::vector<double> times(stretch);
  for (std::size_t first = 0; first < classes; first += stretch) {
    if (stopped(first / stretch, exec)) return 0;
    const std::size_t n = std::min(stretch, classes - first);
    k.clocks(s, draws, first, n, times.data());
    for (std::size_t i = 0; i < n; ++i) earliest.add(times[i], static_cast<std::int64_t>(first + i));
  }
  const auto& clocks = earliest.sorted();
  if (clocks.size() < size) throw std::logic_error("draw: fewer classes have a clock than can be drawn");
  for (std::size_t i = 0; i < size; ++i) ids[i] = clocks[i].second;
  return clocks.size() > size ? clocks[size].first : std::numeric_limits<double>::infinity();
}

}  // namespace

void draw_rows(const Sampler& s, const Draws& draws, std::size_t rows, std::size_t n, std::int64_t* ids,
               const Exec& exec) {
  check(draws, rows, n);
  if (rows == 0 || n == 0) return;
  const Kernels& k = kernels(exec);
  // A task is a stretch of one row, or several rows.
  const std::size_t pieces = (n + policy::grain - 1) / policy::grain, run = std::max<std::size_t>(1, policy::grain / n);
  parallel((rows + run - 1) / run * pieces, threads_for(rows * n, exec), exec, Task([&](std::size_t task) {
             const KernelScope scope;
             const std::size_t row = task / pieces * run, first = task % pieces * policy::grain;
             for (std::size_t r = row; r < std::min(rows, row + run); ++r)
               k.draw(s, {draws.seed, draws.step, draws.row + r}, first, std::min(policy::grain, n - first),
                      ids + r * n + first);
           }));
}

double draw_unique(const Sampler& s, const Draws& draws, std::size_t size, Unique how, std::int64_t* ids,
                   const Exec& exec) {
  if (size > static_cast<std::size_t>(s.drawable))
    throw std::invalid_argument("draw: " + std::to_string(size) + " different classes of " +
                                std::to_string(s.drawable) + " that can be drawn");
  check(draws, 1, size);
  const KernelScope scope;
  const bool all = size == static_cast<std::size_t>(s.drawable);  // rejection would look for one more for ever
  return how == Unique::clocks || all ? by_clocks(s, draws, size, ids, exec) : by_rejection(s, draws, size, ids, exec);
}

void log_prob(const Sampler& s, std::span<const std::int64_t> ids, double* log_q, const Exec& exec) {
  for (const std::int64_t id : ids)
    if (id < 0 || id >= s.classes)
      throw std::invalid_argument("log_prob: class " + std::to_string(id) + " of " + std::to_string(s.classes));
  const Kernels& k = kernels(exec);
  parallel((ids.size() + policy::grain - 1) / policy::grain, threads_for(ids.size(), exec), exec,
           Task([&](std::size_t task) {
             const KernelScope scope;
             const std::size_t first = task * policy::grain;
             k.log_prob(s, ids.data() + first, std::min(policy::grain, ids.size() - first), log_q + first);
           }));
}

}  // namespace vastmax
