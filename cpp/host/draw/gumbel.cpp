// SPDX-License-Identifier: Apache-2.0
// Logits with Gumbel noise.
#include "cpp/host/rows/norm_run.hpp"
#include "cpp/math/random.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax {
namespace {

class GumbelRun : NormRun {
 public:
  using NormRun::NormRun;
  void run(const ConstView& x, const View& out, const Draws& draws) {
    x_ = operand(x), y_ = operand(out);
    loop_.merge();
    const Plan plan = cut();
    spread(loop_.count() * blocks_, 1, plan.threads, [&](std::size_t i, Scratch& scratch) {
      const Source s = source(i / blocks_);
      Draws of_row = draws;
      of_row.row += s.row;
      noised(s, of_row, i % blocks_, scratch);
    });
  }

 private:
  struct Noise {  // of a block
    std::uint32_t at[block_length(DType::float32)];
    std::uint64_t bits[block_length(DType::float32)];
  };
  void noised(const Source& s, const Draws& draws, std::size_t block, Scratch& scratch) const {
    const Lease<Noise> noise;
    const std::size_t n = length(block), item = y_.item;
    stage(s, block, 0, scratch.in);
    all_.noise(draws, block * block_, n, ~std::uint64_t{0}, noise->at, noise->bits);
    k_.add_gumbel(scratch.in, noise->bits, n);
    std::byte* const to = y_.row(loop_, s.row) + static_cast<std::int64_t>(block * block_) * y_.step;
    Loop::copy(to, y_.step, scratch.in, static_cast<std::int64_t>(item), item, n);
  }
};

}  // namespace

void add_gumbel(const ConstView& x, const View& out, const Draws& draws, const Exec& exec) {
  if (x.shape.empty()) throw std::invalid_argument("add_gumbel: x has no axis to reduce");
  expect_dtype("add_gumbel", "out", out.dtype, reduced(x.dtype));
  expect_shape("add_gumbel", "out", out.shape, x.shape);
  check_draws("add_gumbel", draws, x);
  GumbelRun(x.dtype, x.shape, exec).run(x, out, draws);
}

}  // namespace vastmax
