// SPDX-License-Identifier: Apache-2.0
// Row statistics: their operands checked and merged, and the workspace between their kernels.
#include "cuda/host/row_operands.hpp"
#include "cuda/kernels/select.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::cuda {

void selective_log_softmax(const ConstView& x, const std::int64_t* ids, std::int64_t width, double* out,
                           const RowOptions& o, const Exec& exec) {
  constexpr const char* op = "selective_log_softmax";
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  Rows rows(op, x);
  const std::size_t from = rows.full("x", x);
  rows.options(o);
  RowOperands a = rows.merged();
  a.x = rows.full_operand(from, x);
  const std::int64_t count = a.shape.count, tiles = tiles_of(a.shape.n, item_size(x.dtype));
  if (count == 0 || width == 0) return;
  const Workspace<TilePart> parts(count * tiles, exec.stream, op);
  const Workspace<RowLog> logs(count, exec.stream, op);
  norm_tiles(x.dtype, rows.dense(a.x) && !rows.options_given(), a, tiles, parts.data(), exec.stream);
  norm_logs(x.dtype, count, tiles, parts.data(), logs.data(), exec.stream);
  norm_pick(x.dtype, a, ids, width, out, logs.data(), exec.stream);
}

void softmax_stats(const ConstView& x, const RowStats& stats, const RowOptions& o, const Exec& exec) {
  constexpr const char* op = "softmax_stats";
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  if (stats.top_n > static_cast<std::size_t>(x.shape.back()) || stats.top_n > std::size_t{1} << 30)
    throw std::invalid_argument(std::string(op) + ": top_n is larger than the number of classes, or than 2^30");
  Rows rows(op, x);
  const std::size_t from = rows.full("x", x);
  rows.options(o);
  StatsOperands a{rows.merged(), stats};
  a.x = rows.full_operand(from, x);
  const std::int64_t count = a.shape.count, tiles = tiles_of(a.shape.n, item_size(x.dtype));
  if (count == 0) return;
  const auto wanted = static_cast<std::int64_t>(stats.top_n);
  const bool plain = rows.dense(a.x) && !rows.options_given(), picks = stats.target_log_prob != nullptr || wanted != 0;
  const Workspace<TilePart> parts(count * tiles, exec.stream, op);
  const Workspace<StatsPart> more(count * tiles, exec.stream, op);
  const Workspace<Entry> bests(a.ordered() ? count * (tiles + 1) : 0, exec.stream, op);
  const Workspace<RowLog> logs(picks ? count : 0, exec.stream, op);
  stats_tiles(x.dtype, plain, a, tiles, parts.data(), more.data(), bests.data(), exec.stream);
  stats_finish(x.dtype, a, tiles, parts.data(), more.data(), bests.data(), picks ? logs.data() : nullptr, exec.stream);
  if (stats.target_log_prob != nullptr)
    norm_pick(x.dtype, a, stats.target, 1, stats.target_log_prob, logs.data(), exec.stream);
  if (wanted == 0) return;
  top_indices(x.dtype, rows.dense(a.x), {a, wanted, stats.top_indices}, tiles, bests.data(), op, exec.stream);
  norm_pick(x.dtype, a, stats.top_indices, wanted, stats.top_log_probs, logs.data(), exec.stream);
}

void kl_divergence(const ConstView& p, const ConstView& q, double* out, const Exec& exec) {
  constexpr const char* op = "kl_divergence";
  if (p.shape.empty()) throw std::invalid_argument(std::string(op) + ": logits have no axis to reduce");
  expect_like(op, "q_logits", q, p);
  Rows rows(op, p);
  const std::size_t first = rows.full("p_logits", p), second = rows.full("q_logits", q);
  RowOperands a = rows.merged();
  a.x = rows.full_operand(first, p), a.second = rows.full_operand(second, q);
  const std::int64_t count = a.shape.count, tiles = tiles_of(a.shape.n, sizeof(double));
  if (count == 0) return;
  const Workspace<TilePart> p_parts(count * tiles, exec.stream, op), q_parts(count * tiles, exec.stream, op);
  const Workspace<Differences> differences(count * tiles, exec.stream, op);
  divergence_tiles(p.dtype, rows.dense(a.x) && rows.dense(a.second), a, tiles, p_parts.data(), q_parts.data(),
                   differences.data(), exec.stream);
  divergence_finish(a.shape, tiles, p_parts.data(), q_parts.data(), differences.data(), out, exec.stream);
}

}  // namespace vastmax::cuda
