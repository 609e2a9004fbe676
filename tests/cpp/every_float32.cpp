// SPDX-License-Identifier: Apache-2.0
// The error of the element-wise float32 ops against float64 libm, in ULP of the exact result.  As a test: every 4,099th
// input, and every 67th from 1/2 to 2, where log(1 + e^-|x|) changes its formula and is at its worst.  All 2^32 with
// `every_float32 --all` (about 12 minutes on two cores; the result stands in docs/development/measured.md).
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "vastmax/vastmax.hpp"

namespace vastmax::testing {
namespace {

constexpr double bound = 1;

struct Op {
  const char* name;
  void (*run)(const ConstView&, const View&, double, const Exec&);
  double (*exact)(double);
};
constexpr Op ops[] = {
    {"softplus", softplus, [](double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }},
    {"sigmoid", sigmoid, [](double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }},
    {"log_sigmoid", log_sigmoid,
     [](double x) { return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x)); }},
};

// Spacing of float32 at the exact result, which need not be a float32.
double spacing(double exact) { return std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23); }

double error(float got, double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0 : INFINITY;
  if (std::isinf(exact) || exact == 0) return static_cast<double>(got) == exact ? 0 : INFINITY;
  return std::fabs(static_cast<double>(got) - exact) / spacing(exact);
}

struct Worst {
  double error = 0;
  std::uint32_t bits = 0;
};
constexpr std::size_t op_count = std::size(ops), most_isas = 4, piece = 4096;
struct Result {
  Worst at[op_count][most_isas];
};

// Inputs first, first + step, ... below last, by their bits.
struct Range {
  std::uint64_t first, last, step;
};
constexpr std::uint64_t everything = std::uint64_t{1} << 32, minus = std::uint64_t{1} << 31, half = 0x3f000000,
                        two = 0x40000000;

void sweep(const Range& range, Result& result) {
  std::vector<float> x(piece), y(piece);
  std::vector<double> exact(piece);
  for (std::uint64_t next = range.first; next < range.last;) {
    std::size_t n = 0;
    for (; n < piece && next < range.last; next += range.step)
      x[n++] = std::bit_cast<float>(static_cast<std::uint32_t>(next));
    const std::int64_t shape[] = {static_cast<std::int64_t>(n)}, strides[] = {4};
    const ConstView in{reinterpret_cast<const std::byte*>(x.data()), DType::float32, shape, strides};
    const View out{reinterpret_cast<std::byte*>(y.data()), DType::float32, shape, strides};
    for (std::size_t o = 0; o < op_count; ++o) {
      for (std::size_t i = 0; i < n; ++i) exact[i] = ops[o].exact(static_cast<double>(x[i]));
      for (std::size_t isa = 0; isa < isas().size(); ++isa) {
        if (!runnable(isas()[isa])) continue;
        ops[o].run(in, out, 1, Exec{.threads = 1, .isa = static_cast<int>(isa)});
        Worst& worst = result.at[o][isa];
        for (std::size_t i = 0; i < n; ++i)
          if (const double e = error(y[i], exact[i]); !(e <= worst.error))
            worst = {e, std::bit_cast<std::uint32_t>(x[i])};
      }
    }
  }
}

int run(const std::vector<Range>& ranges) {
  const std::uint64_t workers = std::max(1u, std::thread::hardware_concurrency());
  std::vector<Result> results(workers);
  std::vector<std::thread> threads;
  for (std::uint64_t w = 0; w < workers; ++w)
    threads.emplace_back([&, w] {
      for (const auto& [first, last, step] : ranges) sweep({first + w * step, last, workers * step}, results[w]);
    });
  for (auto& thread : threads) thread.join();
  int failures = 0;
  for (std::size_t o = 0; o < op_count; ++o)
    for (std::size_t isa = 0; isa < isas().size(); ++isa) {
      if (!runnable(isas()[isa])) continue;
      Worst worst;
      for (const Result& each : results)
        if (!(each.at[o][isa].error <= worst.error)) worst = each.at[o][isa];
      std::printf("%s/f32/%s: at most %.4f ULP, at %a\n", ops[o].name, name(isas()[isa]), worst.error,
                  static_cast<double>(std::bit_cast<float>(worst.bits)));
      failures += !(worst.error <= bound);
    }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace vastmax::testing

int main(int count, char** words) {
  using namespace vastmax::testing;
  if (count > 1 && std::strcmp(words[1], "--all") == 0) return run({{0, everything, 1}});
  return run({{0, everything, 4099}, {half, two, 67}, {minus + half, minus + two, 67}});
}
