"""The arithmetic of folding: arrays in, arrays out; float64 inside, one cast at the end."""

from __future__ import annotations

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

_INPUTS_AT_A_TIME = 64
_CONV_KINDS = ("conv", "depthwise", "transposed")
# Of one value per channel; None where a layer has none.
Given = ArrayLike | None


class Affine(NamedTuple):
    """`y = gain * (x - mean) + offset` per channel; three float64 arrays of shape (channels,).

    The mean is kept apart: multiplied out, `gain * x + shift` cancels where the mean is large
    against the deviation.
    """

    gain: np.ndarray
    mean: np.ndarray
    offset: np.ndarray


def affine_of(gamma: Given, beta: Given, mean: ArrayLike, var: ArrayLike, epsilon: float) -> Affine:
    """What a batch norm does in inference; None stands for an absent gamma or beta."""
    centre = np.asarray(mean, np.float64)
    gain = 1.0 / np.sqrt(np.asarray(var, np.float64) + epsilon)
    if gamma is not None:
        gain = np.asarray(gamma, np.float64) * gain
    offset = np.zeros_like(centre) if beta is None else np.asarray(beta, np.float64)
    return Affine(gain, centre, offset)


def moves_zero(affine: Affine) -> bool:
    """Whether a map is more than a scale in any channel: zeros do not stay zeros."""
    return bool((affine.offset != affine.mean * affine.gain).any())


def scale_alone(affine: Affine) -> Affine:
    """The scale of a map, without its shift."""
    zeros = np.zeros_like(affine.mean)
    return Affine(affine.gain, zeros, zeros)


def is_identity(affine: Affine) -> bool:
    """Whether a map leaves all as it is."""
    return bool((affine.gain == 1).all() and (affine.offset == affine.mean).all())


def compose(first: Affine | None, second: Affine | None) -> Affine:
    """`second(first(x))`; None stands for the identity, which one of the two may be."""
    if second is None:
        assert first is not None
        return first
    if first is None:
        return second
    offset = (first.offset - second.mean) * second.gain + second.offset
    return Affine(first.gain * second.gain, first.mean, offset)


def standing_for(affine: Affine) -> tuple[dict[str, np.ndarray], float]:
    """Arrays and epsilon of a batch norm that does the same."""
    # var + epsilon is exactly 1 in any precision, so that gamma is the gain.
    var = np.full_like(affine.mean, 0.5)
    return {"gamma": affine.gain, "beta": affine.offset, "mean": affine.mean, "var": var}, 0.5


def scaled(kernel: np.ndarray, before: Affine | None, after: Affine | None, kind: str = "dense",
           groups: int = 1, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Kernel of a layer and of the batch norms before and after it, either None.

    In float64, rounded once to `dtype`. The axes lie in memory as those of `kernel` do; nothing of
    its size is made but the result.
    """
    out = np.empty_like(kernel, dtype=dtype)
    view, target = _by_group(kernel, kind, groups), _by_group(out, kind, groups)
    along = np.ones((1, 1)) if before is None else _along_inputs(before.gain, kind, groups)
    across = np.ones(1) if after is None else _along_outputs(after.gain, kernel.shape, kind, groups)
    if kind == "depthwise":  # the inputs are part of the output channels
        along, across = along * across, np.ones(1)
    axis = view.ndim - along.ndim  # of the inputs
    for some in _blocks(view.shape[axis]) if len(along) > 1 else [slice(None)]:
        at, factor = (slice(None),) * axis + (some,), along[some] * across
        np.multiply(view[at], factor, out=target[at], dtype=np.float64, casting="same_kind")
    return out


def _blocks(count: int) -> list[slice]:
    """Some inputs at a time, as float64 takes twice the kernel's memory."""
    return [slice(start, start + _INPUTS_AT_A_TIME) for start in range(0, count, _INPUTS_AT_A_TIME)]


def shifted(kernel: np.ndarray | None, bias: np.ndarray | None, before: Affine | None,
            after: Affine | None, kind: str = "dense", groups: int = 1) -> np.ndarray:
    """Bias (float64) of a layer and of the batch norms before and after it, either None.

    The kernel is the layer's own; without a batch norm before it, or one that only scales, none is
    needed.
    """
    total = np.zeros(()) if bias is None else np.asarray(bias, np.float64)
    if before is not None and moves_zero(before):
        assert kernel is not None
        total = total + _through(kernel, before.offset - before.mean * before.gain, kind, groups)
    return total if after is None else (total - after.mean) * after.gain + after.offset


def _by_group(kernel: np.ndarray, kind: str, groups: int) -> np.ndarray:
    """A view that shows the groups: (..., in / g, g, out / g), transposed (out / g, g, in / g)."""
    if kind not in ("conv", "transposed"):
        return kernel
    return kernel.reshape(*kernel.shape[:-1], groups, kernel.shape[-1] // groups)


def _along_inputs(values: np.ndarray, kind: str, groups: int) -> np.ndarray:
    """One value per input channel, for `_by_group`: a group of outputs reads its own inputs."""
    if kind == "transposed":
        return values.reshape(1, groups, -1)
    return values.reshape(groups, -1).T[:, :, None] if kind == "conv" else values[:, None]


def _along_outputs(values: np.ndarray, shape: tuple[int, ...], kind: str,
                   groups: int) -> np.ndarray:
    """One value per output channel, for `_by_group`; which axes are the channel differs by kind."""
    if kind == "depthwise":  # channel i * multiplier + m
        return values.reshape(shape[-2:])
    if kind == "conv":
        return values.reshape(groups, -1)
    if kind == "transposed":  # the group of an output channel is written on the input axis
        return values.reshape(groups, -1).T[:, :, None]
    return values


def _through(kernel: np.ndarray, shift: np.ndarray, kind: str, groups: int) -> np.ndarray:
    """What a constant per input channel adds to each output channel of an unpadded layer."""
    view = _by_group(kernel, kind, groups)
    spatial = tuple(range(view.ndim - (3 if kind == "conv" else 2)))
    total, along = np.zeros(1), _along_inputs(shift, kind, groups)
    if kind == "depthwise":
        return (view.sum(spatial, dtype=np.float64) * along).reshape(-1)
    for some in _blocks(view.shape[len(spatial)]):
        taps = view[(slice(None),) * len(spatial) + (some,)].sum(spatial, dtype=np.float64)
        total = total + (taps * along[some]).sum(0)
    return total.reshape(-1)


def cast(array: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
    """A C-contiguous copy in `dtype`; ValueError, naming `what`, where a value does not fit it."""
    with np.errstate(over="ignore"):
        return check_finite(np.array(array, dtype=dtype, order="C"), what)


def check_finite(array: np.ndarray, what: str) -> np.ndarray:
    """The array, a folded weight; ValueError, naming `what`, for NaN or infinity."""
    if not np.isfinite(array).all():
        raise ValueError(f"{what} is not finite in {array.dtype} after folding: a gain gamma / "
                         "sqrt(var + epsilon) is too large; re-estimate the running statistics or "
                         "use a larger epsilon")
    return array


def fold_dense(kernel: ArrayLike, bias: Given, gamma: Given, beta: Given, mean: ArrayLike,
               var: ArrayLike, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Fold the batch norm that follows a dense layer into the layer.

    Parameters
    ----------
    kernel : array of shape (in, out), float32 or float64
    bias : array of shape (out,) or None
        None for a layer without bias.
    gamma, beta : arrays of shape (out,) or None
        None where the batch norm has no scale, no center.
    mean, var : arrays of shape (out,)
        Running statistics; the variance is not negative.
    epsilon : float
        Added to the variance inside the root, above 0.

    Returns
    -------
    kernel : array of shape (in, out), dtype of `kernel`
    bias : array of shape (out,), dtype of `kernel`

    Raises
    ------
    TypeError
        For a dtype that is not numeric, or a kernel that is not float32 or float64.
    ValueError
        For a wrong shape or value, or a result that is not finite in the kernel's dtype.

    Notes
    -----
    `a = gamma / sqrt(var + epsilon)`, `kernel' = kernel * a`, `bias' = (bias - mean) * a + beta`,
    in float64, cast last. The inputs are not written.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> kernel, bias = nbbn.fold_dense(
    ...     np.array([[1.0], [2.0]]), None, [3.0], [0.5], mean=[1.0], var=[4.0], epsilon=1e-9
    ... )
    >>> kernel.round(3), bias.round(3)
    (array([[1.5],
           [3. ]]), array([-1.]))
    """
    given = {"bias": bias, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    return _fold(kernel, given, epsilon, "dense", 1)


def fold_conv(kernel: ArrayLike, bias: Given, gamma: Given, beta: Given, mean: ArrayLike,
              var: ArrayLike, epsilon: float, *, groups: int = 1,
              kind: str = "conv") -> tuple[np.ndarray, np.ndarray]:
    """Fold the batch norm that follows a convolution (1, 2 or 3 spatial axes) into the convolution.

    Parameters
    ----------
    kernel : array, float32 or float64
        `"conv"`: `(..., in / groups, out)`. `"depthwise"`: `(..., in, multiplier)`; the output
        channel is `i * multiplier + m`. `"transposed"`: `(..., out / groups, in)`; the inputs of
        group `g` are the g-th of `groups` equal runs of the last axis, and its outputs are the
        channels `g * (out / groups) + j`. The dots stand for the spatial axes.
    bias, gamma, beta, mean, var, epsilon
        As for `fold_dense`, one value per output channel.
    groups : int
        Number of groups; a depthwise kernel takes 1 or its number of input channels, which mean the
        same.
    kind : {"conv", "depthwise", "transposed"}

    Returns
    -------
    kernel : array, shape and dtype of `kernel`
    bias : array of shape (out,), dtype of `kernel`

    Raises
    ------
    TypeError, ValueError
        As for `fold_dense`, and for an unknown kind or groups that do not divide the channels.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> kernel, bias = nbbn.fold_conv(
    ...     np.ones((3, 3, 1, 2)), None, gamma=[1.0, 2.0], beta=[0.0, 0.0], mean=[0.0, 1.0],
    ...     var=[1.0, 4.0], epsilon=1e-9,
    ... )
    >>> kernel.shape, kernel[0, 0, 0].round(3), bias.round(3)
    ((3, 3, 1, 2), array([1., 1.]), array([ 0., -1.]))
    """
    if kind not in _CONV_KINDS:
        raise ValueError(f"kind must be one of {', '.join(_CONV_KINDS)}, got {kind!r}")
    given = {"bias": bias, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    return _fold(kernel, given, epsilon, kind, groups)


def _fold(of: ArrayLike, given: dict[str, Given], epsilon: float, kind: str,
          groups: int) -> tuple[np.ndarray, np.ndarray]:
    """`fold_dense` and `fold_conv`, of a kind that is known."""
    kernel = _check_kernel(of, kind)
    channels = kernel.shape[-1] if kind == "dense" else _conv_channels(kernel, kind, groups)
    arrays = {
        name: _check_channels(name, value, channels, kernel)
        for name, value in given.items()
        if value is not None or name in ("mean", "var")
    }
    if (arrays["var"] < 0).any():
        least = arrays["var"].min()
        raise ValueError(f"var must not be negative, got a minimum of {least}; pass the variance")
    if not isinstance(epsilon, Real):
        raise TypeError(f"epsilon must be a number, got {type(epsilon).__name__}")
    if not 0 < float(epsilon) < np.inf:
        raise ValueError(f"epsilon must be above 0 and finite, got {epsilon}; "
                         "pass the batch norm's own")
    # What overflows here is caught by `cast`, with a message that says so.
    with np.errstate(over="ignore", invalid="ignore"):
        gamma, beta = arrays.get("gamma"), arrays.get("beta")
        affine = affine_of(gamma, beta, arrays["mean"], arrays["var"], float(epsilon))
        new_kernel = scaled(kernel, None, affine, kind, int(groups))
        new_bias = shifted(kernel, arrays.get("bias"), None, affine)
    return cast(new_kernel, kernel.dtype, "kernel"), cast(new_bias, kernel.dtype, "bias")


def _conv_channels(kernel: np.ndarray, kind: str, groups: int) -> int:
    """Number of output channels of a convolution kernel; checks `groups`."""
    if not isinstance(groups, Integral) or isinstance(groups, bool):
        raise TypeError(f"groups must be an int, got {type(groups).__name__}")
    inner, last = kernel.shape[-2:]
    if kind == "depthwise":
        if groups not in (1, inner):
            raise ValueError(f"groups of a depthwise kernel {kernel.shape} must be 1 or {inner}, "
                             f"got {groups}")
        return inner * last
    if groups < 1 or last % groups:
        what = "input" if kind == "transposed" else "output"
        raise ValueError(f"groups must be at least 1 and divide the {last} {what} channels, "
                         f"got {groups}")
    return inner * groups if kind == "transposed" else last


def _check_kernel(given: ArrayLike, kind: str) -> np.ndarray:
    kernel, ranks = np.asarray(given), (2,) if kind == "dense" else (3, 4, 5)
    if kernel.dtype not in (np.float32, np.float64):
        raise TypeError(f"kernel must be float32 or float64, got {kernel.dtype}; "
                        "convert it with astype")
    if kernel.ndim not in ranks:
        raise ValueError(f"a {kind} kernel must have {' or '.join(map(str, ranks))} axes, "
                         f"got shape {kernel.shape}")
    return _finite("kernel", kernel)


def _check_channels(name: str, value: Given, channels: int, kernel: np.ndarray) -> np.ndarray:
    if value is None:
        raise ValueError(f"{name} must be given: "
                         "a batch norm folds only with its running statistics")
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")
    if array.shape != (channels,):
        raise ValueError(f"{name} must have shape ({channels},), one value per output channel of "
                         f"the kernel {kernel.shape}, got {array.shape}")
    return _finite(name, array.astype(np.float64))


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; only finite weights can be folded")
    return array
