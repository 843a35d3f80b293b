"""Norms within a row as NumPy functions: layer_norm and group_norm."""

from __future__ import annotations

import math

import numpy as np

from nbbn.functional.checks import check_x, per_channel, target
from nbbn.functional.lowered import activation_of, layer_of, output_shape, run
from nbbn.layers import GroupNormalization, LayerNormalization


def layer_norm(x: np.ndarray, gamma: np.ndarray | None = None, beta: np.ndarray | None = None, *,
               epsilon: float = 1e-5, activation: str | None = None,
               out: np.ndarray | None = None) -> np.ndarray:
    """Normalise over the last axis.

    `y = activation(gamma * (x - mean) / sqrt(var + epsilon) + beta)`.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., channels)
        Two dimensions or more. Fastest when C-contiguous; other layouts are copied.
    gamma, beta : ndarray of x's dtype, shape (channels,), optional
        1 and 0 where absent.
    epsilon : float
        Added to the (biased) variance inside the root, above 0.
    activation : str, optional
        A name of `nbbn.layers.ACTIVATIONS`; softmax goes over the last axis.
    out : ndarray, optional
        Where to write `y`: C-contiguous, of x's shape and dtype. May be reused from call to call,
        and may be `x`.

    Returns
    -------
    ndarray
        `out`, or a new array of x's shape.

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, dtypes that differ, and an activation that is no
        name.
    ValueError
        For an empty `x`, shapes that do not fit, an epsilon that is not above 0, an unknown
        activation, and an `out` that is not C-contiguous or not writeable.

    Notes
    -----
    Mean and variance are two passes in float64.

    References
    ----------
    Ba, Kiros and Hinton (2016), equation 3.
    """
    x, _ = check_x(x, -1)
    act = activation_of(activation)
    layer = layer_of(LayerNormalization, epsilon=epsilon)
    weights = per_channel(x.dtype, x.shape[-1], gamma=gamma, beta=beta)
    y = target(out, x.shape, x.dtype)
    run(layer, act, x, x.shape[-1:], weights, y)
    return y


def group_norm(x: np.ndarray, gamma: np.ndarray | None = None, beta: np.ndarray | None = None, *,
               groups: int, epsilon: float = 1e-5, activation: str | None = None,
               out: np.ndarray | None = None) -> np.ndarray:
    """Normalise each row's groups of channels.

    `y = activation(gamma * (x - mean) / sqrt(var + epsilon) + beta)`. A group is a run of
    neighbouring channels with all axes between the first and the last.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, ..., channels)
        Two dimensions or more. Fastest when C-contiguous; other layouts are copied.
    gamma, beta : ndarray of x's dtype, shape (channels,), optional
        1 and 0 where absent.
    groups : int
        Divides the number of channels; 1 normalises over the whole row, -1 each channel on its own
        (instance norm).
    epsilon : float
        Added to the (biased) variance inside the root, above 0.
    activation : str, optional
        A name of `nbbn.layers.ACTIVATIONS`; softmax goes over the channels.
    out : ndarray, optional
        Where to write `y`: C-contiguous, of x's shape and dtype. May be reused from call to call,
        and may be `x`.

    Returns
    -------
    ndarray
        `out`, or a new array of x's shape.

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, dtypes that differ, and an activation that is no
        name.
    ValueError
        For an empty `x`, shapes that do not fit, groups that do not divide the channels, an epsilon
        that is not above 0, an unknown activation, and an `out` that is not C-contiguous or not
        writeable.

    Notes
    -----
    Mean and variance are two passes in float64.

    References
    ----------
    Wu and He (2018), equations 1, 2 and 7; Ulyanov, Vedaldi and Lempitsky (2016) for the instance
    norm.
    """
    x, _ = check_x(x, -1)
    act = activation_of(activation)
    layer = layer_of(GroupNormalization, groups=groups, epsilon=epsilon)
    shape = output_shape(layer, x)
    weights = per_channel(x.dtype, x.shape[-1], gamma=gamma, beta=beta)
    y = target(out, shape, x.dtype)
    row = x.shape[1:] if x.ndim == 2 else (math.prod(x.shape[1:-1]), x.shape[-1])
    run(layer, act, x, row, weights, y)
    return y
