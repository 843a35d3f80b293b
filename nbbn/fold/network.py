"""Networks to the graph that folding works on, one node an operation, and back to layers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, groupby
from typing import Any, NamedTuple

import numpy as np

from nbbn import operations as op
from nbbn.fold import joins, passes
from nbbn.fold.arithmetic import Affine, affine_of, cast, standing_for
from nbbn.fold.engine import fold_graph, folded_bias, folded_kernel
from nbbn.fold.graph import Graph, Join, Linear, Node, Norm, Pass
from nbbn.fold.report import FoldReport
from nbbn.network import Network
from nbbn.operations import Operation, Step
from nbbn.utils import keras_name

Arrays = dict[str, np.ndarray]


class _Place(NamedTuple):
    """A step, and what is known of its layer."""

    name: str
    step: Step[Any]
    title: str
    # A specification, which is asked for words alone.
    layer: Any
    arrays: Arrays
    # Steps of this call of the layer, and those of them that read the arrays of this one.
    steps: int
    readers: int

    @property
    def obstacle(self) -> str:
        """Why its arrays cannot be changed for it alone."""
        return f"{self.title} reads its arrays {self.readers} times" if self.readers > 1 else ""


def fold_network(network: Network, *, strict: bool = False) -> tuple[Network, FoldReport]:
    """Fold the batch norms of a network into their neighbours, as far as that is exact.

    Parameters
    ----------
    network : Network
        Not written; the result shares no array with it.
    strict : bool
        Whether a batch norm that stays is an error.

    Returns
    -------
    network : Network
        Of the same dtype, without what does nothing in inference.
    report : FoldReport
        Without the numeric check, which needs an engine to run on (`fold_checked`).

    Raises
    ------
    LayerError
        For a network whose arrays do not fit its layers.
    FoldRefused
        Where `strict` and a batch norm stays.
    ValueError
        Where a folded weight does not fit the network's dtype.

    Notes
    -----
    `nbbn.fold.engine.fold_graph` says what folds into what. Computed in float64, with one cast at
    the end.

    Examples
    --------
    >>> import nbbn
    >>> from nbbn.fold import fold_network
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> network, report = fold_network(model.network())
    >>> network.layers
    (Dense(units=3, name='dense', input_shape=(4,)),)
    """
    steps = network.check().computation().steps
    graph, layer_of = _graph(network, steps)
    report = fold_graph(graph, strict=strict)
    left: dict[int, list[Node]] = {}
    for node in graph.nodes.values():  # all calls of a layer have become the same
        if not isinstance(node, Linear | Norm) or node.name == graph.calls(node)[0]:
            left.setdefault(layer_of[node.name], []).append(node)
    left.pop(op.NO_LAYER, None)
    titles, layers, weights = _titles(network.layers), list[Any](), list[Arrays]()
    kept = _kept(network, left)
    for i in kept:
        layer, arrays = network.layers[i], network.weights[i]
        layer, arrays = _layer(layer, arrays, left.get(i, ()), steps)
        layers.append(layer)
        named = {name: (array, f"{name} of {titles[i]}") for name, array in arrays.items()}
        weights.append({k: cast(a, network.dtype, what) for k, (a, what) in named.items()})
    links = network.graph.of_layers(kept) if network.graph else None
    return Network(tuple(layers), network.input_shape, weights, network.dtype, links), report


def _kept(network: Network, left: dict[int, list[Node]]) -> list[int]:
    """The layers that do something; of a network that does nothing the first one.

    Of a graph also those that give an input out as it is.
    """
    if network.graph is None:
        return sorted(left) or list(range(len(network.layers))[:1])
    rest = network.graph.of_layers(sorted(left))
    ends = zip(network.graph.outputs, rest.outputs)
    idle = {network.graph.calls[output].layer for output, end in ends if end < 0}
    return sorted({*left, *idle})


def norm_at_entrance(network: Network) -> Norm | None:
    """The batch norm that reads the network's rows, if one does."""
    readers = _graph(network, network.computation().steps)[0].readers("-1")
    return readers[0] if readers and isinstance(readers[0], Norm) else None


def _titles(layers: Sequence[Any]) -> list[str]:
    """The layers' names, Keras's default ones without; numbered where one was there before."""
    seen: Counter[str] = Counter()
    titles: dict[str, None] = {}
    for layer in layers:
        kind = keras_name(type(layer).__name__)
        name = layer.name or (f"{kind}_{seen[kind]}" if seen[kind] else kind)
        seen[kind] += 1
        candidates = (f"{name}_{i}" if i else name for i in count())
        titles[next(candidate for candidate in candidates if candidate not in titles)] = None
    return list(titles)


def _graph(network: Network, steps: Sequence[Step[Any]]) -> tuple[Graph, dict[str, int]]:
    """The graph, a node a step, called by its number; and the layer of each node."""
    titles = _titles(network.layers)
    nodes, layer_of = list[Node](), dict[str, int]()
    calls: dict[tuple[int, int], list[str]] = {}
    for i, numbered in _by_call(network, steps):
        title, layer = ((titles[i], network.layers[i]) if i != op.NO_LAYER else
                        (_title_of(numbered[0][1]), None))
        readers = Counter(key for _, step in numbered for key in step.keys)
        made = _nodes([
            _Place(str(at), step, title, layer, step.view(network.weights[i]), len(numbered),
                   max((readers[key] for key in step.keys), default=0))
            for at, step in numbered
        ])
        nodes += made
        for k, node in enumerate(made):
            layer_of[node.name] = i
            calls.setdefault((i, k), []).append(node.name)
    together = {name: tuple(names) for names in calls.values() for name in names if len(names) > 1}
    nodes = [replace(node, calls=together[node.name])
             if isinstance(node, Linear | Norm) and node.name in together else node
             for node in nodes]
    return Graph(nodes, [str(len(steps) - 1)]), layer_of


def _title_of(step: Step[Any]) -> str:
    """What to call a step that no layer has declared."""
    return "the input" if isinstance(step.operation, op.Part) else "what joins outputs"


def _by_call(network: Network,
             steps: Sequence[Step[Any]]) -> Iterator[tuple[int, list[tuple[int, Step[Any]]]]]:
    """The layer of each call, and its steps with their numbers."""
    shapes = network.layer_shapes
    for i, group in groupby(enumerate(steps), lambda at: at[1].layer):
        numbered = list(group)
        size = len(numbered)
        if i != op.NO_LAYER:  # two calls may follow one another
            declared = network.layers[i].operations(*shapes[i][0])
            a_call = sum(not isinstance(operation, op.Disturb) for operation in declared)
            size = a_call if size % a_call == 0 else size
        for first in range(0, len(numbered), size):
            yield i, numbered[first : first + size]


def _nodes(places: list[_Place]) -> list[Node]:
    """A node for each step of a layer, or one for a norm with the moves around it."""
    nodes = [_node(place) for place in places]
    for at, norm in enumerate(nodes):
        if isinstance(norm, Norm) and not norm.obstacle:
            axis = _axis_of(places, at)
            if axis is not None:
                inputs, outputs = nodes[0].inputs, nodes[-1].outputs
                return [replace(norm, inputs=inputs, outputs=outputs, axis=axis + 1)]
            nodes[at] = replace(norm, obstacle=f"{norm.title} does more than to normalise")
    return nodes


def _axis_of(places: list[_Place], at: int) -> int | None:
    """The axis of a layer's rows that is the last at a step; None if not all else is moves.

    What moved before the step has to be moved back behind it.
    """
    moves = [place.step.operation for place in places]
    before, shape = moves[:at], places[0].step.input_shape
    if not all(isinstance(move, op.Permute | op.Reshape) for move in before):
        return None
    if moves[at + 1 :] != op.undone(shape, before):
        return None
    axis = len(places[at].step.input_shape) - 1
    for step in (place.step for place in reversed(places[:at])):
        if isinstance(step.operation, op.Permute):
            axis = step.operation.order[axis]
            continue
        # As many numbers, as far from one to the next.
        runs = [(n, math.prod(step.input_shape[k + 1 :])) for k, n in enumerate(step.input_shape)]
        run = step.output_shape[axis], math.prod(step.output_shape[axis + 1 :])
        if run not in runs:
            return None
        axis = runs.index(run)
    return axis


def _node(place: _Place) -> Node:
    node = OPERATIONS.get(type(place.step.operation), _opaque)(place)
    sources = tuple(map(str, place.step.sources))
    return replace(node, inputs=sources, outputs=(place.name,), title=place.title)


def _layer(layer: Any, arrays: Arrays, nodes: Sequence[Node],
           steps: Sequence[Step[Any]]) -> tuple[Any, Arrays]:
    """A layer and its arrays, given what its nodes have become.

    A layer with a linear operation has a field `use_bias`, one with a batch norm `epsilon`,
    `center` and `scale`.
    """
    linear = [node for node in nodes if isinstance(node, Linear)]
    moved: np.ndarray | None = None
    for one in linear:
        names = steps[int(one.name)].operation.name_of
        kernel, bias = names("kernel"), names("bias")
        node = one
        if moved is not None:
            mixed = moved @ arrays[kernel].reshape(len(moved), -1)
            node = replace(one, bias=mixed if one.bias is None else one.bias + mixed)
        if node.changed or moved is not None:
            arrays = {**arrays, kernel: folded_kernel(node).reshape(arrays[kernel].shape)}
            # Of several kernels the last has a bias: the others' go through those behind them,
            # which mix channels of single pixels.
            moved = folded_bias(node)
            if one is linear[-1]:
                layer, arrays = replace(layer, use_bias=True), {**arrays, bias: moved}
    for norm in nodes:
        if isinstance(norm, Norm) and norm.merged and norm.affine is not None:
            arrays, epsilon = standing_for(norm.affine)
            layer = replace(layer, epsilon=epsilon, center=True, scale=True)
    return layer, arrays


# -- operations


def _opaque(place: _Place) -> Node:
    if place.layer is None:
        return Node(place.name, what="takes in no batch norm")
    kind = type(place.layer).__name__
    return Node(place.name, what=f"is a {kind}, which takes in no batch norm")


def _not_linear(place: _Place) -> Node:
    """An activation: a layer by name, at the end of a layer, or a layer of its own kind."""
    name = getattr(place.layer, "activation", None)
    if name is None:
        return _opaque(place)
    is_it = "is" if place.steps == 1 else "ends in"
    return Node(place.name, what=f"{is_it} {name}, which is not linear")


def _elementwise(place: _Place) -> Node:
    operation = place.step.operation
    if operation.function == "affine":
        scale, offset = operation.numbers
        carry, back = passes.scaled(scale, offset, place.title)
        return Pass(place.name, carry=carry, back=back)
    return _homogeneous(place) if operation.function in passes.HOMOGENEOUS else _not_linear(place)


def _homogeneous(place: _Place) -> Pass:
    what = _not_linear(place).what
    carry = passes.homogeneous(f"{place.title} {what}", place.title)
    return Pass(place.name, what=what, carry=carry, back=carry)


def _pad(place: _Place) -> Node:
    """Zeros around an image, which stay zeros if they are scaled."""
    if np.max(place.step.operation.sides) <= 0:
        return _crop(place)
    shifted = f"{place.title} pads with zeros, which the batch norm would have shifted"
    sides = place.step.operation.sides
    carry = passes.padded([k for k, side in enumerate(sides, 1) if any(side)], shifted, place.title)
    return Pass(place.name, carry=carry, back=carry)


def _combine(place: _Place) -> Node:
    shapes = [(None, *shape) for shape in place.step.shapes]
    carry, back = joins.COMBINED[place.step.operation.kind](shapes, place.title)
    return Join(place.name, carry=carry, back=back)


def _concatenate(place: _Place) -> Node:
    axis = place.step.operation.axis
    sizes = [shape[axis] for shape in place.step.shapes]
    carry, back = joins.concatenated(axis + 1, sizes, place.title)
    return Join(place.name, carry=carry, back=back)


def _crop(place: _Place) -> Pass:
    """What cuts an inner part out, and lets all else be."""
    sides = zip(place.step.input_shape, place.step.operation.sides)
    along = {axis: passes.sliced(axis, slice(-before, n + after), n, place.title)
             for axis, (n, (before, after)) in enumerate(sides, 1)}

    def carry(affine: Affine, axis: int, way: int = 0) -> tuple[Affine, int] | str:
        return along[axis][way](affine, axis) if axis in along else (affine, axis)

    return Pass(place.name, carry=carry, back=partial(carry, way=1))


def _norm(place: _Place) -> Norm:
    arrays, epsilon = place.arrays, place.step.operation.epsilon
    gamma, beta = arrays.get("gamma"), arrays.get("beta")
    return Norm(place.name, affine=affine_of(gamma, beta, arrays["mean"], arrays["var"], epsilon),
                axis=len(place.step.input_shape), var=arrays["var"].astype(np.float64),
                epsilon=epsilon, obstacle=place.obstacle)


def _affine(place: _Place) -> Norm:
    """Fixed numbers: no batch norm, but taken in as one."""
    numbers = place.step.operation.of_channels(place.step.input_shape[-1])
    affine = Affine(numbers["scale"], numbers["mean"], numbers["offset"])
    return Norm(place.name, affine=affine, axis=len(place.step.input_shape), arithmetic=True,
                var=np.ones_like(affine.gain), epsilon=0.0)


def _linear(place: _Place, kind: str) -> Linear:
    """A dense layer or a convolution."""
    step, axis = place.step, len(place.step.input_shape)
    return Linear(place.name, kind=kind, groups=getattr(step.operation, "groups", 1), axis_in=axis,
                  axis_out=axis, channels_in=step.input_shape[-1],
                  channels_out=step.output_shape[-1], kernel=lambda: place.arrays["kernel"],
                  bias=place.arrays.get("bias"), obstacle=place.obstacle)


def _windowed(place: _Place, kind: str) -> Linear:
    """A convolution that reads windows."""
    reason = f"{place.title} pads with zeros, which the batch norm would have shifted"
    pads = np.any(place.step.operation.window.sides)
    return replace(_linear(place, kind), not_forward=reason if pads else "")


def _transposed(place: _Place) -> Linear:
    reason = "is a transposed convolution, whose border sees fewer of the normalised values"
    return replace(_linear(place, "transposed"), not_forward=f"{place.title} {reason}")


def _pool(place: _Place) -> Pass:
    of_maxima = place.step.operation.kind == "max"
    carry = passes.largest_value(place.title) if of_maxima else passes.mean_of_values
    carry = passes.reduced(carry, (1, 2), True, place.title)
    return Pass(place.name, carry=carry, back=carry)


def _permute(place: _Place) -> Pass:
    there, back = place.step.operation, place.step.operation.inverse
    carry, undo = (passes.transposed((0, *(k + 1 for k in p.order))) for p in (there, back))
    return Pass(place.name, carry=carry, back=undo)


def _reshape(place: _Place) -> Pass:
    before, after = place.step.input_shape, place.step.output_shape
    carry = passes.reshaped(before, after, place.title)
    return Pass(place.name, carry=carry, back=passes.reshaped(after, before, place.title))


def _repeat(place: _Place) -> Pass:
    times = place.step.operation.times
    return Pass(place.name, carry=passes.repeated(times), back=passes.kept(times, place.title))


# Operation -> what it is to folding.
OPERATIONS: dict[type[Operation], Callable[[_Place], Node]] = {
    op.Dense: partial(_linear, kind="dense"), op.Convolve: partial(_windowed, kind="conv"),
    op.ConvolveTransposed: _transposed, op.ConvolveDepthwise: partial(_windowed, kind="depthwise"),
    op.Pool: _pool, op.BatchNorm: _norm, op.RowNorm: _opaque, op.Elementwise: _elementwise,
    op.Softmax: _not_linear, op.Permute: _permute, op.Reshape: _reshape, op.Pad: _pad,
    op.Repeat: _repeat, op.Combine: _combine, op.Concatenate: _concatenate, op.Part: _opaque,
    op.Disturb: _opaque, op.Affine: _affine, op.PRelu: _homogeneous, op.Embed: _opaque,
    op.Dot: _opaque,
}
