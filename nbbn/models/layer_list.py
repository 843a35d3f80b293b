"""The layers of a model in order: names, shapes between them, arrays once shapes are known."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nbbn.layers import Input, Layer, LayerError
from nbbn.layers.names import free_name
from nbbn.network import Network
from nbbn.operations import Computation

Shape = tuple[int, ...]


@dataclass(eq=False)
class Entry:
    """One layer of a list, with a name."""

    spec: Layer
    # How many layers the model had been given before; the initial weights follow from it.
    number: int
    # In the order of `Layer.weight_shapes`; None while the shape of the rows is not known.
    arrays: dict[str, np.ndarray] | None = None
    # How often the arrays have changed, and the model whose trainer has newer ones: models may
    # share a layer.
    version: int = 0
    holder: Any = None
    # Whether a model has named the layer after its class.
    named_by_model: bool = False

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        """New arrays."""
        self.arrays, self.version = arrays, self.version + 1

    @property
    def shown(self) -> str:
        """The layer in an error's words."""
        return f"{self.spec.name!r} ({type(self.spec).__name__})"

    def known_arrays(self) -> dict[str, np.ndarray]:
        """The arrays; ValueError while there are none."""
        if self.arrays is None:
            raise ValueError(f"layer {self.shown} has no weights yet: "
                             "give the model an input shape, or fit it")
        return self.arrays

    def checked(self, given: Iterable[Any]) -> dict[str, np.ndarray]:
        """Copies of new arrays, by name in the layer's order; ValueError for unfit ones."""
        arrays, given = self.known_arrays(), [np.asarray(array) for array in given]
        if len(given) != len(arrays):
            names = ", ".join(arrays) or "none"
            raise ValueError(f"layer {self.shown} has {len(arrays)} arrays ({names}), "
                             f"got {len(given)}")
        new = {}
        for (name, old), array in zip(arrays.items(), given):
            if array.shape != old.shape:
                raise ValueError(f"layer {self.shown}: {name} must have shape {old.shape}, "
                                 f"got {array.shape}")
            new[name] = np.array(array, old.dtype, order="C")
            if name == "var" and (new[name] < 0).any():
                raise ValueError(f"layer {self.shown}: "
                                 f"{name} is a variance and holds a number below 0")
        return new


class LayerList:
    """Layers in order; what follows from them is kept until they change.

    `seed` is that of the initial weights, `made` the number of layers ever added; `entries` are
    changed by the methods alone.
    """

    def __init__(self, seed: int):
        self.seed, self.made = seed, 0
        self.entries: list[Entry] = []
        # Layers of models within, of which another may have a layer's name.
        self.shared: set[Entry] = set()
        # The lists of such models, and where they begin here.
        self._lists: list[tuple[int, LayerList]] = []
        self._input_shape: Shape | None = None

    # -- changing

    @property
    def input_shape(self) -> Shape | None:
        """Shape of one row; None until a layer or the first rows tell it."""
        return self._input_shape

    @input_shape.setter
    def input_shape(self, shape: Shape | None) -> None:
        self._input_shape = shape
        self._changed()

    def _changed(self) -> None:
        """Forget what followed from the layers."""
        for name in ("dtype", "shapes", "computation", "training"):
            self.__dict__.pop(name, None)

    def add(self, layer: Layer, arrays: dict[str, np.ndarray] | None = None) -> Entry | None:
        """Put a layer at the end; an `Input` says the shape of the rows instead."""
        if isinstance(layer, type) and issubclass(layer, Layer):
            name = layer.__name__
            raise TypeError(f"add takes a layer, got the class {name}; make an object of it: "
                            f"{name}(...)")
        if not isinstance(layer, Layer):
            raise TypeError(f"add takes a layer of nbbn.layers, got {type(layer).__name__}")
        if isinstance(layer, Input):
            if self.entries or self.input_shape is not None:
                raise ValueError("an Input must be the first layer, and the only one")
            self.input_shape = layer.shape
            return None
        named, before = layer.name is None, self.input_shape
        layer = self._named(layer)
        if not self.entries and layer.input_shape is not None:
            if before not in (None, layer.input_shape):
                raise LayerError(f"the model's rows have shape {before}, "
                                 f"but its first layer has input_shape={layer.input_shape}")
            self.input_shape = layer.input_shape
        self.entries.append(Entry(layer, self.made, arrays, named_by_model=named))
        self._changed()
        try:
            self._complete()
        except Exception:
            self.entries.pop()
            self.input_shape = before
            raise
        self.made += 1
        return self.entries[-1]

    def attach(self, entry: Entry) -> None:
        """Put a layer with its weights at the end."""
        self.entries.append(entry)
        self._changed()

    def share(self, other: LayerList, entries: list[Entry]) -> None:
        """Put another list's layers at the end, which both have from now on."""
        before, input_shape = self.input_shape, other.input_shape
        if not self.entries and before is None:
            self.input_shape = input_shape
        elif input_shape is not None and before is not None and input_shape != self.shapes[-1]:
            raise LayerError(f"the model within takes rows of shape {input_shape}, got rows of "
                             f"shape {self.shapes[-1]}")
        if any(entry in self.entries for entry in entries):
            raise ValueError("the model has these layers already; call them on values, and make a "
                             "Model of that")
        count = len(self.entries)
        self.entries += entries
        self._lists.append((count, other))
        self._changed()
        try:
            self._complete()
        except Exception:
            del self.entries[count:], self._lists[-1]
            self.input_shape = before
            raise
        self.made += len(entries)
        self.shared |= {*entries}

    def _named(self, layer: Layer) -> Layer:
        """The layer with a name: its own, or Keras's of its class, numbered where that is taken."""
        taken = {*self.names}
        if layer.name in {entry.spec.name for entry in self.entries if entry not in self.shared}:
            raise ValueError("a model's layers need different names, "
                             f"{layer.name!r} is there already; give another name")
        if layer.name is not None:
            return layer
        return replace(layer, name=free_name(type(layer).__name__, taken))

    def replace(self, entry: Entry, spec: Layer) -> None:
        """Put another specification in the place of a layer's, whose arrays stay."""
        entry.spec = spec
        self._changed()

    def pop(self) -> Entry:
        """Take the last layer away; ValueError where there is none."""
        if not self.entries:
            raise ValueError("pop: the model has no layers")
        entry = self.entries.pop()
        self.shared.discard(entry)
        self._lists = [one for one in self._lists if one[0] < len(self.entries)]
        self._changed()
        if not self.entries and entry.spec.input_shape is not None:
            self.input_shape = None
        return entry

    def build(self, input_shape: Shape) -> None:
        """Take the shape of one row, and make the arrays that this tells."""
        if not self.entries:
            raise ValueError("the model has no layers; add some")
        if self.input_shape not in (None, input_shape):
            raise LayerError(f"the model's rows have shape {self.input_shape}, got {input_shape}")
        with self.unbuilt_on_error():
            self.input_shape = input_shape
            self._complete()

    @contextlib.contextmanager
    def unbuilt_on_error(self) -> Iterator[None]:
        """An error within leaves a list that was not built as it was: the next rows may differ."""
        shape, arrays = self.input_shape, [entry.arrays for entry in self.entries]
        try:
            yield
        except Exception:
            if shape is None:
                self.input_shape = None
                for entry, before in zip(self.entries, arrays):
                    entry.arrays = before
            raise

    def _complete(self) -> None:
        """Make the arrays that are missing, once the shape of the rows is known."""
        dtype = self.dtype
        if self.input_shape is None:
            return
        for entry, shape in zip(self.entries, self.shapes):
            if entry.arrays is None:
                rng = np.random.default_rng([self.seed, entry.number])
                entry.take(entry.spec.initial_weights(shape, rng, dtype))
                continue
            wanted = entry.spec.weight_shapes(shape)
            found = {name: array.shape for name, array in entry.arrays.items()}
            if wanted != found:
                raise LayerError(f"layer {entry.shown} has weights of shapes {found}; "
                                 f"rows of shape {shape} need {wanted}")
            # In the order that the layer declares: a file gives them in another.
            arrays = {name: np.ascontiguousarray(entry.arrays[name], dtype) for name in wanted}
            entry.arrays = arrays
        for at, other in self._lists:
            if not other.built:
                other.build(self.shapes[at])

    # -- reading

    @property
    def built(self) -> bool:
        """Whether shapes are known and arrays there."""
        return bool(self.entries) and self.input_shape is not None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The specifications, of which another model may have set something, by their names here.
        """
        return tuple(entry.spec if entry.spec.name == name else replace(entry.spec, name=name)
                     for entry, name in zip(self.entries, self.names))

    @cached_property
    def dtype(self) -> np.dtype:
        """What all layers compute in: float32 unless they say otherwise."""
        given = {e.spec.dtype: e for e in self.entries if e.spec.dtype is not None}
        if len(given) > 1:
            both = " and ".join(f"{entry.shown} in {dtype}" for dtype, entry in given.items())
            raise LayerError(f"all layers must compute in one dtype, got {both}")
        return np.dtype(next(iter(given), "float32"))

    @cached_property
    def shapes(self) -> list[Shape]:
        """Shape of one row before each layer and after the last; LayerError where none fits."""
        assert self.input_shape is not None
        shapes, where = [self.input_shape], "the model's rows of shape"
        for entry in self.entries:
            try:
                shapes.append(entry.spec.output_shape(shapes[-1]))
                entry.spec.weight_shapes(shapes[-2])
            except LayerError as err:
                raise LayerError(f"layer {entry.shown} does not fit {where} {shapes[-1]}: "
                                 f"{err}{_turned(self.input_shape)}") from None
            where = f"after layer {entry.shown}, whose rows have shape"
        return shapes

    @property
    def source_shapes(self) -> list[tuple[Shape, ...]]:
        """Of each layer the shapes of a row of each of its sources."""
        return [(shape,) for shape in self.shapes[:-1]]

    @property
    def output_shapes(self) -> list[Shape]:
        """Of each layer the shape of a row that comes out."""
        return self.shapes[1:]

    @cached_property
    def computation(self) -> Computation:
        """What the layers compute in inference."""
        return self.network().computation()

    @cached_property
    def training(self) -> Computation:
        """What the layers compute in training, several outputs each for itself."""
        return self.network().computation(training=True, joined=False)

    @property
    def call_order(self) -> list[int]:
        """The layers' numbers in the order in which they were called."""
        return list(range(len(self.entries)))

    def network(self) -> Network:
        """The list as the engine takes it; its arrays are not copied."""
        assert self.input_shape is not None
        arrays = [entry.known_arrays() for entry in self.entries]
        return Network(self.layers, self.input_shape, arrays, self.dtype)

    @property
    def names(self) -> list[str]:
        """The layers' names; one of a model within may be numbered anew."""
        names: list[str] = []
        own = {str(entry.spec.name) for entry in self.entries if entry not in self.shared}
        taken = set[str]()
        for entry in self.entries:
            name = str(entry.spec.name)
            if name in taken or (entry in self.shared and name in own):
                name = free_name(type(entry.spec).__name__, taken | own)
            names.append(name)
            taken.add(name)
        return names

    @property
    def versions(self) -> list[int]:
        """How often each layer's arrays have changed."""
        return [entry.version for entry in self.entries]

    def flat(self) -> list[np.ndarray]:
        """All arrays in Keras's order, not copied."""
        return [array for entry in self.entries for array in entry.known_arrays().values()]

    def count(self, trained: bool | None = None) -> int:
        """Numbers in all arrays, or in those that gradients change, or in the others."""
        total = 0
        for layer, shapes in zip(self.layers, self.source_shapes):
            names = layer.trainable_names(*shapes)
            sizes = {name: math.prod(s) for name, s in layer.weight_shapes(*shapes).items()}
            total += sum(n for name, n in sizes.items() if trained in (None, name in names))
        return total


def _turned(shape: Shape) -> str:
    """What to say of images that seem to stand channels first; nothing of others."""
    if len(shape) != 3 or shape[0] > 4 or shape[0] >= min(shape[1:]):
        return ""
    channels, height, width = shape
    return (f"; rows of shape {shape} look like images with their channels first: here channels go "
            f"last, {(height, width, channels)}, as x.transpose(0, 2, 3, 1) gives them")
