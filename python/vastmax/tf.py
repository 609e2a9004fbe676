# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's candidate sampling for NumPy: names, argument order, defaults, shapes and dtypes of `tf.nn`.

TensorFlow itself is not needed. Where its results are wrong, these are not: see `sampled_softmax_loss` and
`compute_accidental_hits`. It differentiates these losses, NumPy does not: `vastmax.sampled_softmax` with
``correction="candidate", unique=True``, and `vastmax.nce_loss`, give loss and gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ._backends.host import HostCall
from ._operands import arrays, seeds, targets
from ._operands.numbers import check_float, check_int
from ._ops import elementwise, losses
from ._ops.sampled import negatives
from .errors import Op, called, message
from .samplers import AllSampler, LogUniformSampler, UniformSampler, UnigramSampler, checked_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from ._operands.arrays import Array
    from ._operands.seeds import Seed
    from ._ops.sampled.proposal import Sampler

    F64 = NDArray[np.float64]
    Ids = NDArray[np.int64]

__all__ = [
    "AccidentalHits",
    "CandidateSample",
    "all_candidate_sampler",
    "compute_accidental_hits",
    "fixed_unigram_candidate_sampler",
    "log_uniform_candidate_sampler",
    "nce_loss",
    "sampled_softmax_loss",
    "uniform_candidate_sampler",
]


class CandidateSample(NamedTuple):
    """The result of a candidate sampler: int64 classes (S,), float32 counts (B, num_true) and (S,)."""

    sampled_candidates: NDArray[np.int64]
    true_expected_count: NDArray[np.float32]
    sampled_expected_count: NDArray[np.float32]


class AccidentalHits(NamedTuple):
    """The result of `compute_accidental_hits`: int32 rows, int64 positions, float32 weights, one of each a hit."""

    indices: NDArray[np.int32]
    ids: NDArray[np.int64]
    weights: NDArray[np.float32]


def sampled_softmax_loss(
    weights: ArrayLike | Sequence[ArrayLike],
    biases: ArrayLike | Sequence[ArrayLike],
    labels: ArrayLike,
    inputs: ArrayLike,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    remove_accidental_hits: bool = True,
    seed: Seed = None,
    name: object = None,
) -> Array:
    r"""Return TensorFlow's sampled softmax loss of each row.

    .. math:: \ell = \log\Big(\sum_t e^{u_t} + \sum_s e^{u_s}\Big) - \frac1T \sum_t u_t,
        \quad u_j = x w_j + b_j - \log Q_j

    Parameters
    ----------
    weights : array_like, or list of them
        :math:`W`, shape (V, D), or shards of it one after the other, as TensorFlow 2 takes them ("div"); may be a
        `numpy.memmap`. Only the rows of labels and draws are read.
    biases : array_like, or list of them
        :math:`b`, shape (V,).
    labels : array_like of int
        :math:`t`, shape (B, T).
    inputs : array_like
        :math:`x`, shape (B, D).
    num_sampled : int
        :math:`S`, how many classes to draw, for all rows together. Without effect beside `sampled_values`.
    num_classes : int
        V.
    num_true : int, default 1
        :math:`T`, the labels of a row. Each has 1 / T of the target.
    sampled_values : tuple of three, optional
        Draws (S,), and the expected counts Q of labels (B, T) and of draws (S,), as a candidate sampler returns them;
        by default those of `log_uniform_candidate_sampler` with ``unique=True``.
    remove_accidental_hits : bool, default True
        Leave a draw out, wherever it is, if it is a label of its row.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Makes the draws, which are others than TensorFlow's.

        .. warning:: The same int makes the same draws at every call, so a loop repeats itself. Pass one
           ``numpy.random.Generator``, which moves on.
    name : object
        Without effect.

    Returns
    -------
    ndarray
        Shape (B,), of the dtype of `inputs`.

    Raises
    ------
    IndexError
        If a class is out of range.
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above; if the expected count of a class is 0.

    Notes
    -----
    Computed in float64 if weights, biases or inputs are, else in float32; TensorFlow narrows the weights to the dtype
    of the inputs.

    Not as in TensorFlow: a class that was drawn several times is left out at all of its positions, not at the last
    alone; draws and expected counts are those of `log_uniform_candidate_sampler` here.

    Q is of targets and draws alike, so the value is not comparable with the full loss: that is `correction="candidate"`
    of `vastmax.sampled_softmax`, whose default, "importance", estimates the full loss. A label that comes twice in a
    row is in the first sum twice, here and in TensorFlow.

    Jean et al. (2015).

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> weights, biases = np.zeros((1_000_000, 4)), np.zeros(1_000_000)
    >>> drawn = [5, 3, 90, 5], [[0.5], [0.5]], [0.5, 0.5, 0.5, 0.5]
    >>> x = np.ones((2, 4))
    >>> loss = vastmax.tf.sampled_softmax_loss(weights, biases, [[5], [7]], x, 4, 1_000_000, sampled_values=drawn)
    >>> np.exp(loss)
    array([3., 5.])
    """
    op = Op("cross_entropy", "tf.sampled_softmax_loss")
    problem = _Problem(op, weights, biases, labels, inputs, num_classes, num_true)
    z = problem.logits(num_sampled, sampled_values, remove_accidental_hits, seed)
    rows = len(z)
    target: Any = np.zeros(rows, np.int64)
    if num_true > 1:
        shape = (rows, num_true)
        target = np.broadcast_to(np.arange(num_true), shape), np.full(shape, 1 / num_true, z.dtype)
    options = (None, -1, -100, "none", 0.0, 0.0, None, None, None, None)
    loss = losses.cross_entropy(op, z, target, *options, return_lse=False).loss
    return problem.returned(loss)


def nce_loss(
    weights: ArrayLike | Sequence[ArrayLike],
    biases: ArrayLike | Sequence[ArrayLike],
    labels: ArrayLike,
    inputs: ArrayLike,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    remove_accidental_hits: bool = False,
    seed: Seed = None,
    name: object = None,
) -> Array:
    r"""Return TensorFlow's noise-contrastive loss of each row.

    .. math:: \ell = \sum_t \Big(\log(1 + e^{u_t}) - \frac{u_t}T\Big) + \sum_s \log(1 + e^{u_s}),
        \quad u_j = x w_j + b_j - \log Q_j

    Parameters
    ----------
    weights : array_like, or list of them
        :math:`W`, shape (V, D), or shards of it one after the other, as TensorFlow 2 takes them ("div"); may be a
        `numpy.memmap`. Only the rows of labels and draws are read.
    biases : array_like, or list of them
        :math:`b`, shape (V,).
    labels : array_like of int
        :math:`t`, shape (B, T).
    inputs : array_like
        :math:`x`, shape (B, D).
    num_sampled : int
        :math:`S`, how many classes to draw, for all rows together. Without effect beside `sampled_values`.
    num_classes : int
        V.
    num_true : int, default 1
        :math:`T`, the labels of a row. Each has 1 / T of the target.
    sampled_values : tuple of three, optional
        Draws (S,), and the expected counts Q of labels (B, T) and of draws (S,), as a candidate sampler returns them;
        by default those of `log_uniform_candidate_sampler` with ``unique=True``.
    remove_accidental_hits : bool, default False
        Leave a draw out, wherever it is, if it is a label of its row.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Makes the draws, which are others than TensorFlow's.

        .. warning:: The same int makes the same draws at every call, so a loop repeats itself. Pass one
           ``numpy.random.Generator``, which moves on.
    name : object
        Without effect.

    Returns
    -------
    ndarray
        Shape (B,), of the dtype of `inputs`.

    Raises
    ------
    IndexError
        If a class is out of range.
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above; if the expected count of a class is 0.

    Notes
    -----
    Computed in float64 if weights, biases or inputs are, else in float32; TensorFlow narrows the weights to the dtype
    of the inputs.

    Not as in TensorFlow: a class that was drawn several times is left out at all of its positions, not at the last
    alone; draws and expected counts are those of `log_uniform_candidate_sampler` here.

    TensorFlow's own has no `seed`.

    Gutmann and Hyvarinen (2010); Mnih and Teh (2012).

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> drawn = [5, 3, 9], [[1.0]], [1.0, 1.0, 1.0]
    >>> loss = vastmax.tf.nce_loss(np.zeros((10, 2)), np.zeros(10), [[5]], np.ones((1, 2)), 3, 10, sampled_values=drawn)
    >>> loss / np.log(2)
    array([4.])
    """
    op = "tf.nce_loss"
    problem = _Problem(op, weights, biases, labels, inputs, num_classes, num_true)
    z = problem.logits(num_sampled, sampled_values, remove_accidental_hits, seed)
    of_labels = np.ascontiguousarray(z[:, :num_true])
    share = np.full_like(of_labels, 1 / num_true)
    bce = Op("binary_cross_entropy_with_logits", op)
    own = cast("Array", elementwise.elementwise_loss(bce, of_labels, share, None, None, "none", False))
    drawn = elementwise.elementwise(Op("softplus", op), z[:, num_true:], None, None)
    with np.errstate(all="ignore"):
        loss: Array = own.sum(axis=1, dtype=np.float64) + drawn.sum(axis=1, dtype=np.float64)
    return problem.returned(loss)


def compute_accidental_hits(
    true_classes: ArrayLike, sampled_candidates: ArrayLike, num_true: int, seed: object = None, name: object = None
) -> AccidentalHits:
    """Return where a sampled class is a label of a row.

    Parameters
    ----------
    true_classes : array_like of int
        Labels, shape (B, T).
    sampled_candidates : array_like of int
        The draws, shape (S,).
    num_true : int
        T, the labels of a row.
    seed, name : object
        Without effect, as in TensorFlow.

    Returns
    -------
    AccidentalHits
        `indices`, the row of each hit, int32; `ids`, its position among the draws, int64; `weights`, the largest
        negative number of float32 for each. Ordered by row, then position.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    Notes
    -----
    Each pair of row and position comes once. TensorFlow gives only the last position of a class that was drawn several
    times, and a position several times if its class is a label of the row several times.

    Examples
    --------
    >>> import vastmax
    >>> hits = vastmax.tf.compute_accidental_hits([[4], [9]], [7, 9, 4, 9], num_true=1)
    >>> hits.indices, hits.ids
    (array([0, 1, 1], dtype=int32), array([2, 1, 3]))
    """
    op = "tf.compute_accidental_hits"
    ids = _labels(op, "true_classes", true_classes, num_true, arrays.as_given(op, "true_classes", true_classes), None)
    drawn = targets.integers(op, "sampled_candidates", sampled_candidates, (np.size(sampled_candidates),))
    rows, at = _hits(ids, drawn.astype(np.int64, copy=False))
    return AccidentalHits(rows.astype(np.int32), at, np.full(len(at), np.finfo(np.float32).min))


def all_candidate_sampler(
    true_classes: ArrayLike, num_true: int, num_sampled: int, unique: bool, seed: object = None, name: object = None
) -> CandidateSample:
    """Return all classes, each expected once.

    Parameters
    ----------
    true_classes : array_like of int
        Labels, shape (B, T).
    num_true : int
        T, the labels of a row.
    num_sampled : int
        The number of classes.
    unique, seed, name : object
        Without effect, as in TensorFlow.

    Returns
    -------
    CandidateSample
        `sampled_candidates`, int64, shape (num_sampled,); `true_expected_count` and `sampled_expected_count`, float32:
        how often each label and each draw is expected in the sample, in the shapes of `true_classes` and of the draws.

    Raises
    ------
    IndexError
        If a label is out of range.
    TypeError, ValueError
        If an argument is not as above; if there are not `num_sampled` different classes to draw with `unique`.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.tf.all_candidate_sampler([[2]], 1, 4, True).sampled_candidates
    array([0, 1, 2, 3])
    """
    op = "tf.all_candidate_sampler"
    _at_least_one(op, "num_sampled", num_sampled)
    return _candidates(op, AllSampler(num_sampled), true_classes, num_true, num_sampled, True, None)


def uniform_candidate_sampler(
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Seed = None,
    name: object = None,
) -> CandidateSample:
    r"""Draw classes, every one alike.

    Parameters
    ----------
    true_classes : array_like of int
        Labels, shape (B, T). They are not kept out of the draws.
    num_true : int
        T, the labels of a row.
    num_sampled : int
        How many classes to draw.
    unique : bool
        Whether to draw without replacement.
    range_max : int
        The number of classes.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Makes the draws, which are others than TensorFlow's.

        .. warning:: The same int makes the same draws at every call, so a loop repeats itself. Pass one
           ``numpy.random.Generator``, which moves on.
    name : object
        Without effect.

    Returns
    -------
    CandidateSample
        `sampled_candidates`, int64, shape (num_sampled,); `true_expected_count` and `sampled_expected_count`, float32:
        how often each label and each draw is expected in the sample, in the shapes of `true_classes` and of the draws.

    Raises
    ------
    IndexError
        If a label is out of range.
    TypeError, ValueError
        If an argument is not as above; if there are not `num_sampled` different classes to draw with `unique`.

    Notes
    -----
    Expected counts with `unique` are :math:`1 - e^{-q \tau}`, with the time :math:`\tau` at which the next class would
    have come, so that sums over the sample divided by them are unbiased. TensorFlow has :math:`1 - (1 - q)^n` with the
    number of tries n, which depends on the sample: biased by a percent and more.

    Examples
    --------
    >>> import vastmax
    >>> sample = vastmax.tf.uniform_candidate_sampler([[2]], 1, 5, False, range_max=100, seed=0)
    >>> sample.sampled_candidates
    array([88, 60, 36,  3, 31])
    >>> sample.true_expected_count
    array([[0.05]], dtype=float32)
    """
    op = "tf.uniform_candidate_sampler"
    _at_least_one(op, "range_max", range_max)
    return _candidates(op, UniformSampler(range_max), true_classes, num_true, num_sampled, unique, seed)


def log_uniform_candidate_sampler(
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Seed = None,
    name: object = None,
) -> CandidateSample:
    r"""Draw classes that are numbered from frequent to rare, as words by rank in Zipf's law.

    Parameters
    ----------
    true_classes : array_like of int
        Labels, shape (B, T). They are not kept out of the draws.
    num_true : int
        T, the labels of a row.
    num_sampled : int
        How many classes to draw.
    unique : bool
        Whether to draw without replacement.
    range_max : int
        The number of classes.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Makes the draws, which are others than TensorFlow's.

        .. warning:: The same int makes the same draws at every call, so a loop repeats itself. Pass one
           ``numpy.random.Generator``, which moves on.
    name : object
        Without effect.

    Returns
    -------
    CandidateSample
        `sampled_candidates`, int64, shape (num_sampled,); `true_expected_count` and `sampled_expected_count`, float32:
        how often each label and each draw is expected in the sample, in the shapes of `true_classes` and of the draws.

    Raises
    ------
    IndexError
        If a label is out of range.
    TypeError, ValueError
        If an argument is not as above; if there are not `num_sampled` different classes to draw with `unique`.

    Notes
    -----
    Expected counts with `unique` are :math:`1 - e^{-q \tau}`, with the time :math:`\tau` at which the next class would
    have come, so that sums over the sample divided by them are unbiased. TensorFlow has :math:`1 - (1 - q)^n` with the
    number of tries n, which depends on the sample: biased by a percent and more.

    Examples
    --------
    >>> import vastmax
    >>> sample = vastmax.tf.log_uniform_candidate_sampler([[2]], 1, 4, True, range_max=100_000_000, seed=0)
    >>> sample.sampled_candidates.shape, sample.true_expected_count.shape
    ((4,), (1, 1))
    """
    op = "tf.log_uniform_candidate_sampler"
    _at_least_one(op, "range_max", range_max)
    return _candidates(op, LogUniformSampler(range_max), true_classes, num_true, num_sampled, unique, seed)


def fixed_unigram_candidate_sampler(
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    vocab_file: str = "",
    distortion: float = 1.0,
    num_reserved_ids: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    unigrams: ArrayLike = (),
    seed: Seed = None,
    name: object = None,
) -> CandidateSample:
    r"""Draw classes as often as they were counted, or as a power of that.

    Parameters
    ----------
    true_classes : array_like of int
        Labels, shape (B, T). They are not kept out of the draws.
    num_true : int
        T, the labels of a row.
    num_sampled : int
        How many classes to draw.
    unique : bool
        Whether to draw without replacement.
    range_max : int
        The number of classes.
    vocab_file : str, default ""
        Must be empty: pass `unigrams`.
    distortion : float, default 1.0
        Power of the counts; 0 draws every class alike.
    num_reserved_ids : int, default 0
        Classes before the first one of `unigrams`, which are never drawn.
    num_shards, shard : int, defaults 1 and 0
        Draw only the classes c with ``c % num_shards == shard``, and call them ``c // num_shards``, as TensorFlow
        does: `range_max` and labels are those of the shard.
    unigrams : array_like
        Counts, one a class from `num_reserved_ids` on.
    seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Makes the draws, which are others than TensorFlow's.

        .. warning:: The same int makes the same draws at every call, so a loop repeats itself. Pass one
           ``numpy.random.Generator``, which moves on.
    name : object
        Without effect.

    Returns
    -------
    CandidateSample
        `sampled_candidates`, int64, shape (num_sampled,); `true_expected_count` and `sampled_expected_count`, float32:
        how often each label and each draw is expected in the sample, in the shapes of `true_classes` and of the draws.

    Raises
    ------
    IndexError
        If a label is out of range.
    TypeError, ValueError
        If an argument is not as above; if there are not `num_sampled` different classes to draw with `unique`.

    Notes
    -----
    Expected counts with `unique` are :math:`1 - e^{-q \tau}`, with the time :math:`\tau` at which the next class would
    have come, so that sums over the sample divided by them are unbiased. TensorFlow has :math:`1 - (1 - q)^n` with the
    number of tries n, which depends on the sample: biased by a percent and more.

    The table is built anew by each call: `vastmax.UnigramSampler` keeps it. Totals are exact where TensorFlow's, in
    float32, stall near 2**24. With both shards and reserved classes TensorFlow counts classes from the reserved ones of
    the shard, not from all of them, and so picks others than those that it names; these are the right ones.

    Examples
    --------
    >>> import vastmax
    >>> sample = vastmax.tf.fixed_unigram_candidate_sampler([[1]], 1, 10, False, 3, unigrams=[1.0, 2.0, 1.0], seed=0)
    >>> sample.true_expected_count
    array([[5.]], dtype=float32)
    """
    op = "tf.fixed_unigram_candidate_sampler"
    if vocab_file:
        raise ValueError(message(op, "vocab_file", f"is {vocab_file!r}", "'', with the counts as unigrams="))
    counts = _shard_of(op, unigrams, distortion, num_reserved_ids, num_shards, shard, range_max)
    sampler = UnigramSampler(counts, check_float(op, "distortion", distortion) or 1.0)
    return _candidates(op, sampler, true_classes, num_true, num_sampled, unique, seed)


def _shard_of(
    op: str, unigrams: ArrayLike, distortion: float, reserved: int, shards: int, shard: int, range_max: int
) -> Array:
    """Return the counts of the classes of a shard."""
    given = checked_counts(op, "unigrams", unigrams)
    before = check_int(op, "num_reserved_ids", reserved, 0, 1 << 32, "an int from 0 to 2**32")
    parts = _at_least_one(op, "num_shards", shards)
    mine = check_int(op, "shard", shard, 0, parts - 1, f"an int from 0 to {parts - 1}")
    classes = len(range(mine, before + given.size, parts))
    if _at_least_one(op, "range_max", range_max) != classes:
        accepted = f"{classes}, the classes of unigrams and the reserved, of this shard"
        raise ValueError(message(op, "range_max", f"is {range_max}", accepted))
    if distortion == 0:
        given = np.ones_like(given)
    return checked_counts(op, "unigrams", np.concatenate([np.zeros(before, given.dtype), given])[mine::parts])


def _at_least_one(op: str, argument: str, value: object) -> int:
    return check_int(op, argument, value, 1, 1 << 40, "an int from 1 to 2**40")


def _candidates(
    op: str, sampler: Sampler, true_classes: ArrayLike, num_true: int, size: int, unique: bool, seed: Seed
) -> CandidateSample:
    labels = arrays.as_given(op, "true_classes", true_classes)
    ids = _labels(op, "true_classes", true_classes, num_true, labels, sampler.classes)
    count = _count(op, sampler, size, unique)
    sampled, true, drawn = _draw(op, sampler, ids, count, unique, seeds.key(op, seed))
    with np.errstate(all="ignore"):  # counts below the smallest float32
        return CandidateSample(sampled, np.exp(true).astype(np.float32), np.exp(drawn).astype(np.float32))


def _count(op: str, sampler: Sampler, size: int, unique: bool) -> int:
    """Check `num_sampled`."""
    count = check_int(op, "num_sampled", size, 1, (1 << 32) - 1, "an int from 1 to 2**32 - 1")
    return sampler._checked_size(op, count, bool(unique), "num_sampled")


def _draw(op: str, sampler: Sampler, ids: Ids, count: int, unique: bool, key: int) -> tuple[Ids, F64, F64]:
    """Return draws, and the logarithms of how often labels and draws are expected."""
    draws = negatives.shared(op, sampler, count, key, 0, bool(unique))
    scale = np.log(count) if draws.replaced else 0.0
    flat = sampler._log_q(ids.reshape(-1)) if not isinstance(sampler, AllSampler) else np.zeros(ids.size)
    true = draws.expected(flat, np.zeros(ids.size, np.int64)) + scale
    return draws.ids[0], true.reshape(ids.shape), draws.log_expected[0] + scale


def _labels(op: str, argument: str, value: ArrayLike, num_true: int, given: Array, classes: int | None) -> Ids:
    """Check labels, and return them as (B, num_true)."""
    width = check_int(op, "num_true", num_true, 1, 1 << 32, "an int >= 1")
    shape = (len(given), width) if given.ndim else (0, width)
    if given.ndim == 1 and width == 1:
        value = given = given.reshape(shape)
    ids = targets.integers(op, argument, value, shape)
    return ids.astype(np.int64) if classes is None else targets.in_range(op, argument, ids, classes, row_dims=1)


def _hits(labels: Ids, sampled: Ids) -> tuple[Ids, Ids]:
    """Return row and position of every draw that is a label of the row, ordered, each once."""
    order = np.argsort(sampled, kind="stable")
    ordered = sampled[order]
    flat = np.sort(labels, axis=1)
    first = np.searchsorted(ordered, flat, "left")
    count = np.searchsorted(ordered, flat, "right") - first
    count[:, 1:][flat[:, 1:] == flat[:, :-1]] = 0  # the same label again
    first, count = first.reshape(-1), count.reshape(-1)
    rows = np.repeat(np.repeat(np.arange(len(labels)), labels.shape[1]), count)
    start = np.cumsum(count) - count
    at = order[np.repeat(first - start, count) + np.arange(len(rows))]
    by_row = np.lexsort((at, rows))
    return rows[by_row], at[by_row]


class _Rows:
    """A table, or shards of one that lie one after the other: TensorFlow 2 divides a table in no other way."""

    def __init__(self, op: str, argument: str, value: ArrayLike | Sequence[ArrayLike], ndim: int) -> None:
        many = isinstance(value, list | tuple) and len(value) > 0 and all(np.ndim(part) == ndim for part in value)
        parts = cast("Sequence[ArrayLike]", value) if many else [cast("ArrayLike", value)]
        self._parts = [arrays.as_given(op, argument, part) for part in parts]
        for part in self._parts:
            arrays.computed_dtype(op, argument, part.dtype)
            if part.ndim != ndim or part.shape[1:] != self._parts[0].shape[1:]:
                accepted = "(num_classes, dim)" if ndim == 2 else "(num_classes,)"
                raise ValueError(message(op, argument, f"has shape {part.shape}", f"{accepted}, or a list of shards"))
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.classes, self.shape = int(self._ends[-1]), self._parts[0].shape[1:]
        self.wide = any(arrays.computed_dtype(op, argument, part.dtype) == arrays.F64 for part in self._parts)

    def take(self, ids: Ids, kind: np.dtype[Any]) -> Array:
        """Read some rows, and no others."""
        found = np.empty((len(ids), *self.shape), kind)
        where = np.searchsorted(self._ends, ids, "right")
        for i, part in enumerate(self._parts):
            mine = where == i
            found[mine] = part[ids[mine] - (self._ends[i] - len(part))]
        return found


class _Problem:
    """Arguments of a loss, checked."""

    def __init__(
        self,
        op: str,
        weights: ArrayLike | Sequence[ArrayLike],
        biases: ArrayLike | Sequence[ArrayLike],
        labels: ArrayLike,
        inputs: ArrayLike,
        num_classes: int,
        num_true: int,
    ) -> None:
        self._op = op
        self._weights, self._biases = _Rows(op, "weights", weights, 2), _Rows(op, "biases", biases, 1)
        rows = self._weights.classes
        if self._biases.classes != rows:
            raise ValueError(message(op, "biases", f"has {self._biases.classes} classes", f"{rows}, as weights has"))
        self._classes = check_int(
            op, "num_classes", num_classes, 1, rows, f"an int from 1 to {rows}, the rows of weights"
        )
        x = arrays.as_float_array(op, "inputs", inputs)
        if x.ndim != 2 or x.shape[1:] != self._weights.shape:
            raise ValueError(message(op, "inputs", f"has shape {x.shape}", f"(rows, {self._weights.shape[0]})"))
        self.dtype = x.dtype
        wide = x.dtype == arrays.F64 or self._weights.wide or self._biases.wide
        self._x = arrays.dense(x, arrays.F64 if wide else arrays.F32)
        given = arrays.as_given(op, "labels", labels)
        self._labels = _labels(op, "labels", labels, num_true, given, self._classes)
        if len(self._labels) != len(x):
            raise ValueError(message(op, "labels", f"has {len(self._labels)} rows", f"{len(x)}, as inputs has"))

    def logits(
        self,
        num_sampled: int,
        sampled_values: tuple[ArrayLike, ArrayLike, ArrayLike] | None,
        remove_accidental_hits: bool,
        seed: Seed,
    ) -> Array:
        """Return the corrected logits of each row's labels, then those of the draws; -inf for a hit."""
        x, labels, kind = self._x, self._labels, self._x.dtype
        if sampled_values is None:
            sampler = LogUniformSampler(self._classes)
            count = _count(self._op, sampler, num_sampled, True)
            seeds.check(self._op, seed)
            self._planned(count)
            key = seeds.key(self._op, seed)
            sampled, true_log, sampled_log = _draw(self._op, sampler, labels, count, True, key)
        else:
            sampled, true_log, sampled_log = self._given(sampled_values)
            self._planned(len(sampled))
        width = labels.shape[1]
        flat = labels.reshape(-1)
        z = np.empty((len(x), width + len(sampled)), kind)
        with np.errstate(all="ignore"):
            own = self._weights.take(flat, kind).reshape(*labels.shape, x.shape[1])
            z[:, :width] = np.matmul(own, x[:, :, None])[:, :, 0]
            z[:, :width] += self._biases.take(flat, arrays.F64).reshape(labels.shape) - true_log
            np.matmul(x, self._weights.take(sampled, kind).T, out=z[:, width:])
            z[:, width:] += (self._biases.take(sampled, arrays.F64) - sampled_log).astype(kind)
        if remove_accidental_hits:
            rows, at = _hits(labels, sampled)
            z[rows, width + at] = -np.inf
        return z

    def returned(self, loss: Array) -> Array:
        """Return losses in the dtype of the inputs."""
        return arrays.cast(loss, self.dtype)

    def _planned(self, draws: int) -> None:
        """Stop here if the call is only to be explained."""
        kind, met = self._x.dtype, self._labels.size + draws
        how = f"{draws} draws for all rows, gathered once; matrix products on the threads of NumPy's BLAS"
        size = met * (self._x.shape[1] + 1) * kind.itemsize
        HostCall(self._op).plan_on_cpu(called(self._op), len(self._x), self._classes, kind, (size, how))

    def _given(self, values: tuple[ArrayLike, ArrayLike, ArrayLike]) -> tuple[Ids, F64, F64]:
        """Check `sampled_values`."""
        op, argument = self._op, "sampled_values"
        try:
            ids, true, drawn = values
        except (TypeError, ValueError):
            accepted = "(sampled_candidates, true_expected_count, sampled_expected_count)"
            raise TypeError(message(op, argument, f"is a {type(values).__name__}", accepted)) from None
        sampled = targets.class_ids(op, argument, ids, (np.size(ids),), self._weights.classes)
        logs = []
        for counts, shape in ((true, self._labels.shape), (drawn, sampled.shape)):
            given = arrays.as_float_array(op, argument, counts)
            if given.shape != shape and not (given.ndim == 1 and (len(given), 1) == shape):
                raise ValueError(message(op, argument, f"has expected counts of shape {given.shape}", f"{shape}"))
            if not (given > 0).all():
                raise ValueError(message(op, argument, f"has expected count {given[~(given > 0)][0]}", "numbers > 0"))
            logs.append(np.log(given.astype(np.float64)).reshape(shape))
        return sampled, logs[0], logs[1]
