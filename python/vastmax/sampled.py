# SPDX-License-Identifier: Apache-2.0
"""Losses over a sample of the classes, for tables far too large to multiply with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._ops.results import SampledSoftmaxResult
from ._ops.sampled import loss
from ._ops.sampled.options import Kind, Options

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._operands.seeds import Seed
    from ._ops.sampled.proposal import Sampler

__all__ = ["SampledSoftmaxResult", "nce_loss", "sampled_softmax"]


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
    input : array_like
        :math:`x`, shape (B, D).
    weight : array_like
        :math:`W`, shape (V, D), any number of classes: rows of float16, bfloat16 (ml_dtypes), float32 or float64 whose
        features follow each other; may be a `numpy.memmap`. Only the rows of targets and draws are read. On a GPU,
        where `input` and `bias` are then too, results come in the library of `input`.
    target : array_like of int, or tuple of two
        :math:`t`, shape (B,) or (B, T), or ``(ids, offsets)`` where row i has ``ids[offsets[i]:offsets[i + 1]]``.
        Several targets of a row share it alike, :math:`y = 1 / T`; one that comes twice has twice the share.
    bias : array_like, optional
        :math:`b`, shape (V,).
    sampler : sampler
        Draws classes with a known probability :math:`q`: `UniformSampler`, `LogUniformSampler`, `UnigramSampler`,
        `MixtureSampler`, `PresetSampler`, `AllSampler`.
    num_sampled : int
        :math:`S`. May be left out with `PresetSampler` and `AllSampler`, which have one size.
    correction : {"importance", "candidate", "refined", "none"}, default "importance"
        "importance", as above, estimates the full cross-entropy. "candidate" takes :math:`\log Q`, the expected count,
        from the logits of targets and draws: TensorFlow's sampled softmax, a likelihood of the target among the
        candidates, whose value is not comparable with the full loss; consistent with `unique` only. "refined" has the
        gradient of "importance" and the value :math:`(1 - P) (\log \sum_s - o_t)` of [3]_.
        "none" corrects nothing.
    share : {"batch", "row"}, default "batch"
        Whether all rows meet the same draws, by matrix products, or each row its own.
    unique : bool, default False
        Draw without replacement, and divide by inclusion probabilities.
    exclude_targets : bool
        Leave a draw out, wherever it is, if it is a target of its row.
    temperature : float, optional
        :math:`T`, finite and > 0.
    grad_output : array_like, optional
        Gradient with respect to the loss: a number, or one for each row.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Makes the draws; with it `step`, and with ``share="row"`` the number of the row.

        .. warning:: The same int with the same `step` makes the same draws at every call, so a loop repeats itself.
        Pass
           one ``numpy.random.Generator``, which moves on, or the number of the iteration as `step`.
    step : int, default 0
        Number of the training step, below 2**32: other draws from the same seed.
    row_offset : int, default 0
        Number of the first row, where a batch is part of a larger one.
    need_grad : bool, default True
        Whether gradients are wanted.

    Returns
    -------
    SampledSoftmaxResult
        `loss` and `lse`, shape (B,): float64 for float64 weights, else float32. `grad_input`, the shape and dtype of
        `input`; `grad_weight`, `SparseRows` for a shared sample and `FactoredGrad` for one of each row; of the sum of
        the losses, None without `need_grad`. `num_hits`: how many draws were targets. `effective_sample_size`,
        :math:`(\sum w)^2 / \sum w^2` of the weights :math:`w = e^{o} / q` of the draws: how many draws from the model
        itself would tell as much.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.
    IndexError
        If a class is out of range. The message names row, value and number of classes. Nothing has been written then.

    See Also
    --------
    nce_loss : Against noise, class by class.
    linear_cross_entropy : Over all classes.
    LogUniformSampler, UnigramSampler, UniformSampler, MixtureSampler

    Notes
    -----
    Computed in float64 for float64 weights, else in float32 with sums over draws in float64. The same seed gives the
    same draws whatever the machine and the number of threads; with ``share="row"`` the same bits, else those of the
    BLAS. NaN among its classes makes a row NaN, as does a target with the logit +inf in `sampled_softmax`.

    A row without a target has loss 0 and no gradient, whatever its features are; so has one with one
    target that is all of its draws.

    The loss underestimates the full one by about :math:`\frac{1}{2S Z^2} (\sum_j e^{2 o_j} / q'_j - Z_o^2)`, with the
    sum and :math:`Z_o` over all classes but the targets, :math:`Z` over all; its gradient is unbiased only where q is
    the softmax itself [2]_.

    References
    ----------
    .. [1] Jean, Cho, Memisevic and Bengio, "On Using Very Large Target Vocabulary for Neural Machine Translation",
       ACL 2015.
    .. [2] Blanc and Rendle, "Adaptive Sampled Softmax with Kernel Based Sampling", ICML 2018.
    .. [3] Khrylchenko et al., "Correcting the LogQ Correction", RecSys 2025.

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
    input : array_like
        :math:`x`, shape (B, D).
    weight : array_like
        :math:`W`, shape (V, D), any number of classes: rows of float16, bfloat16 (ml_dtypes), float32 or float64 whose
        features follow each other; may be a `numpy.memmap`. Only the rows of targets and draws are read. On a GPU,
        where `input` and `bias` are then too, results come in the library of `input`.
    target : array_like of int, or tuple of two
        :math:`t`, shape (B,) or (B, T), or ``(ids, offsets)`` where row i has ``ids[offsets[i]:offsets[i + 1]]``.
        Several targets of a row share it alike, :math:`y = 1 / T`; one that comes twice has twice the share.
    bias : array_like, optional
        :math:`b`, shape (V,).
    sampler : sampler
        Draws classes with a known probability :math:`q`: `UniformSampler`, `LogUniformSampler`, `UnigramSampler`,
        `MixtureSampler`, `PresetSampler`, `AllSampler`.
    num_sampled : int
        :math:`S`. May be left out with `PresetSampler` and `AllSampler`, which have one size.
    share : {"batch", "row"}, default "batch"
        Whether all rows meet the same draws, by matrix products, or each row its own.
    unique : bool, default False
        Draw without replacement, and divide by inclusion probabilities.
    exclude_targets : bool
        Leave a draw out, wherever it is, if it is a target of its row.
    temperature : float, optional
        :math:`T`, finite and > 0.
    grad_output : array_like, optional
        Gradient with respect to the loss: a number, or one for each row.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Makes the draws; with it `step`, and with ``share="row"`` the number of the row.

        .. warning:: The same int with the same `step` makes the same draws at every call, so a loop repeats itself.
        Pass
           one ``numpy.random.Generator``, which moves on, or the number of the iteration as `step`.
    step : int, default 0
        Number of the training step, below 2**32: other draws from the same seed.
    row_offset : int, default 0
        Number of the first row, where a batch is part of a larger one.
    need_grad : bool, default True
        Whether gradients are wanted.

    Returns
    -------
    SampledSoftmaxResult
        As from `sampled_softmax`; `lse` and `effective_sample_size` are NaN.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.
    IndexError
        If a class is out of range. The message names row, value and number of classes. Nothing has been written then.

    See Also
    --------
    sampled_softmax : Estimates the full cross-entropy.
    LogUniformSampler, UnigramSampler, UniformSampler, MixtureSampler

    Notes
    -----
    Computed in float64 for float64 weights, else in float32 with sums over draws in float64. The same seed gives the
    same draws whatever the machine and the number of threads; with ``share="row"`` the same bits, else those of the
    BLAS. NaN among its classes makes a row NaN, as does a target with the logit +inf in `sampled_softmax`.

    A row without a target is asked about its draws alone.

    A model that is to be normalised learns log Z as part of its biases: starting from :math:`b = \log q`, which makes
    :math:`u = -\log S`, is common.

    References
    ----------
    .. [1] Gutmann and Hyvarinen, "Noise-contrastive estimation", AISTATS 2010.
    .. [2] Mnih and Teh, "A fast and simple algorithm for training neural probabilistic language models", ICML 2012.

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
