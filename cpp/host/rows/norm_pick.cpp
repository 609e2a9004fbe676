// SPDX-License-Identifier: Apache-2.0
// selective_log_softmax: the normaliser, and a few logits of each row beside it.
#include "cpp/host/rows/norm_run.hpp"

namespace vastmax {
namespace {

class NormPick : NormRun {
 public:
  using NormRun::NormRun;
  void run(const ConstView& x, const std::int64_t* given, std::size_t width, double* out, const RowOptions& o);
};

void NormPick::run(const ConstView& x, const std::int64_t* given, std::size_t width, double* out, const RowOptions& o) {
  x_ = operand(x);
  options(o);
  loop_.merge();
  const std::size_t rows = loop_.count();
  const auto ids = class_ids("selective_log_softmax", "an index", {given, rows * width}, n_);
  if (rows == 0) return;
  const auto put = [&](const Norm& norm, const Source& s, Scratch& scratch) {
    const double log = log_over_max(norm, s, scratch);
    for (std::size_t k = s.row * width; k < (s.row + 1) * width; ++k)
      out[k] = log_probability(norm, log, logit(s, static_cast<std::size_t>(ids[k])));
  };
  const Plan plan = cut();
  if (columns(false))
    return each_group(
        [&](const Group& g, GroupState& state, Scratch& scratch) {
          for (std::size_t c = 0; c < g.width; ++c) put(state.norm[c], source(g.first + c), scratch);
        },
        [](const Group&, std::size_t, const GroupState&, Scratch&) {});
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    const Lease<Scratch> lease;
    Scratch& scratch = *lease;
    for (std::size_t r = 0; r < rows && !interrupted_; ++r)
      put(norm_parallel(source(r), plan.threads), source(r), scratch);
    return;
  }
  each_norm(plan, [&](const Source& s, const Norm& norm, Scratch& scratch) { put(norm, s, scratch); });
}

}  // namespace

void selective_log_softmax(const ConstView& x, const std::int64_t* ids, std::size_t width, double* out,
                           const RowOptions& o, const Exec& exec) {
  if (x.shape.empty()) throw std::invalid_argument("selective_log_softmax: x has no axis to reduce");
  NormPick(x.dtype, x.shape, exec).run(x, ids, width, out, o);
}

}  // namespace vastmax
