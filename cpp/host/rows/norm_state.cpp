// SPDX-License-Identifier: Apache-2.0
// The normaliser of rows whose logits come in chunks: updated, merged, read.
#include "cpp/host/rows/norm_run.hpp"

namespace vastmax {
namespace {

class NormUpdate : NormRun {
 public:
  using NormRun::NormRun;
  void run(const ConstView& x, RowState* states) {
    x_ = operand(x), states_ = states;
    loop_.merge();
    if (n_ == 0) return;
    reduce([&](const Norm& norm, const Source& s, Scratch& scratch) { states[s.row] = state(norm, s, scratch); });
  }
};

}  // namespace

void logsumexp_update(const ConstView& x, std::span<RowState> states, const Exec& exec) {
  check_states("logsumexp_update", x, states);
  NormUpdate(x.dtype, x.shape, exec).run(x, states.data());
}

void logsumexp_merge(std::span<RowState> states, std::span<const RowState> others, const Exec& exec) {
  if (states.size() != others.size()) throw std::invalid_argument("logsumexp_merge: states of different rows");
  const KernelScope scope;
  const Kernels& all = kernels(exec);
  const CallMath math{all, of(all, DType::float64)};
  for (std::size_t r = 0; r < states.size(); ++r) {
    Norm norm = norm_of(states[r]);
    const double rest = others[r].max > norm.max ? others[r].rest : states[r].rest;
    norm.merge(norm_of(others[r]), [&](const Partial& from, const Partial& to) { return ratio(math, from, to); });
    states[r] = state_of(norm, rest);
  }
}

void logsumexp_value(std::span<const RowState> states, double* max, double* log, const Exec& exec) {
  const KernelScope scope;
  const Kernels& all = kernels(exec);
  const CallMath math{all, of(all, DType::float64)};
  for (std::size_t r = 0; r < states.size(); ++r) {
    const Norm norm = norm_of(states[r]);
    const bool special = norm.special();
    max[r] = special ? log_sum(math, norm, [] { return 0.0; }) : norm.max;
    log[r] = special ? 0 : math.log1p(over_max(math, norm, [&] { return states[r].rest; }));
  }
}

}  // namespace vastmax
