"""Arrays that answer as the tensors of other programs do."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Tensor", "tensor"]


class Tensor(np.ndarray):
    """An array whose `numpy()` is a plain one: what calling a model gives."""

    def numpy(self) -> np.ndarray:
        """The numbers as a plain array."""
        return self.view(np.ndarray)

    def __array_wrap__(self, array: np.ndarray, context: Any = None,
                       return_scalar: bool = False) -> Any:
        # A mean, too, answers `numpy()`.
        return array.view(Tensor)

    def __getitem__(self, key: Any) -> Any:
        return tensor(super().__getitem__(key))


def tensor(given: Any) -> Tensor:
    """A number or an array as a `Tensor`, whose memory it shares."""
    return np.asarray(given).view(Tensor)


def __dir__() -> list[str]:
    return __all__
