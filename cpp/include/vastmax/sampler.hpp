// SPDX-License-Identifier: Apache-2.0
// Classes drawn at random, as the negatives of a sampled softmax are.  A Sampler is plain data: a law, and pointers to
// what it knows of the classes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vastmax/vastmax.hpp"

namespace vastmax {

enum class Law : std::uint8_t { uniform, log_uniform, unigram, mixture };

inline constexpr std::int64_t most_classes = std::int64_t{1} << 40;  // up to there 53 bits reach every class

// Classes of one weight, at positions [first, first of the next level); and a bucket of an alias table: this level
// below the threshold, else the other.
struct Level {
  std::uint64_t threshold;
  std::uint32_t other, first;
};

struct Sampler {
  Law law;
  std::int64_t classes, drawable;  // drawable: those with q > 0

  // unigram
  std::uint32_t level_count = 0;
  const Level* levels = nullptr;            // and one more, whose `first` is the end
  const double* level_log_q = nullptr;      // of one class of each
  const double* level_counts = nullptr;     // as they were given
  const std::uint32_t* order = nullptr;     // the class at a position; null where classes are in the order of levels
  const std::uint32_t* level_of = nullptr;  // the level of a class; null with `order`

  // mixture
  std::uint32_t part_count = 0;
  const Sampler* parts = nullptr;            // of as many classes each; none is a mixture
  const std::uint64_t* part_ends = nullptr;  // cumulated weights in units of 2^-64, all but the last
  const double* part_log_weight = nullptr;
};

using SharedSampler = std::shared_ptr<const Sampler>;  // owns what it points at
SharedSampler uniform_sampler(std::int64_t classes);
SharedSampler log_uniform_sampler(std::int64_t classes);
SharedSampler unigram_sampler(std::span<const double> counts, double power);  // q ~ count^power; below 2^32 classes
SharedSampler mixture_sampler(std::span<const SharedSampler> parts, std::span<const double> weights);

// Whose draws: the same seed, step and row give the same ids, whoever asks.
struct Draws {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint64_t row = 0;  // below 2^48
};

// ids [rows, n]: the first n draws, below 2^32, of rows draws.row, draws.row + 1, ...
void draw_rows(const Sampler&, const Draws&, std::size_t rows, std::size_t n, std::int64_t* ids, const Exec& = {});

// The first `size` distinct classes that are drawn, if draws come at rate 1; returns when the next one would come, inf
// if there is none.  Rejection draws until then, with the draws of draw_rows; clocks look at every class instead, with
// the same law but other ids.
enum class Unique : std::uint8_t { rejection, clocks };
double draw_unique(const Sampler&, const Draws&, std::size_t size, Unique, std::int64_t* ids, const Exec& = {});

// log q of one draw of each class, -inf where it is never drawn
void log_prob(const Sampler&, std::span<const std::int64_t> ids, double* log_q, const Exec& = {});

}  // namespace vastmax
