// SPDX-License-Identifier: Apache-2.0
// Philox gives what Random123 gives, a kernel's draws do not depend on where it begins, and unique ones are distinct.
#include "cpp/math/random.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cpp/host/run/isa.hpp"
#include "cpp/host/run/threads.hpp"
#include "vastmax/sampler.hpp"

namespace vastmax {
namespace {

bool philox_is_that_of_random123() {
  struct Known {
    Words counter;
    std::uint64_t key;
    Words want;
  };
  constexpr Known known[] = {
      {{{0, 0, 0, 0}}, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{~0u, ~0u, ~0u, ~0u}}, ~std::uint64_t{0}, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       0x299f31d0a4093822,
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const Known& k : known)
    if (const Words got = philox(k.counter, k.key); std::memcmp(&got, &k.want, sizeof got) != 0) return false;
  return true;
}

bool multiply_high_is_exact() {
  for (std::uint32_t i = 0; i < 10000; ++i) {
    const Bits b = random_bits({.seed = 1}, Purpose::ids, i);
    const std::uint64_t factor = b.at[1] >> i % 64;
    if (multiply_high(b.at[0], factor) !=
        static_cast<std::uint64_t>(static_cast<unsigned __int128>(b.at[0]) * factor >> 64))
      return false;
  }
  return true;
}

// Every instruction set, from every beginning, has the ids that one call of scalar code has.
bool same_ids(const Sampler& s) {
  constexpr std::size_t n = 1100;
  const Draws draws{.seed = 0x0123456789abcdef, .step = 7, .row = (std::uint64_t{1} << 40) + 3};
  std::vector<std::int64_t> want(n), got(n);
  std::vector<double> log_q(n), other(n), times(n), other_times(n);
  const Kernels& scalar = kernels({.isa = 0});
  const KernelScope scope;
  scalar.draw(s, draws, 0, n, want.data());
  scalar.log_prob(s, want.data(), n, log_q.data());
  const std::size_t classes = std::min<std::size_t>(n, static_cast<std::size_t>(s.classes));
  scalar.clocks(s, draws, 0, classes, times.data());
  for (int isa = 0; isa < static_cast<int>(isas().size()); ++isa) {
    if (!runnable(isas()[static_cast<std::size_t>(isa)])) continue;
    const Kernels& k = kernels({.isa = isa});
    for (std::size_t first : {0, 1, 2, 5, 255, 256, 257, 511, 1099})
      for (std::size_t count : {1, 2, 3, 8, 17, 255, 256, 257, 600}) {
        if (first + count > n) continue;
        k.draw(s, draws, first, count, got.data());
        if (std::memcmp(got.data(), want.data() + first, count * sizeof(std::int64_t)) != 0) return false;
        k.log_prob(s, got.data(), count, other.data());
        if (std::memcmp(other.data(), log_q.data() + first, count * sizeof(double)) != 0) return false;
        if (first + count > classes) continue;
        k.clocks(s, draws, first, count, other_times.data());
        if (std::memcmp(other_times.data(), times.data() + first, count * sizeof(double)) != 0) return false;
      }
  }
  return true;
}

// No class twice, the first ones of the stream, and an exact end.
bool unique(const Sampler& s, std::size_t size, Unique how) {
  std::vector<std::int64_t> ids(size), stream(20000);
  draw_unique(s, {.seed = 3}, size, how, ids.data(), {.threads = 2});
  draw_rows(s, {.seed = 3}, 1, stream.size(), stream.data(), {.threads = 2});
  std::vector<std::int64_t> sorted = ids, first;
  std::ranges::sort(sorted);
  if (std::ranges::adjacent_find(sorted) != sorted.end()) return false;
  for (std::size_t i = 0; i < stream.size() && first.size() < size; ++i)
    if (std::ranges::find(first, stream[i]) == first.end()) first.push_back(stream[i]);
  return how == Unique::clocks || first == ids;
}

bool same(const Sampler& s) {
  const std::size_t few = std::min<std::size_t>(s.drawable < 4 ? 1 : 100, static_cast<std::size_t>(s.drawable));
  if (s.drawable <= 5000 &&
      !(unique(s, few, Unique::clocks) && unique(s, static_cast<std::size_t>(s.drawable), Unique::clocks)))
    return false;
  return same_ids(s) && unique(s, few, Unique::rejection);
}

bool every_law() {
  std::vector<double> counts(5000);
  for (std::size_t i = 0; i < counts.size(); ++i) counts[i] = static_cast<double>(i * 7919 % 97);
  const SharedSampler unigram = unigram_sampler(counts, 0.75), uniform = uniform_sampler(5000);
  const SharedSampler parts[] = {unigram, uniform, log_uniform_sampler(5000)};
  const double weights[] = {1, 2, 0.5};
  return same(*uniform) && same(*uniform_sampler(3)) && same(*uniform_sampler(most_classes)) &&
         same(*log_uniform_sampler(1)) && same(*log_uniform_sampler(100000000)) &&
         same(*log_uniform_sampler(most_classes)) && same(*unigram) && same(*mixture_sampler(parts, weights));
}

}  // namespace
}  // namespace vastmax

int main() {
  if (!vastmax::philox_is_that_of_random123()) return std::puts("Philox is not that of Random123"), 1;
  if (!vastmax::multiply_high_is_exact()) return std::puts("multiply_high is wrong"), 1;
  if (!vastmax::every_law()) return std::puts("draws depend on the instruction set or on where they begin"), 1;
  return 0;
}
