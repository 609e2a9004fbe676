# SPDX-License-Identifier: Apache-2.0
"""Classes drawn from the probabilities that logits stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _sampling
from ._docstrings import filled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._arrays import Array, Reduced
    from ._seeds import Seed

__all__ = ["gumbel_softmax", "sample"]


@filled
def sample(
    logits: ArrayLike,
    size: int | None = None,
    *,
    axis: int = -1,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    replace: bool = True,
    seed: Seed = None,
    step: int = 0,
    row_offset: int = 0,
    return_log_prob: bool = False,
    return_valid: bool = False,
) -> Reduced | tuple[Reduced, ...]:
    r"""Draw classes from the probabilities that logits stand for, in about one read of them.

    .. math:: P(j) = e^{(x_j - \max_k x_k) / T} \Big/ \sum_k e^{(x_k - \max_l x_l) / T}

    Parameters
    ----------
    %(logits)s
    size : int, optional
        Draws of each row, below 2**32; one, without an axis of its own, if not given.
    %(class_axis)s
    temperature : array_like, default 1
        :math:`T \ge 0`: a number, or one for each row. 0 takes the largest logit, the lowest index of equal ones; inf
        makes all classes alike whose logit is not -inf.
    where : array_like of bool, optional
        Broadcasts to `logits`. False entries are no classes, whatever they hold.
    replace : bool, default True
        False draws each class of a row at most once, the first like a draw with replacement, each next one among those
        that are left.
    %(draw_seed)s
    return_log_prob : bool, default False
        Also return the logarithm of each class's probability, :math:`\log P`; the same without replacement.
    return_valid : bool, default False
        Also return whether there was anything left to draw.

    Returns
    -------
    int64 ids, or tuple
        Shape of the logits without `axis`, and `size` as the last axis if given; -1 where nothing can be drawn. Then,
        in the same shape, as far as wanted: log-probabilities, float64 for float64 logits (and what becomes float64),
        else float32; bool.

    %(raises)s

    Notes
    -----
    Accuracy: 53 random bits choose a class by the inverse of the distribution function, classes in index order, whose
    sums are right to 2\ :sup:`-24` of each term (2\ :sup:`-53` in float64). There is no limit to the number of
    classes. Log-probabilities are as accurate as those of `log_softmax` near certainty too. Without replacement the
    classes are those with the largest :math:`(x_j - \max_k x_k) / T + g_j`, where the Gumbel noise
    :math:`g = -\log(-\log(1 - v))` has a uniform v of 64 bits (Kool, van Hoof and Welling 2019).

    Special values: a class of probability 0 is never drawn. With +inf logits it is the first of them. A row with NaN,
    or with no class above -inf, gives -1, NaN for the log-probability and False, and leaves other rows alone.

    The same seed gives the same draws for any number of threads, batch around a row, memory layout and instruction set;
    a larger `size` goes on where a smaller one ends.

    Without replacement a draw makes noise for every class, which costs tens of times a read.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> vastmax.sample([0.0, np.log(3), -np.inf], size=8, seed=1)
    array([1, 1, 0, 1, 1, 1, 0, 0])
    >>> vastmax.sample([[0.0, 5.0, 5.0], [np.nan, 0.0, 0.0]], temperature=0, return_valid=True)
    (array([ 1, -1]), array([ True, False]))
    """
    return _sampling.sample(
        logits, size, axis, temperature, where, replace, seed, step, row_offset, return_log_prob, return_valid
    )


@filled
def gumbel_softmax(
    logits: ArrayLike, tau: float = 1.0, hard: bool = False, axis: int = -1, *, seed: Seed = None
) -> Array:
    r"""Return softmax of logits with Gumbel noise, which stands for a draw: for small tau one class has nearly all.

    .. math:: y_j = e^{(x_j + g_j) / \tau} \Big/ \sum_k e^{(x_k + g_k) / \tau}, \quad g = -\log(-\log(1 - v)),
        \quad v \text{ uniform}

    Parameters
    ----------
    %(logits)s
    tau : float, default 1
        :math:`\tau > 0`, finite.
    hard : bool, default False
        Return 1 for the largest, the lowest index of equal ones, and 0 for all others: the draw itself.
    %(class_axis)s
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        An int is 64 bits; a generator gives its next 64; None takes fresh entropy.

    Returns
    -------
    ndarray
        The shape and dtype of `logits`.

    %(raises)s

    Notes
    -----
    Accuracy: noise is computed in float64 from 64 random bits for each element and added to the logit in float32, or
    float64 for float64; then as `softmax`.

    Special values: those of `softmax`; with `hard` too, NaN rows are NaN.

    The largest is the first class that `sample` draws with ``replace=False`` and the same seed. Jang, Gu and Poole
    2017; the arguments are those of PyTorch.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.gumbel_softmax([[0.0, 1.0, 2.0]], hard=True, seed=1)
    array([[0., 0., 1.]])
    """
    return _sampling.gumbel_softmax(logits, tau, hard, axis, seed)
