# SPDX-License-Identifier: Apache-2.0
"""What several docstrings say, written once: ``%(name)s`` on a line of its own stands for the text of that name."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])

_SHARED = {
    "x": """
x : array_like
    Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
    Python numbers become float64.""",
    "axis": """
axis : int, tuple of int, or None
    Axes that one row of probabilities spans; None means all.""",
    "temperature": """
temperature : array_like, optional
    :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
    number for each row. Finite and > 0. Divides the logits first.""",
    "out": """
out : ndarray, optional
    Where to write: the shape of `x` and the dtype of the result. May be `x`.""",
    "dtype": """
dtype : dtype, optional
    Converts the input first: float16, bfloat16, float32 or float64.""",
    "returns": """
Returns
-------
ndarray
    The shape and dtype of `x`; `out` if given; a NumPy scalar for a scalar.""",
    "raises": """
Raises
------
TypeError
    If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
ValueError
    If the shape or value of an argument is not as above. Nothing has been written then.""",
    "element_wise_accuracy": """
Accuracy: at most 1 ULP in float32, 2 in float64, 1 in float16 and bfloat16, into the subnormals.""",
    "element_wise": """
Parameters
----------
%(x)s
%(out)s
%(dtype)s

%(returns)s

%(raises)s""",
    "ufunc": """
Parameters
----------
%(x)s
out : ndarray or tuple of one ndarray, optional
    Where to write: the shape of the result and its dtype. May be `x`.
where : array_like of bool, default True
    Broadcasts with `x`. Where it is False, `out` stays as it is, and a new result has 0.
%(dtype)s

%(returns)s

%(raises)s""",
    "softmax_values": """
Accuracy: at most 2 ULP in float32, 4 in float64, 1 in float16 and bfloat16, for any number of classes.

Special values: -inf beside finite logits gives exactly 0. A row with NaN or +inf, or of -inf alone, gives
NaN. A row that `where` empties gives zeros. One finite logit gives exactly 1. An empty row stays empty.""",
    "log_softmax_values": """
Accuracy: at most 4 ULP, also near certainty, where the result is close to 0; 1 ULP in float16 and bfloat16.

Special values: -inf beside finite logits gives -inf. A row with +inf gives NaN there and -inf elsewhere. A
row with NaN, or of -inf alone, gives NaN. A row that `where` empties gives -inf. One finite logit gives
exactly +0.0.""",
    "softplus_values": """
Special values: softplus(-0.0) = ln 2, softplus(+inf) = +inf, softplus(-inf) = 0, NaN stays. There is no threshold.""",
    "sigmoid_values": """
Special values: sigmoid(+inf) = 1, sigmoid(-inf) = 0, NaN stays.""",
    "log_sigmoid_values": """
Special values: log_sigmoid(+inf) = 0, log_sigmoid(-inf) = -inf, NaN stays.""",
    "logits": """
logits : array_like
    :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers and
    Python numbers become float64.""",
    "cross_entropy_target": """
target : array_like, or tuple of two
    :math:`q`. Integers of the shape of the logits without `axis`: the class of each row. Floats of the shape of the
    logits: a probability of every class. A tuple ``(ids, probabilities)`` of two arrays with one more axis, the last:
    that many classes of each row with their probabilities; other classes have none, and an id that comes twice
    counts twice.
weight : array_like, optional
    :math:`w`, one for each class; 1 if not given.""",
    "class_axis": """
axis : int, default -1
    Axis of the classes.""",
    "cross_entropy_options": """
axis : int, default -1
    Axis of the :math:`K` classes.
ignore_index : int, default -100
    A row with this target counts as nothing, whatever its logits; among the ids of a tuple it stands for no class.
reduction : {"mean", "sum", "none"}, default "mean"
    "mean" divides by the sum of the weights of the targets, :math:`s \\, w`; for probabilities and tuples, by the sum
    of `sample_weight`. Where that is 0, the loss is NaN and its gradient 0.
label_smoothing : float, default 0
    :math:`\\epsilon`, from 0 to 1.
z_loss : float, default 0
    :math:`\\lambda \\ge 0`. Not multiplied by `weight`.
softcap : float, optional
    :math:`c > 0`, after the temperature; without it :math:`z = x / T`. A logit of -inf becomes :math:`-c`, a class like
    others: hide classes by `where`.
%(temperature)s
where : array_like of bool, optional
    Broadcasts to `logits`. False entries are no classes: they take no part, whatever they hold, and get no share of
    the smoothing.
sample_weight : array_like, optional
    :math:`s`, one for each row. A row of weight 0 counts as nothing, whatever its logits.""",
    "draw_seed": """
seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
    An int is 64 bits; a generator gives its next 64; None takes fresh entropy.

    .. warning:: The same int with the same `step` makes the same draws at every call, so a loop repeats itself. Pass
       one ``numpy.random.Generator``, which moves on, or the number of the iteration as `step`.
step : int, default 0
    Below 2**32. Steps of one seed are independent of each other.
row_offset : int, default 0
    Number of the first row, where a batch is part of a larger one.""",
    "target_raises": """
%(raises)s
IndexError
    If a class is out of range. The message names row, value and number of classes. Nothing has been written then.""",
    "cross_entropy_notes": """
Accuracy: at most 4 ULP for the loss of a row, also near certainty. Losses are float64 until they have been summed, in
one order. With a softcap that is for logits rounded to their dtype after it. With `z_loss` the bound is 4 ULP of the
larger of the loss and :math:`2 \\lambda |L| M`, where :math:`M` is the larger of :math:`|L|` and the largest
:math:`|z_j|`: where :math:`L` is nearly 0, it has the rounding errors of the logits.

Special values: a -inf logit of a class without weight adds nothing; of a target it makes the loss inf. A row with
NaN, or of -inf alone, gives NaN, as does +inf for its own class; for other classes it gives inf. The gradient of such
rows is NaN. A target that `where` leaves out gives inf. The mean of no rows is NaN, their sum 0, gradients are 0.""",
    "grad_output": """
grad_output : array_like
    :math:`g`, the gradient with respect to the result of the forward op, of its shape.""",
    "sampled": """
input : array_like
    :math:`x`, shape (B, D).
weight : array_like
    :math:`W`, shape (V, D), any number of classes: rows of float16, bfloat16 (ml_dtypes), float32 or float64 whose
    features follow each other; may be a `numpy.memmap`. Only the rows of targets and draws are read. On a GPU, where
    `input` and `bias` are then too, results come in the library of `input`.
target : array_like of int, or tuple of two
    :math:`t`, shape (B,) or (B, T), or ``(ids, offsets)`` where row i has ``ids[offsets[i]:offsets[i + 1]]``. Several
    targets of a row share it alike, :math:`y = 1 / T`; one that comes twice has twice the share.
bias : array_like, optional
    :math:`b`, shape (V,).
sampler : sampler
    Draws classes with a known probability :math:`q`: `UniformSampler`, `LogUniformSampler`, `UnigramSampler`,
    `MixtureSampler`, `PresetSampler`, `AllSampler`.
num_sampled : int
    :math:`S`. May be left out with `PresetSampler` and `AllSampler`, which have one size.""",
    "sampled_options": """
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

    .. warning:: The same int with the same `step` makes the same draws at every call, so a loop repeats itself. Pass
       one ``numpy.random.Generator``, which moves on, or the number of the iteration as `step`.
step : int, default 0
    Number of the training step, below 2**32: other draws from the same seed.
row_offset : int, default 0
    Number of the first row, where a batch is part of a larger one.
need_grad : bool, default True
    Whether gradients are wanted.""",
    "sampled_raises": """
%(raises)s
IndexError
    If a class is out of range. The message names row, value and number of classes. Nothing has been written then.""",
    "sampled_notes": """
Computed in float64 for float64 weights, else in float32 with sums over draws in float64. The same seed gives the same
draws whatever the machine and the number of threads; with ``share="row"`` the same bits, else those of the BLAS. NaN
among its classes makes a row NaN, as does a target with the logit +inf in `sampled_softmax`.""",
    "tf_true": """
true_classes : array_like of int
    Labels, shape (B, T).""",
    "tf_seed": """
seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
    Makes the draws, which are others than TensorFlow's.

    .. warning:: The same int makes the same draws at every call, so a loop repeats itself. Pass one
       ``numpy.random.Generator``, which moves on.
name : object
    Without effect.""",
    "tf_loss": """
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
    Draws (S,), and the expected counts Q of labels (B, T) and of draws (S,), as a candidate sampler returns them; by
    default those of `log_uniform_candidate_sampler` with ``unique=True``.""",
    "tf_raises": """
Raises
------
IndexError
    If a class is out of range.
TypeError
    If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
ValueError
    If the shape or value of an argument is not as above; if the expected count of a class is 0.""",
    "tf_notes": """
Computed in float64 if weights, biases or inputs are, else in float32; TensorFlow narrows the weights to the dtype of
the inputs.

Not as in TensorFlow: a class that was drawn several times is left out at all of its positions, not at the last alone;
draws and expected counts are those of `log_uniform_candidate_sampler` here.""",
    "tf_sampler": """
true_classes : array_like of int
    Labels, shape (B, T). They are not kept out of the draws.
num_true : int
    T, the labels of a row.
num_sampled : int
    How many classes to draw.
unique : bool
    Whether to draw without replacement.
range_max : int
    The number of classes.""",
    "tf_sample": """
CandidateSample
    `sampled_candidates`, int64, shape (num_sampled,); `true_expected_count` and `sampled_expected_count`, float32: how
    often each label and each draw is expected in the sample, in the shapes of `true_classes` and of the draws.""",
    "tf_sampler_raises": """
Raises
------
IndexError
    If a label is out of range.
TypeError, ValueError
    If an argument is not as above; if there are not `num_sampled` different classes to draw with `unique`.""",
    "tf_sampler_notes": """
Expected counts with `unique` are :math:`1 - e^{-q \\tau}`, with the time :math:`\\tau` at which the next class would
have come, so that sums over the sample divided by them are unbiased. TensorFlow has :math:`1 - (1 - q)^n` with the
number of tries n, which depends on the sample: biased by a percent and more.""",
    "linear": """
input : array_like
    :math:`x`, shape (..., D).
linear_weight : array_like
    :math:`W`, shape (V, D): float16, bfloat16 (ml_dtypes), float32 or float64, also a `numpy.memmap`.
linear_bias : array_like, optional
    :math:`b`, shape (V,).""",
    "linear_loss": """
target : array_like of int
    :math:`t`, the class of each row, of the shape of `input` without its last axis.
weight : array_like, optional
    :math:`w`, one number a class.
ignore_index : int, default -100
    Rows with this target contribute nothing, whatever they hold.
reduction : {"mean", "sum", "none"}, default "mean"
    "mean" divides by the sum of the weights of the targets.
label_smoothing : float, default 0
    Share of the target that all classes have alike, from 0 to 1.
z_loss : float, default 0
    Adds this times the square of logsumexp to the loss of each row.
softcap : float, optional
    Makes logits c tanh(z / c) first.""",
    "progress": """
progress : bool, default False
    Show a bar on standard error.""",
    "linear_raises": """
Raises
------
IndexError
    If a target is no class.
TypeError
    If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
ValueError
    If the shape or value of an argument is not as above. Nothing has been computed then.""",
    "linear_values": """
Accuracy: that of the matrix product, in float32, or float64 if an argument holds float64; what follows adds a few
ULP of the loss. A softcap of float32 logits adds up to 3 ULP of each. The same bits for the same BLAS, CPU type and
shapes.

Special values: those of `logsumexp`, and of `cross_entropy` for losses. The mean of no rows is NaN, their sum 0.""",
    "dask_x": """
x : dask.array.Array
    Logits, cut along any axes; dtypes as in `vastmax.softmax`.""",
    "dask_raises": """
Raises
------
ImportError
    If Dask is not installed.
TypeError
    If an argument is of the wrong kind.
ValueError
    If the shape or value of an argument is not as above.""",
    "dask_bits": """
The bits do not depend on scheduler or workers. Where every chunk but the last holds a multiple of 4096
classes, chunks show in the last bits of float64 alone, where merging rounds.""",
    "mpi_shard": """
shard : array_like
    The logits of this rank's classes, along the last axis; dtypes as in `vastmax.softmax`. Rows and dtype are
    the same on every rank, the number of classes need not be.
comm : mpi4py.MPI.Intracomm
    The ranks that hold the classes. All of them call.""",
    "mpi_raises": """
Raises
------
ImportError
    If mpi4py is not installed.
TypeError
    If an argument is of the wrong kind.
ValueError
    If the shape or value of an argument is not as above, or does not fit that of another rank.
RuntimeError
    If another rank had one of these errors.""",
    "mpi_bits": """
Where every rank but the last holds a multiple of 4096 classes, the number of
ranks shows in the last bits of float64 alone, where merging rounds.""",
    "gradient": """
out : ndarray, optional
    Where to write: the shape and dtype of the result. May be either input.

Returns
-------
ndarray
    The shape of the inputs. Where their dtypes differ, the wider.

%(raises)s""",
}


def filled(function: F) -> F:
    """Fill in what the docstring of a function shares with others."""
    if function.__doc__:  # python -OO has none
        function.__doc__ = _fill(function.__doc__)
    return function


def _fill(text: str) -> str:
    def shared(found: re.Match[str]) -> str:
        return textwrap.indent(_fill(_SHARED[found[2]].strip("\n")), found[1])

    return re.sub(r"^( *)%\((\w+)\)s$", shared, text, flags=re.MULTILINE)
