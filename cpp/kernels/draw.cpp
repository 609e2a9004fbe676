// SPDX-License-Identifier: Apache-2.0
// Classes at random, and how likely each is.  Plain loops over a few hundred draws: the compiler makes vectors of them.
#include "cpp/kernels/chunks.hpp"
#include "cpp/kernels/fill.hpp"
#include "cpp/math/alias.hpp"
#include "cpp/ops/log_add_exp.hpp"
#include "cpp/ops/log_uniform.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

static void draw_uniform(const Sampler& s, const Draws& draws, std::size_t first, std::size_t n, std::int64_t* ids) {
  const auto classes = static_cast<std::uint64_t>(s.classes);
  each_chunk(first, n, [&](std::size_t from, std::size_t count, std::size_t at) {
    const Halves bits(draws, Purpose::ids, from, count);
    for (std::size_t i = 0; i < count; ++i) ids[at + i] = static_cast<std::int64_t>(multiply_high(bits[i], classes));
  });
}

// x = op(x), a chunk of them
template <class Many, class One>
VM_INLINE void map_chunk(double* x, std::size_t n, const Many& many, const One& one) {
  const auto bytes = reinterpret_cast<OutBytes>(x);
  map_inputs<double, vec<double>>(bytes, n, false, many, one, Input<double>{bytes});
}

static void draw_log_uniform(const Sampler& s, const Draws& draws, std::size_t first, std::size_t n,
                             std::int64_t* ids) {
  const LogUniform<Batch<vec<double>>> many(s.classes);
  const LogUniform<vec<double>> one(s.classes);
  const std::int64_t last = s.classes - 1;
  each_chunk(first, n, [&](std::size_t from, std::size_t count, std::size_t at) {
    const Halves bits(draws, Purpose::ids, from, count);
    alignas(64) double x[chunk];
    for (std::size_t i = 0; i < count; ++i) x[i] = unit(bits[i]);
    map_chunk(x, count, many, one);
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t id = static_cast<std::int64_t>(x[i]) - 1;
      ids[at + i] = id < 0 ? 0 : id < last ? id : last;
    }
  });
}

// A loop for each look into a table, so that many of them are under way at once.
static void draw_unigram(const Sampler& s, const Draws& draws, std::size_t first, std::size_t n, std::int64_t* ids) {
  const Level* const levels = s.levels;
  each_chunk(first, n, [&](std::size_t from, std::size_t count, std::size_t at) {
    std::uint64_t pick[chunk], place[chunk];
    std::uint32_t level[chunk];
    for (std::size_t i = 0; i < count; ++i) {
      const Bits b = random_bits(draws, Purpose::ids, static_cast<std::uint32_t>(from + i));
      pick[i] = b.at[0], place[i] = b.at[1];
    }
    for (std::size_t i = 0; i < count; ++i) level[i] = chosen_level(levels, s.level_count, pick[i]);
    for (std::size_t i = 0; i < count; ++i) ids[at + i] = chosen_position(levels + level[i], place[i]);
    if (s.order != nullptr)
      for (std::size_t i = 0; i < count; ++i) ids[at + i] = s.order[ids[at + i]];
  });
}

static void draw_simple(const Sampler& s, const Draws& draws, std::size_t first, std::size_t n, std::int64_t* ids) {
  if (s.law == Law::uniform)
    draw_uniform(s, draws, first, n, ids);
  else if (s.law == Law::log_uniform)
    draw_log_uniform(s, draws, first, n, ids);
  else
    draw_unigram(s, draws, first, n, ids);
}

// Every part draws, and one of the draws counts.
static void draw_mixture(const Sampler& s, const Draws& draws, std::size_t first, std::size_t n, std::int64_t* ids) {
  each_chunk(first, n, [&](std::size_t from, std::size_t count, std::size_t at) {
    const Halves bits(draws, Purpose::part, from, count);
    std::int64_t drawn[chunk];
    for (std::uint32_t part = 0; part < s.part_count; ++part) {
      draw_simple(s.parts[part], draws, from, count, drawn);
      const bool all = part == 0;
      const std::uint64_t begin = all ? 0 : s.part_ends[part - 1];
      for (std::size_t i = 0; i < count; ++i)
        if (all || bits[i] >= begin) ids[at + i] = drawn[i];
    }
  });
}

static void draw(const Sampler& s, const Draws& draws, std::size_t first, std::size_t n, std::int64_t* ids) {
  if (s.law == Law::mixture)
    draw_mixture(s, draws, first, n, ids);
  else
    draw_simple(s, draws, first, n, ids);
}

template <class V>
struct LogUniformLogQ {
  LogUniform<V> law;
  VM_MEMBER V operator()(V k) const { return law.log_q(k); }
};

static void log_prob_log_uniform(const Sampler& s, const std::int64_t* ids, std::size_t n, double* log_q) {
  const LogUniformLogQ<Batch<vec<double>>> many{LogUniform<Batch<vec<double>>>(s.classes)};
  const LogUniformLogQ<vec<double>> one{LogUniform<vec<double>>(s.classes)};
  each_chunk(0, n, [&](std::size_t, std::size_t count, std::size_t at) {
    alignas(64) double x[chunk];
    for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<double>(ids[at + i]);
    map_chunk(x, count, many, one);
    for (std::size_t i = 0; i < count; ++i) log_q[at + i] = x[i];
  });
}

static void log_prob_simple(const Sampler& s, const std::int64_t* ids, std::size_t n, double* log_q) {
  if (s.law == Law::log_uniform) return log_prob_log_uniform(s, ids, n, log_q);
  if (s.law == Law::uniform) {
    const vec<double> log_classes = log_pair(splat<vec<double>>(static_cast<double>(s.classes)), splat<vec<double>>(0));
    const double same = -Lanes<vec<double>>(log_classes).at[0];
    for (std::size_t i = 0; i < n; ++i) log_q[i] = same;
  } else {
    for (std::size_t i = 0; i < n; ++i) log_q[i] = s.level_log_q[level_of(s, static_cast<std::uint32_t>(ids[i]))];
  }
}

static void log_prob(const Sampler& s, const std::int64_t* ids, std::size_t n, double* log_q) {
  if (s.law != Law::mixture) return log_prob_simple(s, ids, n, log_q);
  using V = vec<double>;
  each_chunk(0, n, [&](std::size_t, std::size_t count, std::size_t at) {
    alignas(64) double sum[chunk], part[chunk];
    for (std::size_t i = 0; i < count; ++i) sum[i] = -Number<double>::infinity;
    for (std::uint32_t k = 0; k < s.part_count; ++k) {
      log_prob_simple(s.parts[k], ids + at, count, part);
      for (std::size_t i = 0; i < count; ++i) part[i] += s.part_log_weight[k];
      map_inputs<double, V>(reinterpret_cast<OutBytes>(sum), count, false, LogAddExp<Batch<V>>(), LogAddExp<V>(),
                            Input<double>{reinterpret_cast<Bytes>(sum)}, Input<double>{reinterpret_cast<Bytes>(part)});
    }
    for (std::size_t i = 0; i < count; ++i) log_q[at + i] = sum[i];
  });
}

// -log(1 - u) / q; inf where q is 0 alone, however small it is elsewhere
template <class V>
struct Clock {
  VM_MEMBER V operator()(V u, V log_q) const {
    constexpr double least = 0x1p-1022, latest = 0x1.fffffffffffffp1023;
    const V never = splat<V>(-Number<double>::infinity), q = ScaledExp<V>(splat<V>(0))(log_q);
    const V time = negate(log_pair(splat<V>(1) - u, splat<V>(0))) / max(q, splat<V>(least));
    return select(log_q == never, splat<V>(Number<double>::infinity), negate(max(negate(time), splat<V>(-latest))));
  }
};

static void clocks(const Sampler& s, const Draws& draws, std::size_t first, std::size_t n, double* times) {
  using V = vec<double>;
  each_chunk(first, n, [&](std::size_t from, std::size_t count, std::size_t at) {
    const Halves bits(draws, Purpose::clock, from, count);
    std::int64_t ids[chunk];
    alignas(64) double u[chunk], log_q[chunk];
    for (std::size_t i = 0; i < count; ++i) ids[i] = static_cast<std::int64_t>(from + i), u[i] = unit(bits[i]);
    log_prob(s, ids, count, log_q);
    map_inputs<double, V>(reinterpret_cast<OutBytes>(times + at), count, false, Clock<Batch<V>>(), Clock<V>(),
                          Input<double>{reinterpret_cast<Bytes>(u)}, Input<double>{reinterpret_cast<Bytes>(log_q)});
  });
}

void fill_draw(Kernels& k) {
  k.draw = draw;
  k.log_prob = log_prob;
  k.clocks = clocks;
}

}  // namespace vastmax::VM_ISA
