"""A network: layers, the shape of a row, and the weights.

What estimators, folding and files hand to each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from nbbn.layers import Layer, LayerError, layer_from_config
from nbbn.operations import NO_LAYER, Builder, Computation, Part, Shape

Weights = list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class Call:
    """A layer where it is used.

    Attributes
    ----------
    layer : int
        Which one; several calls of one layer share its weights.
    sources : tuple of int
        Calls whose results it takes; -1 is the first input, -2 the second.
    """

    layer: int
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """How layers read each other.

    Attributes
    ----------
    calls : tuple of Call
        Each behind those that it takes from.
    inputs : tuple of Shape
        Of one row of each input. Several stand beside each other, flattened, in the network's rows.
    outputs : tuple of int
        Calls that give the results. Several stand beside each other, flattened, in what comes out.
    input_names, output_names : tuple of str
        Of each input and output; empty where they have none.
    """

    calls: tuple[Call, ...]
    inputs: tuple[Shape, ...]
    outputs: tuple[int, ...]
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    @property
    def input_shape(self) -> Shape:
        """Of one row of the network."""
        return self.inputs[0] if len(self.inputs) == 1 else (sum(map(math.prod, self.inputs)),)

    def of_layers(self, kept: Sequence[int]) -> Graph:
        """The graph of some of the layers, numbered anew: the others hand on what they get."""
        number, place = {layer: k for k, layer in enumerate(kept)}, dict[int, int]()
        calls = list[Call]()
        for i, call in enumerate(self.calls):
            sources = tuple(place.get(source, source) for source in call.sources)
            if call.layer in number:
                place[i] = len(calls)
                calls.append(Call(number[call.layer], sources))
            else:
                (place[i],) = sources
        return replace(self, calls=tuple(calls),
                       outputs=tuple(place[output] for output in self.outputs))

    def ending_at(self, value: int) -> tuple[list[int], Graph]:
        """The layers that a call depends on, and the graph of them, which gives out that alone."""
        needed, ahead = set[int](), [value]
        while ahead:
            if (at := ahead.pop()) >= 0 and at not in needed:
                needed.add(at)
                ahead += self.calls[at].sources
        layers = sorted({self.calls[at].layer for at in needed})
        number = {layer: k for k, layer in enumerate(layers)}
        place = {at: k for k, at in enumerate(sorted(needed))}
        calls = tuple(Call(number[self.calls[at].layer],
                           tuple(place.get(source, source) for source in self.calls[at].sources))
                      for at in place)
        return layers, Graph(calls, self.inputs, (place[value],), self.input_names)

    def with_end(self, layer: int, output: int = 0) -> Graph:
        """The graph with a further layer behind one of its outputs."""
        outputs, at = list(self.outputs), len(self.calls)
        calls = (*self.calls, Call(layer, (outputs[output],)))
        outputs[output] = at
        return replace(self, calls=calls, outputs=tuple(outputs))

    def config(self) -> dict:
        """JSON-ready: of each call its layer and its sources."""
        names = {"input_names": self.input_names, "output_names": self.output_names}
        return {
            "calls": [[call.layer, *call.sources] for call in self.calls],
            "inputs": [list(shape) for shape in self.inputs], "outputs": list(self.outputs),
            **{key: list(given) for key, given in names.items() if given},
        }

    @classmethod
    def from_config(cls, config: dict) -> Graph:
        """The graph that `config` described.

        Raises
        ------
        LayerError
            For calls that take from later ones, and numbers of what is not there.
        """
        inputs = tuple(tuple(int(n) for n in shape) for shape in config["inputs"])
        calls = tuple(Call(int(layer), tuple(map(int, sources)))
                      for layer, *sources in config["calls"])
        outputs = tuple(map(int, config["outputs"]))
        for i, call in enumerate(calls):
            if not call.sources or not all(-len(inputs) <= k < i for k in call.sources):
                raise LayerError(f"call {i} of the graph takes from {list(call.sources)}: there "
                                 f"are {len(inputs)} inputs, and {i} calls before it")
        if not outputs or not all(0 <= k < len(calls) for k in outputs):
            raise LayerError(f"the graph gives out {list(outputs)} of its {len(calls)} calls")
        read = {*outputs, *(source for call in calls for source in call.sources)}
        if unread := [i for i in range(len(calls)) if i not in read]:
            raise LayerError(f"nobody reads what call {unread[0]} of the graph gives, and it is no "
                             "output")
        names = [tuple(map(str, config.get(f"{kind}_names", ()))) for kind in ("input", "output")]
        for given, of in zip(names, (inputs, outputs)):
            if given and len({*given}) != len(of):
                raise LayerError(f"{list(given)} are no names of {len(of)} inputs or outputs")
        return cls(calls, inputs, outputs, *names)

    def computation(self, layers: Sequence[Layer], *, joined: bool = True) -> Computation:
        """What layers compute in training that read each other so.

        Several outputs are beside each other in the last step's result where they are `joined`.
        """
        builder = Builder(self.input_shape)
        place = self._inputs(builder)
        for i, call in enumerate(self.calls):
            layer, sources = layers[call.layer], tuple(place[source] for source in call.sources)
            shapes = [builder.shape(source) for source in sources]
            place[i] = builder.add_layer(call.layer, layer.operations(*shapes),
                                         layer.arrays(*shapes), sources)
        ends = [place[output] for output in self.outputs]
        return builder.computation(*([builder.joined(ends)] if joined else ends))

    def layer_shapes(self, layers: Sequence[Layer]) -> list[tuple[tuple[Shape, ...], Shape]]:
        """See `Network.layer_shapes`."""
        of_value, found = self._shapes(layers), dict[int, tuple[tuple[Shape, ...], Shape]]()
        for i, call in enumerate(self.calls):
            shapes = tuple(of_value[source] for source in call.sources)
            found.setdefault(call.layer, (shapes, of_value[i]))
        return [found[k] for k in range(len(layers))]

    def output_shapes(self, layers: Sequence[Layer]) -> list[Shape]:
        """Of a row of each output."""
        of_value = self._shapes(layers)
        return [of_value[output] for output in self.outputs]

    def _shapes(self, layers: Sequence[Layer]) -> dict[int, Shape]:
        """Of a row of each input and of what each call gives."""
        of_value: dict[int, Shape] = {-k: shape for k, shape in enumerate(self.inputs, 1)}
        if {*range(len(layers))} != (called := {call.layer for call in self.calls}):
            raise LayerError(f"the graph calls layers {sorted(called)} of {len(layers)}: all of "
                             "them must be called, and no others")
        for i, call in enumerate(self.calls):
            shapes = tuple(of_value[source] for source in call.sources)
            if len(shapes) > 1 and not layers[call.layer].merges:
                kind = type(layers[call.layer]).__name__
                raise LayerError(f"call {i} of the graph gives {len(shapes)} rows to a {kind}, "
                                 "which takes one")
            of_value[i] = layers[call.layer].output_shape(*shapes)
        return of_value

    def _inputs(self, builder: Builder) -> dict[int, int]:
        """Steps that give the inputs, and room for those that give the calls' results."""
        if len(self.inputs) == 1:
            return {-1: -1}
        place, first = {}, 0
        read = {source for call in self.calls for source in call.sources}
        for k, shape in enumerate(self.inputs, 1):
            if -k in read:
                place[-k] = builder.add(Part(first, shape), NO_LAYER, (-1,))
            first += math.prod(shape)
        return place


def beside(parts: Sequence[np.ndarray], dtype: np.dtype, name: str = "x") -> np.ndarray:
    """Rows of several inputs beside each other, flat, as a network has them.

    ValueError where one has another number of rows.
    """
    if len({len(part) for part in parts}) > 1:
        raise ValueError(f"{name}: all inputs must have as many rows as each other, got "
                         f"{', '.join(str(len(part)) for part in parts)}")
    return np.concatenate([np.asarray(part, dtype).reshape(len(part), -1) for part in parts], 1)


def apart(rows: np.ndarray, shapes: Sequence[Shape]) -> list[np.ndarray]:
    """What stands beside each other in flat rows: an array for each shape."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(rows.reshape(len(rows), -1), ends[:-1], 1)
    return [np.ascontiguousarray(part).reshape(len(part), *shape)
            for part, shape in zip(parts, shapes)]


def computation(layers: Sequence[Layer], input_shape: Shape) -> Computation:
    """What layers that follow one another compute in training.

    Raises
    ------
    LayerError
        Where a layer cannot take the rows that reach it.
    """
    builder, source = Builder(input_shape), -1
    for i, layer in enumerate(layers):
        shape = builder.shape(source)
        source = builder.add_layer(i, layer.operations(shape), layer.arrays(shape), (source,))
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
    graph : Graph or None
        How the layers read each other; None: each the one before it.

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
    graph: Graph | None = None

    @property
    def shapes(self) -> list[Shape]:
        """Shape of one row before each layer, and after the last: `len(layers) + 1` entries."""
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return shapes

    @property
    def links(self) -> Graph:
        """How the layers read each other, of a chain, too."""
        if self.graph is not None:
            return self.graph
        calls = tuple(Call(i, (i - 1,)) for i in range(len(self.layers)))
        return Graph(calls, (self.input_shape,), (len(calls) - 1,))

    @property
    def layer_shapes(self) -> list[tuple[tuple[Shape, ...], Shape]]:
        """Of each layer the shapes of a row of each source, where it is called first, and of what
        comes out."""
        if self.graph is None:
            shapes = self.shapes
            return [((before,), after) for before, after in pairwise(shapes)]
        return self.graph.layer_shapes(self.layers)

    def computation(self, *, training: bool = False, joined: bool = True) -> Computation:
        """What is computed; `weights[step.layer]` are a step's arrays."""
        whole = (computation(self.layers, self.input_shape) if self.graph is None else
                 self.graph.computation(self.layers, joined=joined))
        return whole if training else whole.inference

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output row."""
        return self.shapes[-1] if self.graph is None else self.computation().output_shape

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
        for i, (layer, (shapes, _), arrays) in enumerate(zip(self.layers, self.layer_shapes,
                                                             self.weights)):
            where = f"layer {i} ({type(layer).__name__})"
            want = layer.weight_shapes(*shapes)
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
        described = {
            "input_shape": list(self.input_shape),
            "dtype": self.dtype.name,
            "layers": [layer.config() for layer in self.layers],
        }
        return described if self.graph is None else described | {"graph": self.graph.config()}

    @classmethod
    def from_config(cls, config: dict, weights: Weights) -> Network:
        """The network that `config` described, with these arrays, checked."""
        layers = tuple(layer_from_config(c) for c in config["layers"])
        shape = tuple(int(n) for n in config["input_shape"])
        graph = Graph.from_config(config["graph"]) if "graph" in config else None
        return cls(layers, shape, weights, np.dtype(config["dtype"]), graph).check()
