// SPDX-License-Identifier: Apache-2.0
// Classes at random, and how likely each is: a thread for each, with the ids of the CPU.
#include "cpp/math/alias.hpp"
#include "cpp/ops/log_add_exp.hpp"
#include "cpp/ops/log_uniform.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 256;
using Lane = vec<double>;

// Two draws to a block of the generator.
VM_INLINE std::uint64_t bits_of(const Draws& draws, Purpose purpose, std::uint64_t draw) {
  const Bits bits = random_bits(draws, purpose, static_cast<std::uint32_t>(draw / 2));
  return draw % 2 == 0 ? bits.at[0] : bits.at[1];  // an index would put them into local memory
}

VM_INLINE std::int64_t draw_simple(const Sampler& s, const LogUniform<Lane>& log_uniform, const Draws& draws,
                                   std::uint64_t draw) {
  if (s.law == Law::uniform)
    return static_cast<std::int64_t>(
        multiply_high(bits_of(draws, Purpose::ids, draw), static_cast<std::uint64_t>(s.classes)));
  if (s.law == Law::log_uniform) {
    const double x = log_uniform(splat<Lane>(unit(bits_of(draws, Purpose::ids, draw)))).piece[0].v;
    const std::int64_t id = static_cast<std::int64_t>(x) - 1, last = s.classes - 1;
    return id < 0 ? 0 : id < last ? id : last;
  }
  const Bits bits = random_bits(draws, Purpose::ids, static_cast<std::uint32_t>(draw));
  const std::uint32_t level = chosen_level(s.levels, s.level_count, bits.at[0]);
  const std::int64_t position = chosen_position(s.levels + level, bits.at[1]);
  return s.order != nullptr ? s.order[position] : position;
}

VM_KERNEL(block_threads, 4)
draw_kernel(DrawOperands d) {
  const LogUniform<Lane> log_uniform(d.sampler.classes);
  const std::int64_t count = d.rows * d.n;
  for (std::int64_t i = global_thread(); i < count; i += global_threads()) {
    const Draws draws{d.draws.seed, d.draws.step, d.draws.row + static_cast<std::uint64_t>(i / d.n)};
    const auto draw = static_cast<std::uint64_t>(i % d.n);
    std::uint32_t part = 0;
    if (d.sampler.law == Law::mixture) {
      const std::uint64_t bits = bits_of(draws, Purpose::part, draw);
      while (part + 1 < d.sampler.part_count && bits >= d.sampler.part_ends[part]) ++part;
    }
    const Sampler& s = d.sampler.law == Law::mixture ? d.sampler.parts[part] : d.sampler;
    d.ids[i] = draw_simple(s, log_uniform, draws, draw);
  }
}

VM_INLINE double log_q_simple(const Sampler& s, const LogUniform<Lane>& log_uniform, std::int64_t id) {
  if (s.law == Law::unigram) return s.level_log_q[level_of(s, static_cast<std::uint32_t>(id))];
  if (s.law == Law::log_uniform) return log_uniform.log_q(splat<Lane>(static_cast<double>(id))).piece[0].v;
  return 0.0 - log_pair(splat<Lane>(static_cast<double>(s.classes)), splat<Lane>(0)).piece[0].v;
}

VM_KERNEL(block_threads, 4)
log_prob_kernel(Sampler s, const std::int64_t* ids, std::int64_t n, double* log_q) {
  const LogUniform<Lane> log_uniform(s.classes);
  for (std::int64_t i = global_thread(); i < n; i += global_threads()) {
    if (s.law != Law::mixture) {
      log_q[i] = log_q_simple(s, log_uniform, ids[i]);
      continue;
    }
    Lane sum = splat<Lane>(-Number<double>::infinity);
    for (std::uint32_t part = 0; part < s.part_count; ++part)
      sum = LogAddExp<Lane>()(sum,
                              splat<Lane>(log_q_simple(s.parts[part], log_uniform, ids[i]) + s.part_log_weight[part]));
    log_q[i] = sum.piece[0].v;
  }
}

void draw(const DrawOperands& d, const Stream& stream) {
  launch(draw_kernel, grid_for(d.rows * d.n, block_threads, block_threads, stream), stream, d);
}

void log_prob(const Sampler& s, const std::int64_t* ids, std::int64_t n, double* log_q, const Stream& stream) {
  launch(log_prob_kernel, grid_for(n, block_threads, block_threads, stream), stream, s, ids, n, log_q);
}

}  // namespace vastmax::VM_ISA
