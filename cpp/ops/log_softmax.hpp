// SPDX-License-Identifier: Apache-2.0
// log_softmax: (x - max) - log(sum / e^max); two terms of one sign, so nothing cancels
#pragma once

#include "cpp/ops/row.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct LogSoftmax {
  V max, log;
  VM_MEMBER explicit LogSoftmax(const RowValues<V>& row) : max(row.max), log(row.log) {}
  VM_MEMBER V operator()(V x) const { return (x - max) + log; }
};

}  // namespace vastmax::VM_ISA
