# SPDX-License-Identifier: Apache-2.0
"""Losses over a sample of the classes, for tables far too large to multiply with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._docstrings import filled
from ._ops.results import SampledSoftmaxResult
from ._ops.sampled import loss
from ._ops.sampled.options import Kind, Options

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._operands.seeds import Seed
    from ._ops.sampled.proposal import Sampler

__all__ = ["SampledSoftmaxResult", "nce_loss", "sampled_softmax"]


@filled
def sampled_softmax(
    input: ArrayLike,  # noqa: A002 - PyTorch's name
    weight: ArrayLike,
    target: ArrayLike | tuple[ArrayLike, ArrayLike],
    *,
    bias: ArrayLike | None = None,
    sampler: Sampler,
    num_sampled: int | None = None,
    correction: str = "importance",
    share: str = "batch",
    unique: bool = False,
    exclude_targets: bool = True,
    temperature: float | None = None,
    grad_output: ArrayLike | None = None,
    seed: Seed = None,
    step: int = 0,
    row_offset: int = 0,
    need_grad: bool = True,
) -> SampledSoftmaxResult:
    r"""Return softmax cross-entropy over the targets and a sample of all other classes, and its gradients.

    .. math:: \ell = \log\Big(\sum_t e^{o_t} + \frac1n \sum_s \frac{e^{o_s}}{q'_s}\Big) - \sum_t y_t \, o_t,
        \quad o = (x W^T + b) / T

    for the n draws s that are no target, with :math:`q' = q / (1 - \sum_t q_t)`: the second sum estimates that over
    all other classes without bias.

    Parameters
    ----------
    %(sampled)s
    correction : {"importance", "candidate", "refined", "none"}, default "importance"
        "importance", as above, estimates the full cross-entropy. "candidate" takes :math:`\log Q`, the expected count,
        from the logits of targets and draws: TensorFlow's sampled softmax, a likelihood of the target among the
        candidates, whose value is not comparable with the full loss; consistent with `unique` only. "refined" has the
        gradient of "importance" and the value :math:`(1 - P) (\log \sum_s - o_t)` of Khrylchenko et al. (2025).
        "none" corrects nothing.
    %(sampled_options)s

    Returns
    -------
    SampledSoftmaxResult
        `loss` and `lse`, shape (B,): float64 for float64 weights, else float32. `grad_input`, the shape and dtype of
        `input`; `grad_weight`, `SparseRows` for a shared sample and `FactoredGrad` for one of each row; of the sum of
        the losses, None without `need_grad`. `num_hits`: how many draws were targets. `effective_sample_size`,
        :math:`(\sum w)^2 / \sum w^2` of the weights :math:`w = e^{o} / q` of the draws: how many draws from the model
        itself would tell as much.

    %(sampled_raises)s

    Notes
    -----
    %(sampled_notes)s

    A row without a target has loss 0 and no gradient, whatever its features are; so has one with one
    target that is all of its draws.

    The loss underestimates the full one by about :math:`\frac{1}{2S Z^2} (\sum_j e^{2 o_j} / q'_j - Z_o^2)`, with the
    sum and :math:`Z_o` over all classes but the targets, :math:`Z` over all; its gradient is unbiased only where q is
    the softmax itself (Blanc and Rendle 2018).

    Jean et al. (2015); Blanc and Rendle (2018); Khrylchenko et al. (2025).

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> table = np.zeros((1_000_000, 8), np.float32)
    >>> x, target = np.ones((2, 8), np.float32), [3, 70_000]
    >>> sampler = vastmax.LogUniformSampler(1_000_000)
    >>> r = vastmax.sampled_softmax(x, table, target, sampler=sampler, num_sampled=100_000, seed=0)
    >>> abs(r.loss / np.log(1_000_000) - 1) < 0.01
    array([ True,  True])
    >>> r.grad_weight.apply_sgd_(table, 0.1)
    """
    options = Options(sampler, num_sampled, share, unique, exclude_targets, seed, step, row_offset, need_grad)
    kind = Kind.REFINED if correction == "refined" else Kind.SOFTMAX
    return loss.run("sampled_softmax", kind, input, weight, target, bias, temperature, grad_output, correction, options)


@filled
def nce_loss(
    input: ArrayLike,  # noqa: A002 - PyTorch's name
    weight: ArrayLike,
    target: ArrayLike | tuple[ArrayLike, ArrayLike],
    *,
    bias: ArrayLike | None = None,
    sampler: Sampler,
    num_sampled: int | None = None,
    share: str = "batch",
    unique: bool = False,
    exclude_targets: bool = False,
    temperature: float | None = None,
    grad_output: ArrayLike | None = None,
    seed: Seed = None,
    step: int = 0,
    row_offset: int = 0,
    need_grad: bool = True,
) -> SampledSoftmaxResult:
    r"""Return the noise-contrastive loss of targets against a sample of classes, and its gradients.

    .. math:: \ell = \sum_t \big( \log(1 + e^{u_t}) - y_t u_t \big) + \sum_s \log(1 + e^{u_s}),
        \quad u_j = (x w_j + b_j) / T - \log Q_j

    with the expected count Q of a class, S q for draws with replacement.

    Parameters
    ----------
    %(sampled)s
    %(sampled_options)s

    Returns
    -------
    SampledSoftmaxResult
        As from `sampled_softmax`; `lse` and `effective_sample_size` are NaN.

    %(sampled_raises)s

    Notes
    -----
    %(sampled_notes)s

    A row without a target is asked about its draws alone.

    A model that is to be normalised learns log Z as part of its biases: starting from :math:`b = \log q`, which makes
    :math:`u = -\log S`, is common.

    Gutmann and Hyvarinen (2010); Mnih and Teh (2012).

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> sampler = vastmax.UniformSampler(4)
    >>> r = vastmax.nce_loss(np.ones((1, 2)), np.zeros((4, 2)), [2], sampler=sampler, num_sampled=4, seed=0)
    >>> r.loss / np.log(2)
    array([5.])
    """
    options = Options(sampler, num_sampled, share, unique, exclude_targets, seed, step, row_offset, need_grad)
    return loss.run("nce_loss", Kind.NCE, input, weight, target, bias, temperature, grad_output, "none", options)
