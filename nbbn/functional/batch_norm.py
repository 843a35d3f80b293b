"""Batch norm as NumPy functions, forward, backward and in inference, on arrays of any shape."""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nbbn.functional.checks import check_out, check_x
from nbbn.kernels import KERNELS, executor, norm, norm_rows
from nbbn.program.layout import aligned_bytes, lanes
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.runnable import call_program
from nbbn.thread_choice import CallChoice

BATCH_NORM_ACTIVATIONS = (None, "relu")
# A virtual row has at least so many floats: enough independent sums to hide the latency of adding
# to memory.
_WIDE = 256
# Floats of a block that one thread takes, and the largest number of blocks.
_BLOCK_FLOATS, _MOST_BLOCKS = 1 << 15, 64
# Floats of a run of rows that is read twice: half of a small L2.
_RUN_FLOATS = 1 << 13
# Below so many floats one thread is faster than two.
_TEAM_FLOATS = 1 << 16
# Results larger than this are written past the caches: they would only drive out what is needed.
_STREAM_BYTES = 24 << 20

# What runs, kernel by kernel: the whole forward pass, its last part alone, and the backward pass.
_PROGRAMS = {
    "forward": ("row_moments", "merge_moments", "normalise_rows{streamed}"),
    "apply": ("normalise_rows{streamed}",),
    "backward": ("row_sums", "merge_row_sums", "input_gradient{streamed}"),
}
_BUFFERS = {
    "x": Buffer("x", Segment.X), "dy": Buffer("dy", Segment.Y), "y": Buffer("y", Segment.OUT),
    "dx": Buffer("dx", Segment.OUT), "gamma": Buffer("gamma", Segment.GAMMA),
    "beta": Buffer("beta", Segment.BETA), "state": Buffer("state", Segment.PARAMS),
    "partial": Buffer("partial", Segment.WORK),
}


class BatchNormCache:
    """What the backward pass needs.

    Attributes
    ----------
    mean, var : ndarray of shape (channels,)
        Of the batch; the variance is the biased one.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import batch_norm_train
    >>> y, cache = batch_norm_train(np.array([[1.0], [3.0]]))
    >>> cache.mean, cache.var
    (array([2.]), array([1.]))
    """

    __slots__ = ("_axis", "_plan", "_state", "_x")

    def __init__(self, x: np.ndarray, state: np.ndarray, plan: _Plan, axis: int):
        self._x, self._state, self._plan, self._axis = x, state, plan, axis

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel."""
        return self._plan.row(self._state, norm_rows.MEAN)

    @property
    def var(self) -> np.ndarray:
        """Biased variance of each channel."""
        return self._plan.row(self._state, norm_rows.VAR)


class _Plan:
    """How an array of a shape is split, and the programs that run on it."""

    def __init__(self, rows: int, channels: int, dtype: np.dtype, activation: str | None,
                 epsilon: float):
        v = lanes(dtype)
        group = v // math.gcd(channels, v)
        group *= max(1, -(-_WIDE // (channels * group)))
        self.rows, self.channels, self.dtype, self.epsilon = rows, channels, dtype, epsilon
        self.per_channel = (channels,)
        self.width = channels * group
        self.virtual_rows = rows // group
        self.tail = (rows - self.virtual_rows * group) * channels
        floats = rows * channels
        most = min(_MOST_BLOCKS, max(1, self.virtual_rows // 2))
        self.blocks = max(1, min(most, floats // _BLOCK_FLOATS))
        self.run = max(2, _RUN_FLOATS // self.width)
        self.parallel = floats > _TEAM_FLOATS
        self.large = floats * dtype.itemsize > _STREAM_BYTES
        self.state_floats = norm_rows.STATE_ROWS * self.width
        self.work_bytes = norm_rows.PARTIAL_ROWS * self.blocks * self.width * dtype.itemsize
        self._relu = int(activation == "relu")
        self._tables: dict[tuple[str, bool], np.ndarray] = {}
        # Of arrays that one thread takes, tables as the executor is told of them.
        self._walked: dict[str, tuple[int, ...]] = {}
        self._run_alone = executor.run_call_alone.ready()
        self.choices = {program: CallChoice() for program in _PROGRAMS}

    def takes(self, x: np.ndarray, gamma: Any, beta: Any, out: Any) -> bool:
        """Whether the kernels take the arrays as they are, those of the usual call.

        `x` has the shape and the dtype of the plan.
        """
        return (x.flags.carray and self._is_per_channel(gamma) and self._is_per_channel(beta)
                and (out is None or (_takes_results_of(out, x) and not _may_share_memory(x, out))))

    def _is_per_channel(self, values: Any) -> bool:
        return (type(values) is np.ndarray and values.shape == self.per_channel
                and values.dtype is self.dtype and values.flags.carray)

    def call(self, program: str, x: np.ndarray, y: np.ndarray, out: np.ndarray, gamma: np.ndarray,
             beta: np.ndarray, state: np.ndarray) -> None:
        """Run a program of `_PROGRAMS` on arrays that the kernels take as they are."""
        if self.parallel:
            call_program(self.table(program, out), x, y, out, gamma, beta, state, self.work_bytes,
                         self.choices[program])
            return
        walked = self._walked.get(program)
        if walked is None:
            table = self.table(program, out)
            walked = self._walked[program] = id(table), *table.shape
        self._run_alone(*walked, id(x), id(y), id(out), id(gamma), id(beta), id(state),
                        self.work_bytes)

    def new_state(self) -> np.ndarray:
        """Room for the numbers of each channel."""
        return np.empty(self.state_floats, self.dtype)

    def gradients(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those by gamma and beta, after a backward pass."""
        return (self.row(state, norm_rows.GRADIENTS + norm.GAMMA),
                self.row(state, norm_rows.GRADIENTS + norm.BETA))

    def row(self, state: np.ndarray, row: int) -> np.ndarray:
        """One number a channel of a state."""
        return state[row * self.width : row * self.width + self.channels]

    def table(self, program: str, target: np.ndarray) -> np.ndarray:
        """Table of a program of `_PROGRAMS` for an array to write to.

        Stores past the caches need an address aligned to the vector.
        """
        # The address is asked for last: that takes as long as the rest of a small call.
        streamed = (self.large and self.width * self.dtype.itemsize % 64 == 0
                    and target.ctypes.data % 64 == 0)
        if (program, streamed) not in self._tables:
            suffix = "_streamed" if streamed else ""
            kernels = [k.format(streamed=suffix) for k in _PROGRAMS[program]]
            self._tables[program, streamed] = self._made_of(kernels).table(repeats=False)
        return self._tables[program, streamed]

    def _made_of(self, kernels: list[str]) -> Program:
        """A program of kernels that each get what they ask for."""
        known = {
            **_BUFFERS, "channels": self.channels, "width": self.width,
            "rows_total": self.virtual_rows, "rows_of_channel": self.rows, "tail": self.tail,
            "run": self.run, "blocks": self.blocks, "epsilon": self.epsilon, "relu": self._relu,
        }
        program = Program(self.dtype)
        for kernel in kernels:
            program.add(kernel, **{name: known[name] for name in KERNELS[kernel].operands})
        return program


_plan = functools.lru_cache(maxsize=256)(_Plan)
# Plans by shape, dtype, epsilon, axis and activation of calls that were checked step by step: the
# next one like it is on its way in a microsecond.
_known: dict[tuple, _Plan] = {}
_MOST_KNOWN = 256


def _known_plan(x: object, epsilon: object, axis: object, activation: object) -> _Plan | None:
    """The plan of an array like one before, with its channels last."""
    if type(x) is not np.ndarray:
        return None
    try:
        return _known.get((x.shape, x.dtype, epsilon, axis, activation))
    except TypeError:  # no number and no name: refused where it is looked at
        return None


def _know(plan: _Plan, x: np.ndarray, epsilon: float, axis: int, activation: str | None) -> None:
    if axis in (-1, x.ndim - 1):
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[x.shape, x.dtype, epsilon, axis, activation] = plan


def batch_norm_train(x: np.ndarray, gamma: ArrayLike | None = None, beta: ArrayLike | None = None,
                     *, epsilon: float = 1e-5, axis: int = -1, activation: str | None = None,
                     out: np.ndarray | None = None) -> tuple[np.ndarray, BatchNormCache]:
    """Normalise by the batch's own mean and variance.

    `y = activation(gamma * (x - mean) / sqrt(var + epsilon) + beta)`.

    Parameters
    ----------
    x : ndarray of float32 or float64, two dimensions or more
        Fastest when C-contiguous with the channels last; other layouts are copied.
    gamma, beta : array-like of shape (channels,), optional
        1 and 0 where absent.
    epsilon : float
        Added to the variance inside the root, above 0.
    axis : int
        The channel axis.
    activation : {None, "relu"}
    out : ndarray, optional
        Where to write `y`: of x's shape and dtype. May be `x`, then copied for the backward pass.

    Returns
    -------
    y : ndarray
        `out`, or a new array of x's shape.
    cache : BatchNormCache
        For `batch_norm_backward`; `cache.mean` and `cache.var` (biased), of shape (channels,).
        Holds `x` itself: a change to `x` before the backward pass changes the gradient.

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, or an `out` of another dtype.
    ValueError
        For an empty array, a single sample, or shapes that do not fit.

    Notes
    -----
    Two passes over values shifted by the first row, in the dtype of `x`, merged by Chan, Golub and
    LeVeque (1983), eq. 2.1; the blocks that are merged depend on the shape alone, so the bits do
    not depend on the number of threads.

    References
    ----------
    Ioffe and Szegedy (2015), algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import batch_norm_train
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> y, cache = batch_norm_train(x, gamma=[1.0, 2.0], beta=[0.0, 5.0])
    >>> y.round(3)
    array([[-1.,  3.],
           [ 1.,  7.]])
    >>> cache.mean, cache.var
    (array([ 2., 20.]), array([  1., 100.]))
    """
    known = _known_plan(x, epsilon, axis, activation)
    if known is not None and known.takes(x, gamma, beta, out):
        y, state = np.empty(x.shape, x.dtype) if out is None else out, known.new_state()
        known.call("forward", x, x, y, cast(Any, gamma), cast(Any, beta), state)
        return y, BatchNormCache(x, state, known, x.ndim - 1)
    given, (x, axis) = axis, check_x(x, axis)
    channels = x.shape[axis]
    rows = x.size // channels
    if rows < 2:
        raise ValueError(f"x has 1 sample per channel (shape {x.shape}, axis {axis}): "
                         "its variance is not defined; use 2 or more")
    plan, gamma, beta, target = _prepare(x, axis, channels, gamma, beta, epsilon, activation, out)
    rows_first = _channels_last(x, axis)
    if out is not None and _may_share_memory(rows_first, out):
        rows_first = rows_first.copy()
    state = plan.new_state()
    plan.call("forward", rows_first, rows_first, target, gamma, beta, state)
    if not plan.large:
        _know(plan, x, epsilon, given, activation)
    return _deliver(target, axis, x, out), BatchNormCache(rows_first, state, plan, axis)


def batch_norm_backward(dy: np.ndarray, cache: BatchNormCache, *,
                        out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `batch_norm_train`, its activation included.

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to `y`, of x's shape and dtype.
    cache : BatchNormCache
        From the forward pass; may be used again.
    out : ndarray, optional
        Where to write `dx`. May be `dy`.

    Returns
    -------
    dx : ndarray
        `out`, or a new array of x's shape.
    dgamma, dbeta : ndarray of shape (channels,)

    Raises
    ------
    TypeError
        For a `cache` that is none, or another dtype.
    ValueError
        For another shape.

    Notes
    -----
    `dx = gamma / std * (g - mean(g) - xhat * mean(g * xhat))` with `g` the gradient behind the
    activation's mask; the sums are taken in the dtype of `x` by block and merged in float64.

    References
    ----------
    Ioffe and Szegedy (2015), section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import batch_norm_backward, batch_norm_train
    >>> y, cache = batch_norm_train(np.array([[1.0], [2.0], [6.0]]))
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), cache)
    >>> dx.round(3), bool(abs(dx.sum()) < 1e-12), dbeta
    (array([[ 0.176],
           [-0.22 ],
           [ 0.044]]), True, array([1.]))
    """
    if not isinstance(cache, BatchNormCache):
        raise TypeError(f"cache must come from batch_norm_train, got {type(cache).__name__}")
    plan, axis, x = cache._plan, cache._axis, cache._x
    if (axis == x.ndim - 1 and not plan.large and _takes_results_of(dy, x)
            and (out is None or _takes_results_of(out, x))):
        state, dx = cache._state.copy(), np.empty(x.shape, x.dtype) if out is None else out
        plan.call("backward", x, dy, dx, state, state, state)
        return dx, *plan.gradients(state)
    dy = np.asarray(dy)
    shape = _shape_with(cache._x.shape, axis)
    if dy.shape != shape:
        raise ValueError(f"dy must have x's shape {shape}, got {dy.shape}")
    if dy.dtype != plan.dtype:
        raise TypeError(f"dy must have x's dtype {plan.dtype}, got {dy.dtype}")
    check_out(out, shape, plan.dtype)
    rows_first = _channels_last(dy, axis)
    if not rows_first.flags.aligned:
        rows_first = rows_first.copy()
    state = cache._state.copy()
    target = _target(out, cache._x, axis)
    plan.call("backward", cache._x, rows_first, target, state, state, state)
    return _deliver(target, axis, dy, out), *plan.gradients(state)


def batch_norm_inference(x: np.ndarray, gamma: ArrayLike | None, beta: ArrayLike | None,
                         mean: ArrayLike, var: ArrayLike, *, epsilon: float = 1e-5, axis: int = -1,
                         activation: str | None = None,
                         out: np.ndarray | None = None) -> np.ndarray:
    """Normalise by given statistics.

    `y = activation(gamma * (x - mean) / sqrt(var + epsilon) + beta)`.

    Parameters
    ----------
    x : ndarray of float32 or float64, two dimensions or more
    gamma, beta : array-like of shape (channels,) or None
        1 and 0 where None.
    mean, var : array-like of shape (channels,)
        `var` is not negative.
    epsilon : float
        Added to the variance inside the root, above 0.
    axis : int
        The channel axis.
    activation : {None, "relu"}
    out : ndarray, optional
        Where to write `y`: of x's shape and dtype. May be `x`.

    Returns
    -------
    ndarray
        `out`, or a new array of x's shape.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_train`, and for a negative variance; one sample is enough here.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import batch_norm_inference
    >>> batch_norm_inference(np.array([[3.0]]), None, None, mean=[1.0], var=[4.0]).round(3)
    array([[1.]])
    """
    x, axis = check_x(x, axis)
    channels = x.shape[axis]
    plan, gamma, beta, target = _prepare(x, axis, channels, gamma, beta, epsilon, activation, out)
    mean = _per_channel("mean", mean, channels, np.float64)
    var = _per_channel("var", var, channels, np.float64)
    if not (least := var.min(initial=0)) >= 0:
        raise ValueError(f"var must not be negative, got {least:g}")
    state = plan.new_state()
    by_channel = state.reshape(norm_rows.STATE_ROWS, -1, channels)
    gain = 1 / np.sqrt(var + epsilon) * gamma
    by_channel[norm.GAMMA], by_channel[norm.BETA] = gain, beta
    batch = by_channel[norm_rows.BATCH :]
    batch[norm.ORIGIN], batch[norm.INVSTD] = mean, 1
    batch[norm.SHIFT] = mean - batch[norm.ORIGIN, 0]
    plan.call("apply", _channels_last(x, axis), x, target, gamma, beta, state)
    return _deliver(target, axis, x, out)


def _prepare(x: np.ndarray, axis: int, channels: int, gamma: ArrayLike | None,
             beta: ArrayLike | None, epsilon: float, activation: str | None,
             out: np.ndarray | None) -> tuple[_Plan, np.ndarray, np.ndarray, np.ndarray]:
    """The plan, gamma and beta as arrays, and the array that the kernels write."""
    if activation not in BATCH_NORM_ACTIVATIONS:
        raise ValueError(f"activation must be None or 'relu', got {activation!r}")
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(f"epsilon must be above 0, got {epsilon}")
    check_out(out, x.shape, x.dtype)
    gamma = _per_channel("gamma", gamma, channels, x.dtype)
    beta = _per_channel("beta", beta, channels, x.dtype)
    target = _target(out, x, axis)
    plan = _plan(x.size // channels, channels, x.dtype, activation, float(epsilon))
    return plan, gamma, beta, target


def _per_channel(name: str, values: ArrayLike | None, channels: int,
                 dtype: DTypeLike) -> np.ndarray:
    if type(values) is np.ndarray and values.dtype == dtype and values.flags.c_contiguous:
        if values.shape == (channels,):
            return values  # the usual case, told apart fast
    if values is None:
        return _constant(1.0 if name == "gamma" else 0.0, channels, np.dtype(dtype))
    array = np.ascontiguousarray(values, dtype)
    if array.shape != (channels,):
        raise ValueError(f"{name} must have shape ({channels},), one number a channel, "
                         f"got {array.shape}")
    return array


@functools.lru_cache(maxsize=64)
def _constant(value: float, channels: int, dtype: np.dtype) -> np.ndarray:
    return np.full(channels, value, dtype)


def _takes_results_of(out: object, x: np.ndarray) -> bool:
    """Whether the kernels write to `out` as it is."""
    return (type(out) is np.ndarray and out.shape == x.shape and out.dtype is x.dtype
            and out.flags.carray)


def _may_share_memory(x: np.ndarray, out: np.ndarray) -> bool:
    """`numpy.may_share_memory`, which takes a while for two arrays that each own their memory."""
    if x.base is None and out.base is None:
        return x is out
    return np.may_share_memory(x, out)


def _channels_last(x: np.ndarray, axis: int) -> np.ndarray:
    """`x` itself, or an aligned, C-contiguous copy with the channels last."""
    if axis == x.ndim - 1 and x.flags.c_contiguous and x.flags.aligned:
        return x
    return np.require(np.moveaxis(x, axis, -1), None, ["C", "A"])


def _target(out: np.ndarray | None, x: np.ndarray, axis: int) -> np.ndarray:
    """`out` where the kernels can write it, else a new array, C-contiguous, channels last."""
    if out is not None and axis == out.ndim - 1 and out.flags.c_contiguous and out.flags.aligned:
        return out
    if x.nbytes > _STREAM_BYTES:
        return aligned_bytes(x.nbytes).view(x.dtype)
    return np.empty(x.size, x.dtype)


def _deliver(target: np.ndarray, axis: int, x: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """What the kernels wrote, in x's shape."""
    if target is out:
        return target
    shape = (*x.shape[:axis], *x.shape[axis + 1 :], x.shape[axis])
    y = np.moveaxis(target.reshape(shape), -1, axis)
    if out is None:
        return y if axis == x.ndim - 1 else np.ascontiguousarray(y)
    out[...] = y
    return out


def _shape_with(channels_last: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape whose channel axis `_channels_last` moved to the end."""
    rest = channels_last[:-1]
    return (*rest[:axis], channels_last[-1], *rest[axis:])
