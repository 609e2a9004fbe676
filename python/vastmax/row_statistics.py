# SPDX-License-Identifier: Apache-2.0
"""Statistics of rows from one read of the logits: entropy, log-probabilities, ranks, the likeliest classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._ops import row_statistics
from ._ops.results import SoftmaxStats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._operands.arrays import Reduced

__all__ = ["SoftmaxStats", "entropy", "kl_divergence", "selective_log_softmax", "softmax_stats"]


def softmax_stats(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    axis: int = -1,
    top_n: int = 0,
    temperature: ArrayLike | None = None,
) -> SoftmaxStats:
    r"""Return what the probabilities of each row are like, in one read of the logits.

    .. math:: L = \log \sum_j e^{x_j / T}, \quad \log p_j = x_j / T - L, \quad H = -\sum_j p_j \log p_j

    Parameters
    ----------
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    target : array_like of int, optional
        A class of each row: the shape of the logits without `axis`.
    axis : int, default -1
        Axis of the classes.
    top_n : int, default 0
        How many of the likeliest classes to return.
    temperature : array_like, optional
        :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
        number for each row. Finite and > 0. Divides the logits first.

    Returns
    -------
    SoftmaxStats
        One of each for each row, floats in float64 for float64 logits (and what becomes float64), else float32; ints in
        int64: `lse`, :math:`L`; `max`, the largest :math:`x_j / T`; `argmax`; `entropy`, :math:`H` in nats.
        With `target`, else None: `target_log_prob`; `target_rank`, 1 + how many logits are larger.
        With `top_n`, else None, and with one more axis, the last: `top_log_probs`, descending, and `top_indices`.

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
    entropy : One of these statistics.
    selective_log_softmax : The log-probabilities of chosen classes.
    top_k : The largest logits.

    Notes
    -----
    Accuracy: `lse` as `logsumexp`, log-probabilities as `log_softmax`, `entropy` at most 8 ULP. Ranks and indices are
    exact; ties go to the lowest index.

    Special values: -inf logits have no probability and add nothing to the entropy. A row with NaN, +inf, or of -inf
    alone has NaN for entropy; the rest is as in `logsumexp` and `log_softmax`. NaN ranks as the largest.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> stats = vastmax.softmax_stats(np.array([[0, 3, 3, -np.inf]], np.float32), [0], top_n=2)
    >>> stats.argmax, stats.target_rank, stats.top_indices
    (array([1]), array([3]), array([[1, 2]]))
    >>> stats.entropy
    array([0.7906026], dtype=float32)
    """
    return row_statistics.softmax_stats(logits, target, axis, top_n, temperature)


def entropy(logits: ArrayLike, axis: int = -1, *, temperature: ArrayLike | None = None) -> Reduced:
    r"""Return the entropy of the probabilities that logits stand for, in nats, in one read of the logits.

    .. math:: H = -\sum_j p_j \log p_j, \quad p_j = e^{x_j / T} \big/ \sum_k e^{x_k / T}

    Parameters
    ----------
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    axis : int, default -1
        Axis of the classes.
    temperature : array_like, optional
        :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
        number for each row. Finite and > 0. Divides the logits first.

    Returns
    -------
    scalar or ndarray
        One for each row: float64 for float64 logits (and what becomes float64), else float32.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    softmax_stats : More of a row in the same read.
    kl_divergence : Relative entropy of two rows.
    scipy.stats.entropy

    Notes
    -----
    Accuracy: at most 8 ULP, also near certainty, where the entropy is close to 0.

    Special values: -inf logits add nothing. A row with NaN, +inf, or of -inf alone gives NaN; one finite logit gives 0,
    as does a row without classes.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.entropy([0.0, 0.0, float("-inf")])
    np.float64(0.6931471805599453)
    """
    return row_statistics.entropy(logits, axis, temperature)


def selective_log_softmax(
    logits: ArrayLike, index: ArrayLike, axis: int = -1, *, temperature: ArrayLike | None = None
) -> Reduced:
    r"""Return the logarithms of the probabilities of a few classes, in one read of the logits.

    .. math:: y_k = x_{i_k} / T - \log \sum_j e^{x_j / T}

    Parameters
    ----------
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    index : array_like of int
        :math:`i`: the shape of the logits without `axis`, or that and one more axis for several classes of each row.
    axis : int, default -1
        Axis of the classes.
    temperature : array_like, optional
        :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
        number for each row. Finite and > 0. Divides the logits first.

    Returns
    -------
    scalar or ndarray
        The shape of `index`: float64 for float64 logits (and what becomes float64), else float32.

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
    log_softmax : Of all classes.
    cross_entropy : Their weighted negative sum.

    Notes
    -----
    Accuracy: at most 4 ULP, also near certainty.

    Special values: those of `log_softmax`, which has the same results for all classes.

    The name is that of the function in TRL.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.selective_log_softmax([40.0, 0.0], [0, 1])
    array([-4.24835426e-18, -4.00000000e+01])
    >>> vastmax.selective_log_softmax([[7.0, 7.0]], [1])
    array([-0.69314718])
    """
    return row_statistics.selective_log_softmax(logits, index, axis, temperature)


def kl_divergence(p_logits: ArrayLike, q_logits: ArrayLike, axis: int = -1) -> Reduced:
    r"""Return the Kullback-Leibler divergence between the probabilities that two arrays of logits stand for, in nats.

    .. math:: D = \sum_j p_j \, (\log p_j - \log q_j)

    Parameters
    ----------
    p_logits, q_logits : array_like
        Logits of one shape; dtypes as in `softmax`.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    scalar or ndarray
        One for each row: float64 if one of the two is float64 (or becomes it), else float32.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    entropy : Of one row.
    scipy.special.rel_entr, torch.nn.functional.kl_div

    Notes
    -----
    Accuracy: at most 8 ULP of the larger of the result and the largest term. Each array is read once.

    Special values: a class without probability in p adds nothing; one that only q lacks makes the result inf. A row
    with NaN, +inf, or of -inf alone in either gives NaN.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.kl_divergence([0.0, 0.0], [0.0, 0.0])
    np.float64(0.0)
    >>> vastmax.kl_divergence([0.0, float("-inf")], [0.0, 0.0])
    np.float64(0.6931471805599453)
    """
    return row_statistics.kl_divergence(p_logits, q_logits, axis)
