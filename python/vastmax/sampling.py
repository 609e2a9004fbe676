# SPDX-License-Identifier: Apache-2.0
"""Drawing from logits, and the order of the classes that its filters cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _filters
from ._docstrings import filled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._arrays import Array

__all__ = ["min_p_mask_logits", "top_k", "top_k_mask_logits", "top_p_mask_logits"]


@filled
def top_k(x: ArrayLike, k: int, axis: int = -1) -> tuple[Array, Array]:
    r"""Return the k largest elements of each row and their indices, in descending order.

    .. math:: x_{i_1} \ge x_{i_2} \ge \dots \ge x_{i_k} \ge x_j \text{ for every other } j

    Parameters
    ----------
    %(x)s
    k : int
        From 1 to the number of classes.
    %(class_axis)s

    Returns
    -------
    values : ndarray
        The shape of `x` with k in place of the length of `axis`, and its dtype.
    indices : ndarray of int64
        Where they are along `axis`.

    %(raises)s

    Notes
    -----
    Exact. Ties go to the lowest index; NaN ranks above +inf, as NumPy sorts it last.

    Examples
    --------
    >>> import vastmax
    >>> values, indices = vastmax.top_k([1.0, 5.0, 3.0, 5.0], 3)
    >>> values, indices
    (array([5., 5., 3.]), array([1, 3, 2]))
    """
    return _filters.top_k(x, k, axis)


@filled
def top_k_mask_logits(logits: ArrayLike, k: ArrayLike | None, *, axis: int = -1) -> Array:
    """Return logits with -inf in place of all but the k largest of each row.

    Parameters
    ----------
    %(logits)s
    k : array_like of int or None
        One number, or one for each row: the shape of the logits without `axis`. 0 and None keep all, as does a number
        above that of the classes.
    %(class_axis)s

    Returns
    -------
    ndarray
        The shape and dtype of `logits`.

    %(raises)s

    Notes
    -----
    Exactly k are kept: ties go to the lowest index. A row with NaN stays as it is.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.top_k_mask_logits([1.0, 5.0, 3.0, 5.0], 3)
    array([-inf,   5.,   3.,   5.])
    """
    return _filters.mask("top_k_mask_logits", logits, axis, k=k)


@filled
def top_p_mask_logits(logits: ArrayLike, p: ArrayLike | None, *, axis: int = -1) -> Array:
    r"""Return logits with -inf outside the smallest set of likeliest classes whose probability is at least p.

    .. math:: \text{the first } m \text{ classes by descending } x, \quad
              m = \min \Big\{ m \ge 1 : \sum_{i \le m} e^{x_i} \ge p \sum_j e^{x_j} \Big\}

    Parameters
    ----------
    %(logits)s
    p : array_like or None
        One number, or one for each row: the shape of the logits without `axis`. From 0, which keeps the largest, to 1,
        which keeps all, as None does.
    %(class_axis)s

    Returns
    -------
    ndarray
        The shape and dtype of `logits`.

    %(raises)s

    Notes
    -----
    Accuracy: the set is exact wherever no set of likeliest classes has a probability within 1e-12 of p. Ties go to
    the lowest index.

    Special values: a row with NaN stays as it is. Beside +inf, finite logits have no probability.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.top_p_mask_logits([0.0, 3.0, 2.0, -1.0], 0.9)
    array([-inf,   3.,   2., -inf])
    """
    return _filters.mask("top_p_mask_logits", logits, axis, top_p=p)


@filled
def min_p_mask_logits(logits: ArrayLike, p: ArrayLike | None, *, axis: int = -1) -> Array:
    r"""Return logits with -inf in place of classes whose probability is below p times that of the likeliest.

    .. math:: x_j \text{ is kept where } e^{x_j - \max_i x_i} \ge p

    Parameters
    ----------
    %(logits)s
    p : array_like or None
        One number, or one for each row: the shape of the logits without `axis`. From 0, which keeps all, as None does,
        to 1, which keeps the largest and what ties with it.
    %(class_axis)s

    Returns
    -------
    ndarray
        The shape and dtype of `logits`.

    %(raises)s

    Notes
    -----
    Special values: a row with NaN stays as it is. Beside +inf, finite logits have no probability.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.min_p_mask_logits([0.0, 3.0, 2.0, -1.0], 0.1)
    array([-inf,   3.,   2., -inf])
    """
    return _filters.mask("min_p_mask_logits", logits, axis, min_p=p)
