// SPDX-License-Identifier: Apache-2.0
// cross_entropy: its operands checked and merged, and the workspace between its kernels.
#include "cuda/host/row_operands.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::cuda {

void cross_entropy(const ConstView& x, const View* grad, const CrossEntropy& loss, double* total, const RowOptions& o,
                   const Exec& exec) {
  constexpr const char* op = "cross_entropy";
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": logits have no axis to reduce");
  if ((loss.ids != nullptr) == (loss.probabilities != nullptr))
    throw std::invalid_argument(std::string(op) + ": the target must be classes or probabilities");
  Rows rows(op, x);
  const std::size_t from = rows.full("x", x);
  std::size_t to = 0, target = 0;
  if (grad != nullptr) expect_like(op, "out", *grad, x), to = rows.full("out", *grad);
  if (loss.probabilities != nullptr) {
    expect_shape(op, "target", loss.probabilities->shape, x.shape);
    expect_dtype(op, "target", loss.probabilities->dtype, reduced(x.dtype));
    target = rows.full("target", *loss.probabilities);
  }
  rows.options(o);
  LossOperands a{};
  static_cast<RowOperands&>(a) = rows.merged();
  a.x = rows.full_operand(from, x);
  if (grad != nullptr) a.out = rows.full_operand(to, *grad);
  if (loss.probabilities != nullptr) a.second = rows.full_operand(target, *loss.probabilities);
  a.softcap = loss.softcap;
  a.ids = loss.ids, a.width = static_cast<std::int64_t>(loss.width), a.ignore_index = loss.ignore_index;
  a.id_probabilities = loss.id_probabilities, a.class_weight = loss.class_weight, a.row_weight = loss.row_weight;
  a.grad_output = loss.grad_output, a.grad_output_per_row = loss.grad_output_per_row, a.mean = loss.mean;
  a.label_smoothing = loss.label_smoothing, a.z_loss = loss.z_loss;
  a.loss = loss.loss, a.lse = loss.lse, a.total = total;

  const std::int64_t count = a.shape.count, tiles = tiles_of(a.shape.n, item_size(x.dtype));
  loss_weight(a, exec.stream);
  if (count == 0) return loss_total(a, exec.stream);
  const bool everywhere = a.everywhere(), counted = a.label_smoothing != 0 && a.where.data != nullptr;
  const bool plain = rows.dense(a.x) && !rows.options_given() && a.softcap == 0;
  const Workspace<double> uniform(counted ? count : 0, exec.stream, op);
  if (counted) loss_uniform(a, uniform.data(), exec.stream);
  const Workspace<TilePart> parts(count * tiles, exec.stream, op);
  const Workspace<Weighed> weighed(everywhere ? count * tiles : 0, exec.stream, op);
  const Workspace<LossResult> results(grad != nullptr ? count : 0, exec.stream, op);
  loss_tiles(x.dtype, plain, a, tiles, parts.data(), weighed.data(), uniform.data(), exec.stream);
  loss_finish(x.dtype, a, tiles, parts.data(), weighed.data(), uniform.data(), results.data(), exec.stream);
  loss_total(a, exec.stream);
  if (grad == nullptr || a.shape.n == 0) return;
  const bool made = a.ids != nullptr && (everywhere || !a.one_class());
  const Workspace<double> values(made ? count * a.width : 0, exec.stream, op);
  loss_grad(x.dtype, plain && !everywhere && rows.dense(a.out), a, results.data(), values.data(), exec.stream);
}

}  // namespace vastmax::cuda
