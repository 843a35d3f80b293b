"""A network: layers, the shape of a row, and the weights.

What estimators, folding and files hand to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nbbn.layers import Layer, LayerError, layer_from_config
from nbbn.operations import Builder, Computation, Shape

Weights = list[dict[str, np.ndarray]]


def computation(layers: Sequence[Layer], input_shape: Shape) -> Computation:
    """What layers that follow one another compute in training.

    Raises
    ------
    LayerError
        Where a layer cannot take the rows that reach it.
    """
    builder, source = Builder(input_shape), -1
    for layer in layers:
        shape = builder.shape(source)
        source = builder.add_layer(layer.operations(shape), layer.arrays(shape), (source,))
    return builder.computation()


@dataclass(frozen=True)
class Network:
    """Layers and their weights, in the user's layout; holds no training state and compiles nothing.

    Attributes
    ----------
    layers : tuple of Layer
    input_shape : tuple of int
        Shape of one row, channels last.
    weights : list of dict
        One dict per layer, array by name (`Layer.weight_shapes`), of dtype `dtype`; empty without
        weights.
    dtype : numpy.dtype
        float32 or float64.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
    >>> network = model.network()
    >>> network.shapes, network.dtype, sorted(network.weights[0])
    ([(4,), (3,)], dtype('float32'), ['bias', 'kernel'])
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...]
    weights: Weights
    dtype: np.dtype

    @property
    def shapes(self) -> list[Shape]:
        """Shape of one row before each layer, and after the last: `len(layers) + 1` entries."""
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return shapes

    def computation(self, *, training: bool = False) -> Computation:
        """What is computed; `weights[step.layer]` are a step's arrays."""
        whole = computation(self.layers, self.input_shape)
        return whole if training else whole.inference

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output row."""
        return self.shapes[-1]

    def check(self) -> Network:
        """Return self if every array is there, as declared, of the network's dtype, and finite.

        Raises
        ------
        LayerError
            Which layer, which array, what was expected and what came.
        """
        if self.dtype not in (np.float32, np.float64):
            raise LayerError(f"a network computes in float32 or float64, not {self.dtype}")
        if len(self.weights) != len(self.layers):
            raise LayerError(f"{len(self.layers)} layers, but weights for {len(self.weights)}")
        for i, (layer, shape, arrays) in enumerate(zip(self.layers, self.shapes, self.weights)):
            where = f"layer {i} ({type(layer).__name__})"
            want = layer.weight_shapes(shape)
            if set(want) != set(arrays):
                raise LayerError(f"{where} needs arrays {sorted(want)}, got {sorted(arrays)}")
            for name, array in arrays.items():
                if array.shape != want[name] or array.dtype != self.dtype:
                    raise LayerError(f"{where}: {name} must be {self.dtype} of shape {want[name]}, "
                                     f"got {array.dtype} of shape {array.shape}")
                if not np.isfinite(array).all():
                    raise LayerError(f"{where}: {name} holds NaN or infinity")
                if name == "var" and (array < 0).any():
                    raise LayerError(f"{where}: a variance is negative")
        return self

    def astype(self, dtype: str | type | np.dtype | None) -> Network:
        """The network with its arrays rounded to float32 or float64; itself for None.

        Raises
        ------
        ValueError
            For any other dtype.
        LayerError
            Where a number of an array is too large for it.
        """
        if dtype is None:
            return self
        try:
            wanted = np.dtype(dtype)
        except TypeError:
            wanted = np.dtype(object)
        if wanted not in (np.float32, np.float64):
            raise ValueError(f"dtype must be None, 'float32' or 'float64', got {dtype!r}")
        if wanted == self.dtype:
            return self
        with np.errstate(over="ignore"):
            rounded = [{n: a.astype(wanted) for n, a in arrays.items()} for arrays in self.weights]
        return replace(self, weights=rounded, dtype=wanted).check()

    def config(self) -> dict:
        """Everything but the arrays, JSON-ready."""
        return {
            "input_shape": list(self.input_shape),
            "dtype": self.dtype.name,
            "layers": [layer.config() for layer in self.layers],
        }

    @classmethod
    def from_config(cls, config: dict, weights: Weights) -> Network:
        """The network that `config` described, with these arrays, checked."""
        layers = tuple(layer_from_config(c) for c in config["layers"])
        shape = tuple(int(n) for n in config["input_shape"])
        return cls(layers, shape, weights, np.dtype(config["dtype"])).check()
