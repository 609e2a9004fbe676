# SPDX-License-Identifier: Apache-2.0
"""Drawing from logits, and the order of the classes that its filters cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from ._ops import sampling, selection

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._operands.arrays import Array, Reduced
    from ._operands.seeds import Seed

__all__ = [
    "gumbel_softmax",
    "min_p_mask_logits",
    "sample",
    "top_k",
    "top_k_mask_logits",
    "top_p_mask_logits",
]


def top_k(x: ArrayLike, k: int, axis: int = -1) -> tuple[Array, Array]:
    r"""Return the k largest elements of each row and their indices, in descending order.

    .. math:: x_{i_1} \ge x_{i_2} \ge \dots \ge x_{i_k} \ge x_j \text{ for every other } j

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    k : int
        From 1 to the number of classes.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    values : ndarray
        The shape of `x` with k in place of the length of `axis`, and its dtype.
    indices : ndarray of int64
        Where they are along `axis`.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    top_k_mask_logits : The others set to -inf.
    linear_top_k : From features and weights.
    torch.topk

    Notes
    -----
    Exact. Ties go to the lowest index; NaN ranks above +inf, as NumPy sorts it last. Integers are compared in float64,
    where different ones beyond 2**53 may tie.

    Examples
    --------
    >>> import vastmax
    >>> values, indices = vastmax.top_k([1.0, 5.0, 3.0, 5.0], 3)
    >>> values, indices
    (array([5., 5., 3.]), array([1, 3, 2]))
    """
    return selection.top_k(x, k, axis)


def top_k_mask_logits(logits: ArrayLike, k: ArrayLike | None, *, axis: int = -1) -> Array:
    """Return logits with -inf in place of all but the k largest of each row.

    Parameters
    ----------
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    k : array_like of int or None
        One number, or one for each row: the shape of the logits without `axis`. 0 and None keep all, as does a number
        above that of the classes.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    ndarray
        The shape and dtype of `logits`.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    top_p_mask_logits, min_p_mask_logits
    sample : Draws under the same filters.

    Notes
    -----
    Exactly k are kept: ties go to the lowest index. A row with NaN stays as it is.

    References
    ----------
    .. [1] Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation", ACL 2018.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.top_k_mask_logits([1.0, 5.0, 3.0, 5.0], 3)
    array([-inf,   5.,   3.,   5.])
    """
    return selection.mask("top_k_mask_logits", logits, axis, k=k)


def top_p_mask_logits(logits: ArrayLike, p: ArrayLike | None, *, axis: int = -1) -> Array:
    r"""Return logits with -inf outside the smallest set of likeliest classes whose probability is at least p.

    .. math:: \text{the first } m \text{ classes by descending } x, \quad
              m = \min \Big\{ m \ge 1 : \sum_{i \le m} e^{x_i} \ge p \sum_j e^{x_j} \Big\}

    Parameters
    ----------
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    p : array_like or None
        One number, or one for each row: the shape of the logits without `axis`. From 0, which keeps the largest, to 1,
        which keeps all, as None does.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    ndarray
        The shape and dtype of `logits`.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    top_k_mask_logits, min_p_mask_logits
    sample : Draws under the same filters.

    Notes
    -----
    Accuracy: the set is exact wherever no set of likeliest classes has a probability within 1e-12 of p. Ties go to
    the lowest index.

    Special values: a row with NaN stays as it is. Beside +inf, finite logits have no probability.

    References
    ----------
    .. [1] Holtzman, Buys, Du, Forbes and Choi, "The Curious Case of Neural Text Degeneration", ICLR 2020.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.top_p_mask_logits([0.0, 3.0, 2.0, -1.0], 0.9)
    array([-inf,   3.,   2., -inf])
    """
    return selection.mask("top_p_mask_logits", logits, axis, top_p=p)


def min_p_mask_logits(logits: ArrayLike, p: ArrayLike | None, *, axis: int = -1) -> Array:
    r"""Return logits with -inf in place of classes whose probability is below p times that of the likeliest.

    .. math:: x_j \text{ is kept where } e^{x_j - \max_i x_i} \ge p

    Parameters
    ----------
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    p : array_like or None
        One number, or one for each row: the shape of the logits without `axis`. From 0, which keeps all, as None does,
        to 1, which keeps the largest and what ties with it.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    ndarray
        The shape and dtype of `logits`.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    top_k_mask_logits, top_p_mask_logits
    sample : Draws under the same filters.

    Notes
    -----
    Special values: a row with NaN stays as it is. Beside +inf, finite logits have no probability.

    References
    ----------
    .. [1] Nguyen et al., "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs", 2024.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.min_p_mask_logits([0.0, 3.0, 2.0, -1.0], 0.1)
    array([-inf,   3.,   2., -inf])
    """
    return selection.mask("min_p_mask_logits", logits, axis, min_p=p)


@overload
def sample(
    logits: ArrayLike,
    size: int | None = ...,
    *,
    axis: int = ...,
    temperature: ArrayLike = ...,
    top_k: ArrayLike | None = ...,
    top_p: ArrayLike | None = ...,
    min_p: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    replace: bool = ...,
    seed: Seed = ...,
    step: int = ...,
    row_offset: int = ...,
    return_log_prob: Literal[False] = ...,
    return_valid: Literal[False] = ...,
) -> Reduced: ...
@overload
def sample(
    logits: ArrayLike,
    size: int | None = ...,
    *,
    axis: int = ...,
    temperature: ArrayLike = ...,
    top_k: ArrayLike | None = ...,
    top_p: ArrayLike | None = ...,
    min_p: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    replace: bool = ...,
    seed: Seed = ...,
    step: int = ...,
    row_offset: int = ...,
    return_log_prob: bool = ...,
    return_valid: bool = ...,
) -> tuple[Reduced, ...]: ...
def sample(
    logits: ArrayLike,
    size: int | None = None,
    *,
    axis: int = -1,
    temperature: ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
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
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    size : int, optional
        Draws of each row, below 2**32; one, without an axis of its own, if not given.
    axis : int, default -1
        Axis of the classes.
    temperature : array_like, default 1
        :math:`T \ge 0`: a number, or one for each row. 0 takes the largest logit, the lowest index of equal ones; inf
        makes all classes alike whose logit is not -inf.
    top_k : array_like of int, optional
        Keep that many of the largest logits, ties to the lowest index. 0 keeps all.
    top_p : array_like, optional
        Of those, keep the smallest set of likeliest classes that has this share of their probability, from 0 (one
        class) to 1 (all).
    min_p : array_like, optional
        Keep classes that are at least this times as likely as the likeliest, from 0 (all) to 1.
    where : array_like of bool, optional
        Broadcasts to `logits`. False entries are no classes, whatever they hold.
    replace : bool, default True
        False draws each class of a row at most once, the first like a draw with replacement, each next one among those
        that are left.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        An int is 64 bits; a generator gives its next 64; None takes fresh entropy.

        .. warning:: The same int with the same `step` makes the same draws at every call, so a loop repeats itself.
        Pass
           one ``numpy.random.Generator``, which moves on, or the number of the iteration as `step`.
    step : int, default 0
        Below 2**32. Steps of one seed are independent of each other.
    row_offset : int, default 0
        Number of the first row, where a batch is part of a larger one.
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

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    gumbel_softmax : Draws with a gradient.
    top_p_mask_logits : The logits that a filter keeps.
    torch.multinomial, numpy.random.Generator.choice

    Notes
    -----
    Accuracy: 53 random bits choose a class by the inverse of the distribution function, classes in index order, whose
    sums are right to 2\ :sup:`-24` of each term (2\ :sup:`-53` in float64). There is no limit to the number of
    classes. Log-probabilities are as accurate as those of `log_softmax` near certainty too. Without replacement the
    classes are those with the largest :math:`(x_j - \max_k x_k) / T + g_j`, where the Gumbel noise
    :math:`g = -\log(-\log(1 - v))` has a uniform v of 64 bits (Kool, van Hoof and Welling 2019).

    Special values: a class of probability 0 is never drawn. With +inf logits it is the first of them. A row with NaN,
    or with no class above -inf, gives -1, NaN for the log-probability and False, and leaves other rows alone.

    With `top_p` of at least 0.5 and without `top_k`, a draw is made without the filters first, and again under them if
    they do not keep it.

    The same seed gives the same draws for any number of threads, batch around a row, memory layout and instruction set;
    a larger `size` goes on where a smaller one ends.

    Without replacement a draw makes noise for every class, which costs tens of times a read.

    References
    ----------
    .. [1] Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
    .. [2] Holtzman, Buys, Du, Forbes and Choi, "The Curious Case of Neural Text Degeneration", ICLR 2020.
    .. [3] Nguyen et al., "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs", 2024.
    .. [4] Kool, van Hoof and Welling, "Stochastic Beams and Where to Find Them", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> vastmax.sample([0.0, np.log(3), -np.inf], size=8, seed=1)
    array([1, 1, 0, 1, 1, 1, 0, 0])
    >>> vastmax.sample([[0.0, 5.0, 5.0], [np.nan, 0.0, 0.0]], temperature=0, return_valid=True)
    (array([ 1, -1]), array([ True, False]))
    """
    return sampling.sample(
        logits,
        size,
        axis,
        temperature,
        top_k,
        top_p,
        min_p,
        where,
        replace,
        seed,
        step,
        row_offset,
        return_log_prob,
        return_valid,
    )


def gumbel_softmax(
    logits: ArrayLike, tau: float = 1.0, hard: bool = False, axis: int = -1, *, seed: Seed = None
) -> Array:
    r"""Return softmax of logits with Gumbel noise, which stands for a draw: for small tau one class has nearly all.

    .. math:: y_j = e^{(x_j + g_j) / \tau} \Big/ \sum_k e^{(x_k + g_k) / \tau}, \quad g = -\log(-\log(1 - v)),
        \quad v \text{ uniform}

    Parameters
    ----------
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    tau : float, default 1
        :math:`\tau > 0`, finite.
    hard : bool, default False
        Return 1 for the largest, the lowest index of equal ones, and 0 for all others: the draw itself.
    axis : int, default -1
        Axis of the classes.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        An int is 64 bits; a generator gives its next 64; None takes fresh entropy.

        .. warning:: The same int makes the same noise at every call, so a loop repeats itself. Pass one
           ``numpy.random.Generator``, which moves on.

    Returns
    -------
    ndarray
        The shape and dtype of `logits`.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    sample : Classes, without the relaxation.
    torch.nn.functional.gumbel_softmax

    Notes
    -----
    Accuracy: noise is computed in float64 from 64 random bits for each element and added to the logit in float32, or
    float64 for float64; then as `softmax`.

    Special values: those of `softmax`. With `hard`, a row whose largest logit is not finite is NaN, and no other is,
    however small :math:`\tau`.

    The largest is the first class that `sample` draws with ``replace=False`` and the same seed. Jang, Gu and Poole
    2017; the arguments are those of PyTorch.

    References
    ----------
    .. [1] Jang, Gu and Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017.
    .. [2] Maddison, Mnih and Teh, "The Concrete Distribution", ICLR 2017.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.gumbel_softmax([[0.0, 1.0, 2.0]], hard=True, seed=1)
    array([[0., 0., 1.]])
    """
    return sampling.gumbel_softmax(logits, tau, hard, axis, seed)
