"""Weights that PyTorch computes of others: weight norm and spectral norm, in inference."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from nbbn.formats.files import Refused, one_line
from nbbn.formats.torch.tensors import Tensor

_WAY_OUT = "remove it before saving: torch.nn.utils.parametrize.remove_parametrizations"
_PARAMETRIZED = re.compile(r"(.*?\.?)parametrizations\.(\w+)\.(.+)")


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each parametrised one computed of its parts, in its first part's place.

    Weight norm (Salimans and Kingma, 2016, eq. 2) is `g * v / ||v||`, spectral norm (Miyato et al.,
    2018, eq. 8 and 9) `w / (u @ W @ v)`, both as `torch.nn.utils` and its `parametrizations` store
    them.

    Raises
    ------
    Refused
        For other parametrisations.
    """
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        whole, part = _split(name, tensors)
        if part:
            parts.setdefault(whole, {})[part] = tensor
        found[whole] = tensor  # the place; the tensor itself where it has no parts
    for whole, of in parts.items():
        found[whole] = _computed(whole, of)
    return found


def _split(name: str, names: Mapping[str, Tensor]) -> tuple[str, str]:
    """The tensor that one is a part of, and which part; the name itself and nothing."""
    if match := _PARAMETRIZED.fullmatch(name):
        return f"{match[1]}{match[2]}", match[3]
    path, _, last = name.rpartition(".")
    stem, _, suffix = last.rpartition("_")
    whole = f"{path}.{stem}" if path else stem
    others = {"g": ("v",), "v": ("g", "orig"), "orig": ("u",), "u": ("orig",)}.get(suffix, ())
    return (whole, suffix) if any(f"{whole}_{o}" in names for o in others) else (name, "")


def _computed(whole: str, of: Mapping[str, Tensor]) -> Tensor:
    names = frozenset(of)
    for parts, compute in _KINDS.items():
        if names == frozenset(parts):
            first, *others = (of[part] for part in parts)
            if not all(_fits(first.shape, other.shape) for other in others):
                break
            fetch = partial(_result, compute, (first, *others))
            return Tensor(first.shape, first.double, fetch)
    raise Refused(f"{one_line(whole)!r} is parametrised in a way that is not read "
                  f"({', '.join(sorted(map(one_line, names)))}); {_WAY_OUT}")


def _fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a part is a gain along axes of the weight, or a vector of a matrix that it is."""
    gain = len(other) == len(shape) and all(m in (1, n) for n, m in zip(shape, other))
    size = math.prod(shape)
    return gain or (len(other) == 1 and other[0] > 0 and size % other[0] == 0)


def _result(compute: Callable[..., np.ndarray], of: tuple[Tensor, ...]) -> np.ndarray:
    arrays = [tensor.fetch() for tensor in of]
    result = compute(*(array.astype(np.float64) for array in arrays))
    return result.astype(arrays[0].dtype)


def _weight_norm(v: np.ndarray, g: np.ndarray) -> np.ndarray:
    along = tuple(axis for axis, n in enumerate(g.shape) if n == 1)
    return v * (g / np.sqrt((v * v).sum(axis=along, keepdims=True)))


def _spectral_norm(w: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Of the matrix whose rows are along the axis that `u` fits.

    Where two axes do (a transposed convolution's is the second), that of which `u` and `v` are more
    nearly singular vectors.
    """
    found = []
    for axis, n in enumerate(w.shape):
        if n == len(u) and w.size // n == len(v):
            image = np.moveaxis(w, axis, 0).reshape(n, -1) @ v
            sigma = float(u @ image)
            found.append((float(np.linalg.norm(image - sigma * u)) / abs(sigma or 1.0), sigma))
    return w / min(found)[1]


# The parts that a parametrisation has, the weight first, and what they make.
_KINDS: dict[tuple[str, ...], Callable[..., np.ndarray]] = {
    ("v", "g"): _weight_norm, ("original1", "original0"): _weight_norm,
    ("orig", "u", "v"): _spectral_norm, ("original", "0._u", "0._v"): _spectral_norm,
}  # fmt: skip
