// SPDX-License-Identifier: Apache-2.0
// Draws from logits and the order that they rest on: operands checked and merged, and the workspace between kernels.
#include "vastmax/sampling.hpp"

#include <optional>

#include "cuda/host/row_operands.hpp"
#include "cuda/kernels/sample.hpp"
#include "cuda/kernels/select.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::cuda {
namespace {

// Where filters cut each row; lasts until the kernels that read it are enqueued.
class RowCuts {
 public:
  RowCuts(DType dtype, bool plain, CutOperands& a, const Filters& filters, const char* op, const Stream& stream)
      : tiles_(tiles_of(a.shape.n, item_size(dtype))),
        bests_(a.shape.count * (tiles_ + 1), stream, op),
        masses_(filters.top_p == nullptr ? 0 : a.shape.count * tiles_, stream, op),
        cuts_(a.shape.count, stream, op) {
    a.top_k = filters.top_k, a.top_p = filters.top_p, a.min_p = filters.min_p;
    a.tiles = tiles_, a.bests = bests_.data(), a.masses = masses_.data(), a.cuts = cuts_.data();
    best_tiles(dtype, plain, a, tiles_, bests_.data(), stream);
    cut_rows(dtype, a, stream);
  }

 private:
  std::int64_t tiles_;
  Workspace<Entry> bests_;
  Workspace<Mass> masses_;
  Workspace<Cut> cuts_;
};

// The largest keys of some rows at a time.
void draw_unique(DType dtype, const SampleOperands& a, const char* op, const Stream& stream) {
  constexpr std::int64_t most_bytes = 256 << 20, item = sizeof(double);
  const std::int64_t n = a.shape.n, tiles = tiles_of(n, sizeof(double)),
                     fit = std::max<std::int64_t>(1, most_bytes / (n * item)), most = std::min(fit, a.shape.count);
  const Workspace<double> keys(most * n, stream, op);
  const Workspace<Entry> bests(most * (tiles + 1), stream, op);
  for (std::int64_t first = 0; first < a.shape.count; first += most) {
    const std::int64_t count = std::min(most, a.shape.count - first);
    TopOperands top{{}, a.size, a.ids + first * a.size};
    top.shape = {.count = count, .n = n, .dims = 1, .extent = {count}};
    top.x = {.data = reinterpret_cast<std::byte*>(keys.data()), .step = item, .stride = {n * item}};
    Access access(op);
    const std::int64_t extents[] = {count, n}, strides[] = {n * item, item};
    access.add("keys", keys.data(), extents, strides, item);
    sample_noise(dtype, a, first, count, keys.data(), stream);
    best_tiles(DType::float64, true, top, tiles, bests.data(), stream);
    top_indices(DType::float64, true, top, tiles, bests.data(), op, stream);
    sample_unique(dtype, a, first, count, keys.data(), stream);
  }
}

// Softmax of some rows at a time: what their noisy logits take stays in second-level cache.
void soften(DType dtype, const NoisyOperands& a, const char* op, const Stream& stream) {
  constexpr std::int64_t most_bytes = 16 << 20;
  const DType computed = reduced(dtype);
  const std::int64_t n = a.shape.n, item = static_cast<std::int64_t>(item_size(computed)),
                     fit = std::max<std::int64_t>(1, most_bytes / (n * item)), most = std::min(fit, a.shape.count);
  const Workspace<std::byte> noisy(most * n * item, stream, op);
  const Workspace<TilePart> parts(most * a.tiles, stream, op);
  const Workspace<RowResult> results(most, stream, op);
  for (std::int64_t first = 0; first < a.shape.count; first += most) {
    RowOperands some;
    some.shape.count = std::min(most, a.shape.count - first), some.shape.n = n;
    noise_tiles(dtype, a, first, some.shape.count, noisy.data(), parts.data(), stream);
    norm_finish(Op::softmax, dtype, some, a.tiles, parts.data(), results.data(), stream);
    noise_softmax(dtype, a, first, some.shape.count, noisy.data(), results.data(), stream);
  }
}

}  // namespace

void top_k(const ConstView& x, std::int64_t k, std::byte* values, std::int64_t* indices, const Exec& exec) {
  constexpr const char* op = "top_k";
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  if (k < 1 || k > x.shape.back() || k > std::int64_t{1} << 30)
    throw std::invalid_argument(std::string(op) + ": k is not one of the numbers from 1 to that of classes, or 2^30");
  Rows rows(op, x);
  const std::size_t from = rows.full("x", x);
  TopOperands a{rows.merged(), k, indices};
  a.x = rows.full_operand(from, x);
  const std::int64_t count = a.shape.count, tiles = tiles_of(a.shape.n, item_size(x.dtype));
  if (count == 0) return;
  const bool plain = rows.dense(a.x);
  const Workspace<Entry> bests(count * (tiles + 1), exec.stream, op);
  best_tiles(x.dtype, plain, a, tiles, bests.data(), exec.stream);
  top_indices(x.dtype, plain, a, tiles, bests.data(), op, exec.stream);
  top_values(x.dtype, a, values, exec.stream);
}

void mask_logits(const ConstView& x, const Filters& filters, const View& out, const Exec& exec) {
  constexpr const char* op = "mask_logits";
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  expect_like(op, "out", out, x);
  Rows rows(op, x);
  const std::size_t from = rows.full("x", x), to = rows.full("out", out);
  CutOperands a{rows.merged()};
  a.x = rows.full_operand(from, x), a.out = rows.full_operand(to, out);
  if (a.shape.count == 0 || a.shape.n == 0) return;
  const RowCuts cuts(x.dtype, rows.dense(a.x), a, filters, op, exec.stream);
  mask(x.dtype, rows.dense(a.x) && rows.dense(a.out), a, exec.stream);
}

void sample(const ConstView& x, const Sampling& sampling, const RowOptions& o, const Exec& exec) {
  constexpr const char* op = "sample";
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  if (!sampling.replace && sampling.size > static_cast<std::size_t>(x.shape.back()))
    throw std::invalid_argument(std::string(op) + ": more draws without replacement than classes");
  check_draws(op, sampling.draws, x);
  Rows rows(op, x);
  const std::size_t from = rows.full("x", x);
  rows.options(o);
  SampleOperands a{rows.merged()};
  a.x = rows.full_operand(from, x);
  const std::int64_t count = a.shape.count, tiles = tiles_of(a.shape.n, item_size(x.dtype));
  const Filters& f = sampling.filters;
  a.row_temperature = sampling.temperature, a.draws = sampling.draws, a.tiles = tiles;
  a.size = static_cast<std::int64_t>(sampling.size);
  a.ids = sampling.ids, a.log_prob = sampling.log_prob, a.valid = sampling.valid;
  if (count == 0 || a.size == 0) return;
  const bool plain = rows.dense(a.x) && !rows.options_given();
  const Workspace<TilePart> parts(count * tiles, exec.stream, op);
  const Workspace<double> ends(count * tiles, exec.stream, op);
  const Workspace<DrawnRow> drawn(count, exec.stream, op);
  a.parts = parts.data(), a.ends = ends.data(), a.rows = drawn.data();
  if (sampling.replace && f.top_p != nullptr) {
    a.top_k = f.top_k, a.top_p = f.top_p;
    SampleOperands whole = a;
    whole.pass = Pass::first, whole.log_prob = nullptr, whole.valid = nullptr;
    sample_rows(x.dtype, plain, whole, exec.stream);
    sample(x.dtype, plain, whole, exec.stream);
    a.pass = Pass::second;
  }
  CutOperands to_cut{a};
  to_cut.temperature = sampling.temperature;
  std::optional<RowCuts> cuts;
  const bool filtered = f.top_k != nullptr || f.top_p != nullptr || f.min_p != nullptr;
  if (a.shape.n > 0 && (filtered || !sampling.replace)) cuts.emplace(x.dtype, plain, to_cut, f, op, exec.stream);
  a.cuts = filtered ? to_cut.cuts : nullptr, a.bests = to_cut.bests;
  sample_rows(x.dtype, plain, a, exec.stream);
  sampling.replace ? sample(x.dtype, plain, a, exec.stream) : draw_unique(x.dtype, a, op, exec.stream);
}

void gumbel_softmax(const ConstView& x, double tau, bool hard, const Draws& draws, const View& out, const Exec& exec) {
  constexpr const char* op = "gumbel_softmax";
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  if (!(tau > 0)) throw std::invalid_argument(std::string(op) + ": tau is not a number > 0");
  expect_like(op, "out", out, x);
  check_draws(op, draws, x);
  Rows rows(op, x);
  const std::size_t from = rows.full("x", x), to = rows.full("out", out);
  NoisyOperands a{rows.merged()};
  a.x = rows.full_operand(from, x), a.out = rows.full_operand(to, out);
  if (a.shape.count == 0 || a.shape.n == 0) return;
  a.draws = draws, a.tau = tau, a.tiles = tiles_of(a.shape.n, item_size(x.dtype));
  if (!hard) return soften(x.dtype, a, op, exec.stream);
  const Workspace<Entry> bests(a.shape.count * (a.tiles + 1), exec.stream, op);
  noise_largest(x.dtype, a, bests.data(), exec.stream);
}

}  // namespace vastmax::cuda
