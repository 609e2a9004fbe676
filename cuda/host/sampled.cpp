// SPDX-License-Identifier: Apache-2.0
// Losses over sampled classes, and rows of a table by number: their operands checked.
#include "cuda/host/operands.hpp"
#include "cuda/kernels/group_ids.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::cuda {
namespace {

constexpr const char* op = "sampled loss";

// What a call may touch, told one dense array at a time.
class Touched {
 public:
  void dense(const char* what, const void* data, std::int64_t count, std::size_t item) {
    if (data == nullptr) return;
    const std::int64_t shape[] = {count}, strides[] = {static_cast<std::int64_t>(item)};
    access_.add(what, data, shape, strides, item);
  }
  TableOperand table(const ClassTable& table, const ConstView* bias) {
    const auto features = static_cast<std::int64_t>(table.features);
    const std::int64_t shape[] = {table.classes, features},
                       strides[] = {table.pitch, static_cast<std::int64_t>(item_size(table.dtype))};
    access_.add("weight", table.data, shape, strides, item_size(table.dtype));
    TableOperand made{table.data, table.pitch, features, nullptr, table.dtype, 0};
    if (bias != nullptr) {
      access_.add("bias", *bias);
      made.bias = bias->data, made.bias_dtype = bias->dtype, made.bias_step = bias->strides[0];
    }
    return made;
  }

 private:
  Access access_{op};
};

}  // namespace

void sampled_own(const SampledLoss& loss, const ClassTable& table, const ConstView* bias, const DeviceDraws& draws,
                 std::byte* slopes, std::byte* grad, const Exec& exec) {
  if (loss.rows == 0) return;
  const auto rows = static_cast<std::int64_t>(loss.rows), n = static_cast<std::int64_t>(loss.draws),
             features = static_cast<std::int64_t>(table.features);
  const std::size_t item = compute_size(table.dtype);
  Touched touched;
  const TableOperand operand = touched.table(table, bias);
  touched.dense("input", loss.input, rows * features, item);
  touched.dense("slopes", slopes, rows * n, item);
  touched.dense("grad_input", grad, rows * features, item);
  sampled_own(table.dtype, {loss, operand, draws.ids, draws.log_expected, draws.added, slopes, grad}, exec.stream);
}

void sampled_shared(const SampledLoss& loss, const ClassTable& table, const ConstView* bias, const SharedDraws& draws,
                    const std::byte* biases, std::size_t first, std::size_t count, std::byte* logits, bool slopes,
                    const Exec& exec) {
  if (count == 0) return;
  const auto n = static_cast<std::int64_t>(draws.n), rows = static_cast<std::int64_t>(count);
  const std::size_t item = compute_size(table.dtype);
  Touched touched;
  const TableOperand operand = touched.table(table, bias);
  touched.dense("input", loss.input, static_cast<std::int64_t>(loss.rows * table.features), item);
  for (const std::byte* each : {draws.adjust, draws.staged_counts, draws.shares, biases})
    touched.dense("draws", each, n, item);
  touched.dense("logits", logits, rows * n, item);
  sampled_shared(table.dtype, {loss, operand, draws, biases, static_cast<std::int64_t>(first), rows, logits, slopes},
                 exec.stream);
}

void add_targets(const SampledLoss& loss, const ClassTable& table, std::size_t first, std::size_t count,
                 std::byte* grad, const Exec& exec) {
  if (count == 0) return;
  Touched touched;
  const TableOperand operand = touched.table(table, nullptr);
  touched.dense("grad_input", grad, static_cast<std::int64_t>(count * table.features), compute_size(table.dtype));
  add_targets(table.dtype, loss, operand, static_cast<std::int64_t>(first), static_cast<std::int64_t>(count), grad,
              exec.stream);
}

void gather_rows(const ClassTable& table, const std::int64_t* ids, std::size_t count, std::byte* to, const Exec& exec) {
  if (count == 0) return;
  Touched touched;
  const TableOperand operand = touched.table(table, nullptr);
  touched.dense("out", to, static_cast<std::int64_t>(count * table.features), compute_size(table.dtype));
  gather_rows(table.dtype, operand, ids, static_cast<std::int64_t>(count), to, exec.stream);
}

namespace {

std::int64_t fetched(const std::int64_t* from, const Stream& stream) {
  std::int64_t value = 0;
  check(cudaMemcpyAsync(&value, from, sizeof value, cudaMemcpyDefault, stream.handle()));
  check(cudaStreamSynchronize(stream.handle()));
  return value;
}

}  // namespace

// Least digit first, as vastmax::sort_ids; the passes take turns between `to` and a room of its size.
std::int64_t group_ids(const std::int64_t* ids, std::int64_t n, std::int64_t classes, std::int64_t* order,
                       std::int64_t* starts, std::int64_t* groups, const Exec& exec) {
  if (n == 0) throw std::invalid_argument("group_ids: there are no ids");
  const Workspace<std::int64_t> own(n, exec.stream, op), other(n, exec.stream, op), other_order(n, exec.stream, op),
      counts(digits * tiles_of_entries(n) + 1, exec.stream, op);
  int passes = 0;
  while (passes == 0 || (classes - 1) >> (digit_bits * passes) != 0) ++passes;
  const Numbered rooms[] = {{other.data(), other_order.data()}, {own.data(), order}};
  Numbered from{const_cast<std::int64_t*>(ids), nullptr};
  for (int pass = 0; pass < passes; ++pass) {
    const Numbered& to = rooms[(passes - pass) % 2];
    sort_pass(from, to, n, digit_bits * pass, counts.data(), exec.stream);
    from = to;
  }
  cut_groups(from.ids, n, starts, groups, counts.data(), exec.stream);
  return fetched(counts.data() + tiles_of_entries(n), exec.stream);
}

std::int64_t cut_pieces(const std::int64_t* starts, std::int64_t groups, std::int64_t* pieces, const Exec& exec) {
  const Workspace<std::int64_t> counts(tiles_of_entries(groups) + 1, exec.stream, op);
  cut_pieces(starts, groups, pieces, counts.data(), exec.stream);
  return fetched(counts.data() + tiles_of_entries(groups), exec.stream);
}

std::int64_t most_of_a_piece() { return entries_of_piece; }

void sum_groups(DType staged, std::size_t features, const Entries& first, const Entries& second,
                std::span<const std::size_t> rows_of_both, const DeviceGroups& groups, std::byte* sums,
                const Exec& exec) {
  if (groups.count == 0) return;
  const auto n = static_cast<std::int64_t>(features);
  const std::size_t item = item_size(staged);
  Touched touched;
  touched.dense("rows", first.rows, static_cast<std::int64_t>(rows_of_both[0]) * n, item);
  touched.dense("rows", second.rows, static_cast<std::int64_t>(rows_of_both[1]) * n, item);
  touched.dense("coefficients", first.coefficients, static_cast<std::int64_t>(first.count), item);
  touched.dense("coefficients", second.coefficients, static_cast<std::int64_t>(second.count), item);
  touched.dense("sums", sums, groups.count * n, item);
  const Workspace<std::byte> more((groups.piece_count - groups.count) * n * static_cast<std::int64_t>(item),
                                  exec.stream, op);
  sum_groups(staged,
             {first, second, n, groups.count, groups.piece_count, groups.order, groups.starts, groups.pieces, sums,
              more.data()},
             exec.stream);
}

void update_rows(const ClassTable& table, const std::int64_t* ids, std::size_t count, const std::byte* changes,
                 double rate, double* state, double eps, const Exec& exec) {
  if (count == 0) return;
  Touched touched;
  const TableOperand operand = touched.table(table, nullptr);
  const auto n = static_cast<std::int64_t>(count);
  touched.dense("rows", changes, n * operand.features, compute_size(table.dtype));
  update_rows(table.dtype, {table.data, table.pitch, operand.features, n, ids, changes, rate, state, eps}, exec.stream);
}

void product(DType staged, const ConstView& a, const ConstView& b, const View& to, bool add, const Exec& exec) {
  constexpr const char* what = "product";
  const std::size_t item = item_size(staged);
  if (a.shape.size() != 2 || b.shape.size() != 2 || to.shape.size() != 2 || a.shape[1] != b.shape[0] ||
      to.shape[0] != a.shape[0] || to.shape[1] != b.shape[1] || item < sizeof(float) || a.dtype != staged ||
      b.dtype != staged || to.dtype != staged)
    throw std::invalid_argument("product: shapes or dtypes do not fit");
  if (to.shape[0] == 0 || to.shape[1] == 0) return;
  const auto step = static_cast<std::int64_t>(item);
  if (to.strides[1] != step || to.strides[0] != to.shape[1] * step)
    throw std::invalid_argument("product: the result must be dense");
  Access access(what);
  access.add("a", a), access.add("b", b), access.add("out", to);
  product(staged,
          {{a.data, a.strides[0] / step, a.strides[1] / step},
           {b.data, b.strides[1] / step, b.strides[0] / step},
           to.shape[0],
           to.shape[1],
           a.shape[1],
           to.data,
           add},
          exec.stream);
}

}  // namespace vastmax::cuda
