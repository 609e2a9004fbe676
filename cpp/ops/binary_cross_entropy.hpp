// SPDX-License-Identifier: Apache-2.0
// binary cross-entropy with logits: w (p t softplus(-x) + (1 - t) softplus(x)) and its gradient w ((1 - t) sigmoid(x) -
// p t sigmoid(-x)). Both terms are non-negative, so nothing cancels; a term of weight 0 is 0 even where its softplus is
// infinite, and an element of weight w = 0 counts as nothing, whatever its logit.  Weights meet before the softplus
// does: a vast logit times one of them might not fit.
#pragma once

#include "cpp/ops/sigmoid.hpp"

namespace vastmax::VM_ISA {

template <class V>
struct BinaryCrossEntropy {
  V loss, grad;
  VM_MEMBER BinaryCrossEntropy(V x, V target, V weight, V pos_weight) {
    const V zero = splat<V>(0), one = splat<V>(1);
    const ExpPair<V> e(abs(x));
    const LogOnePlusExp<V> log(e);
    const V on = pos_weight * target, off = one - target;
    const V on_loss = weight * on * log.added_to(max(negate(x), zero)),
            off_loss = weight * off * log.added_to(max(x, zero));
    const V both = select(on == zero, zero, on_loss) + select(off == zero, zero, off_loss);
    loss = select(weight == zero, zero, quiet(x, both));
    grad = select(weight == zero, zero, quiet(x, weight * (off * sigmoid_of(x, e) - on * sigmoid_of(negate(x), e))));
  }
};

}  // namespace vastmax::VM_ISA
