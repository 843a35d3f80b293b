"""Resized images: as a layer where each pixel becomes a block of equal ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nbbn.formats.onnx.builder import Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.read_shapes import BATCH
from nbbn.layers import UpSampling2D

# The first opset in which a node says where pixels lie, and may give sizes for scales.
_WITH_MODES = 11
# Where pixel `x` of `n * times` lies among the `n` it is made of.
_PLACES: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "asymmetric": lambda x, n, times: x / times,
    "tf_half_pixel_for_nn": lambda x, n, times: (x + 0.5) / times,
    "half_pixel": lambda x, n, times: (x + 0.5) / times - 0.5,
    "pytorch_half_pixel": lambda x, n, times: (x + 0.5) / times - 0.5,
    "half_pixel_symmetric": lambda x, n, times: (x + 0.5) / times - 0.5,
    "align_corners": lambda x, n, times: x * (n - 1) / max(n * times - 1, 1),
}
# Which pixel is nearest to a place.
_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: np.floor(place + 0.5), "floor": np.floor, "ceil": np.ceil,
}


def resize(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Whole scales of height and width, whose nearest pixels are each as often there."""
    net.require_image()
    mode = node.attributes.get("mode", "nearest")
    if mode != "nearest":
        raise node.refuse(f"mode {mode} is not supported; UpSampling2D is mode nearest")
    batch = BATCH if net.batch is None else net.batch
    scales = scales_of(node, args, net.opset, (batch, *net.graph_shape))
    if scales is None:
        raise node.refuse("its scales or sizes are no constants that fit images")
    whole = np.all((scales >= 1) & (scales < 2**31) & (scales == np.floor(scales)))
    if not whole or np.any(scales[:2] != 1):
        raise node.refuse(f"scales {scales.tolist()} are not supported; "
                          "UpSampling2D makes height and width whole numbers of times as large")
    down, right = map(int, scales[2:])
    for n, times in zip(net.shape, (down, right)):
        _require_repeats(node, net.opset, n, times, net.limited(n * times))
    if (down, right) != (1, 1):
        net.add(UpSampling2D((down, right)))


def scales_of(node: OnnxNode, args: Args, opset: int,
              shape: Sequence[int | None]) -> np.ndarray | None:
    """How many times as large each axis of an array of `shape` becomes.

    NaN for an axis whose size would have to be known; None where all of it is.
    """
    options, rank = node.attributes, len(shape)
    old = node.operator == "Upsample" or opset < _WITH_MODES
    given = dict(zip(("x", "scales") if old else ("x", "roi", "scales", "sizes"), args))
    scales, sizes = given.get("scales", options.get("scales")), given.get("sizes")
    axes = [axis % rank for axis in options.get("axes") or range(rank)]
    if sizes is not None and np.size(sizes):
        if options.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        before = np.array([shape[axis] for axis in axes], np.float64)  # None becomes NaN
        scales = sizes / before if np.shape(sizes) == before.shape else None
    if scales is None or np.shape(scales) != (len(axes),):
        return None
    every = np.ones(rank)
    every[axes] = scales
    return every


def _require_repeats(node: OnnxNode, opset: int, n: int, times: int, count: int) -> None:
    """Raise Refused unless the nearest of `n` pixels are each of them `times` in a row."""
    options, old = node.attributes, node.operator == "Upsample" or opset < _WITH_MODES
    places = "asymmetric" if old else options.get("coordinate_transformation_mode", "half_pixel")
    nearest = "floor" if old else options.get("nearest_mode", "round_prefer_floor")
    pixels = np.arange(n)
    if places in _PLACES and nearest in _NEAREST:
        found = _NEAREST[nearest](_PLACES[places](np.arange(count), n, times))
        if np.array_equal(found.clip(0, n - 1), pixels.repeat(times)):
            return
    raise node.refuse(f"coordinate_transformation_mode {places} with nearest_mode {nearest} makes "
                      f"no equal blocks of {n} pixels times {times}; asymmetric with floor does")
