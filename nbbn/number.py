"""Numbers that answer as the scalar tensors of other programs do."""

import numpy as np


class Number(float):
    """A float whose `numpy()` is a NumPy number: what calling a loss or a metric gives."""

    def numpy(self) -> np.float64:
        """The same as NumPy has it."""
        return np.float64(self)
