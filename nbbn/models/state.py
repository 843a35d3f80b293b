"""The optimiser's arrays as text, for the header of a model's file: the file's tensors are those of the network alone."""

from __future__ import annotations

import base64
import zlib

import numpy as np

from nbbn.network import Weights

# Characters of all arrays together: a file's header ends at 100 MB.
LARGEST = 90_000_000


def to_text(arrays: dict[str, np.ndarray]) -> dict[str, list]:
    """JSON-ready form of float32 or float64 arrays: by name, dtype, shape and the compressed bytes, which carry a checksum.

    Raises
    ------
    ValueError
        For more than a header holds.
    """
    texts = {
        name: [array.dtype.name, list(array.shape), base64.b64encode(zlib.compress(array.tobytes(), 1)).decode()]
        for name, array in arrays.items()
    }
    size = sum(len(text) for _, _, text in texts.values())
    if size > LARGEST:
        raise ValueError(f"the optimizer's state takes {size / 1e6:.0f} MB, and a file's header at most {LARGEST / 1e6:.0f}")
    return texts


def from_text(texts: dict[str, list], weights: Weights) -> dict[str, np.ndarray]:
    """The inverse of `to_text`, for an optimiser of these weights.

    Raises
    ------
    ValueError, KeyError, IndexError
        For anything else; no more memory is taken than the weights have.
    """
    arrays = {}
    for name, (dtype, shape, text) in texts.items():
        layer, array, _ = name.split(".")
        wanted = weights[int(layer)][array]
        if (dtype, tuple(shape)) != (wanted.dtype.name, wanted.shape):
            raise ValueError(f"the optimizer's array {name} must be {wanted.dtype} of shape {wanted.shape}, got {dtype}, {shape}")
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(base64.b64decode(text), wanted.nbytes + 1)
        except (zlib.error, ValueError) as err:
            raise ValueError(f"the optimizer's array {name} is damaged ({err})") from err
        if len(data) != wanted.nbytes or not stream.eof:
            raise ValueError(f"the optimizer's array {name} is damaged: it does not fill the shape {wanted.shape}")
        arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return arrays
