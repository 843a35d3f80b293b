"""What every layer declares: its weights' shapes, its output's shape, how it is written to a file."""

from __future__ import annotations

from dataclasses import dataclass, fields

Shape = tuple[int, ...]


class LayerError(ValueError):
    """A layer that does not fit the shape it is given."""


@dataclass(frozen=True)
class Layer:
    """A plain specification: no arrays, no arithmetic.

    A shape here is that of one row, without the batch axis, channels last: `(features,)` or `(h, w, c)`.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one output row for one input row of `input_shape`."""
        return input_shape

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Name and shape of each array of the layer, in Keras's order; empty for a layer without weights."""
        return {}

    def config(self) -> dict:
        """The arguments as JSON-ready values; `layer_from_config` reads them."""
        return {"layer": type(self).__name__, **{f.name: getattr(self, f.name) for f in fields(self)}}


_LAYERS: dict[str, type[Layer]] = {}


def register(cls: type[Layer]) -> type[Layer]:
    """Make a layer class known to `layer_from_config`."""
    _LAYERS[cls.__name__] = cls
    return cls


def layer_from_config(config: dict) -> Layer:
    """The layer that `Layer.config` described.

    Raises
    ------
    LayerError
        For an unknown layer name or arguments that the layer does not take.
    """
    config = dict(config)
    name = config.pop("layer", None)
    if name not in _LAYERS:
        raise LayerError(f"unknown layer {name!r}; known layers: {', '.join(sorted(_LAYERS))}")
    known = {f.name for f in fields(_LAYERS[name])}
    if set(config) - known:
        raise LayerError(f"{name} does not take {', '.join(sorted(set(config) - known))}")
    return _LAYERS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})
