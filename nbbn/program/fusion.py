"""Steps to nodes: what is computed in one go.

ReLUs and pools join the step before them where a fused kernel exists.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from nbbn import operations as op
from nbbn.operations import Computation, Operation, Shape, Step
from nbbn.program.views import is_view, without_views

# Operations whose kernels a ReLU joins.
_TAKES_RELU = (op.Dense, op.Convolve, op.ConvolveTransposed, op.BatchNorm, op.Combine)
# What is a matrix product with windows of an image; a dense layer on rows of several axes is one
# too.
_CONVOLUTIONS = (op.Convolve, op.ConvolveTransposed)


@dataclass(frozen=True)
class Node:
    """A step and what has joined it.

    Attributes
    ----------
    index : int
        Its place among the nodes.
    step : Step
    sources : tuple of int
        Nodes whose results it reads; -1 is the network's input.
    relu : bool
        Whether a ReLU follows within the same kernel.
    pool : Step or None
        A pool that follows within the same kernel, behind the ReLU.
    most : float
        What the ReLU clips at above.
    adds : bool
        Whether the result of the last of `sources` is added within the same kernel, before the
        ReLU.
    """

    index: int
    step: Step[Any]
    sources: tuple[int, ...]
    relu: bool = False
    pool: Step[op.Pool] | None = None
    most: float = math.inf
    adds: bool = False

    @property
    def operation(self) -> Any:
        """What is computed."""
        return self.step.operation

    @property
    def layer(self) -> int:
        """Whose arrays it reads."""
        return self.step.layer

    @property
    def input_shape(self) -> Shape:
        """Shape of a row that goes in."""
        return self.step.input_shape

    @property
    def output_shape(self) -> Shape:
        """Shape of a row that comes out."""
        return self.pool.output_shape if self.pool else self.step.output_shape

    @property
    def input_width(self) -> int:
        """Numbers of a row that goes in."""
        return math.prod(self.input_shape)

    @property
    def width(self) -> int:
        """Numbers of a row that comes out."""
        return math.prod(self.output_shape)

    @property
    def is_convolution(self) -> bool:
        """Whether it runs on the kernels of convolutions."""
        kernel_of_images = isinstance(self.operation, op.Dense) and len(self.input_shape) > 1
        return kernel_of_images or isinstance(self.operation, _CONVOLUTIONS)

    @property
    def reads_rows_as_they_are(self) -> bool:
        """Whether it takes the caller's rows, without padding."""
        return isinstance(self.operation, op.Dense) or self.is_convolution

    @property
    def has_kernel(self) -> bool:
        """Whether it multiplies by a kernel."""
        return "kernel" in self.operation.arrays

    @property
    def work(self) -> int:
        """Multiply-adds of a row."""
        if not self.has_kernel:
            return self.width
        operation, image = self.operation, math.prod(self.step.output_shape[:-1])
        if isinstance(operation, op.Dense):
            return image * self.input_shape[-1] * operation.units
        taps = image * math.prod(operation.window.size)
        if isinstance(operation, op.ConvolveDepthwise):
            return taps * self.step.output_shape[-1]
        groups = getattr(operation, "groups", 1)
        return taps * self.input_shape[-1] * operation.filters // groups


def fuse(computation: Computation, *, training: bool) -> list[Node]:
    """The nodes of a computation, in its order."""
    return fused(computation, training=training)[0]


def fused(computation: Computation, *, training: bool) -> tuple[list[Node], dict[int, int]]:
    """The nodes of a computation, in its order, and which node gives each step's result."""
    steps, place_of_step = without_views(computation)
    readers = Counter(source for step in steps for source in step.sources)
    readers.update(place_of_step[end] for end in computation.ends)  # a loss reads each
    nodes: list[Node] = []
    place = {-1: -1}
    of_input = _readers_of_input(steps)
    calls = Counter(key for step in steps for key in step.keys)
    again = any(calls[key] > 1 for step in of_input[:1] for key in step.keys)
    of_parts = of_input and all(isinstance(step.operation, op.Part) for step in of_input)
    if (readers[-1] > 1 or again) and not of_parts:
        nodes.append(_input_for_all(computation.input_shape))
        place[-1] = 0
    for i, step in enumerate(steps):
        latest = max(step.sources, key=lambda k: place[k])
        source, alone = place[latest], readers[latest] == 1
        before = nodes[source] if source >= 0 and alone else None
        if place[-1] < 0 and _is_view_of_the_input(i, steps, readers):
            place[i] = -1  # the caller's rows stand in order
        elif before is not None and (
                joined := _joined(before, step, nodes, readers, place, training)):
            nodes[source], place[i] = joined, source
        else:
            place[i] = len(nodes)
            nodes.append(Node(len(nodes), step, tuple(place[s] for s in step.sources)))
    return nodes, {i: place[step] for i, step in place_of_step.items()}


def _readers_of_input(steps: list[Step[Any]]) -> list[Step[Any]]:
    """Steps that read the input, or a view of it."""
    values = {-1}
    for i, step in enumerate(steps):
        if values.issuperset(step.sources) and _keeps_the_order(step):
            values.add(i)
    return [step for i, step in enumerate(steps)
            if i not in values and not values.isdisjoint(step.sources)]


def _input_for_all(shape: Shape) -> Node:
    """The network's input as a tensor that any node can read."""
    return Node(0, Step(op.Part(0, shape), op.NO_LAYER, (-1,), (shape,), shape), (-1,))


def _is_view_of_the_input(index: int, steps: list[Step[Any]], readers: Counter[int]) -> bool:
    """Whether nodes can read the caller's rows in a step's place: one, or such as never write."""
    step, found = steps[index], [step for step in steps if index in step.sources]
    reads = len(found) < 2 or all(isinstance(one.operation, (op.Dense, *_CONVOLUTIONS))
                                  for one in found)
    return reads and _keeps_the_order(step) and step.sources == (-1,) and readers[-1] == 1


def _keeps_the_order(step: Step[Any]) -> bool:
    """Whether a step takes rows as the caller has them for flat ones, or for images."""
    return isinstance(step.operation, op.Reshape) and (
        len(step.output_shape) == 1 or is_view(step.input_shape, step.output_shape))


def _joined(node: Node, step: Step[Any], nodes: list[Node], readers: Counter[int],
            place: dict[int, int], training: bool) -> Node | None:
    """The node with a step that takes its result, where one kernel does both."""
    if len(step.sources) > 1:
        others = [place[k] for k in step.sources if place[k] != node.index]
        joins = not training and _adds_another(step, others) and _takes_another(node)
        return replace(node, adds=True, sources=(*node.sources, *others)) if joins else None
    if step.operation == op.Elementwise("relu"):
        takes = _TAKES_RELU if training else (*_TAKES_RELU, op.ConvolveDepthwise)
        joins = isinstance(node.operation, takes) and not (node.relu or node.pool)
        return replace(node, relu=True) if joins else None
    if (most := _clips_at(step.operation)) is not None and not training:
        joins = _takes_clip(node) and not (node.relu or node.pool)
        return replace(node, relu=True, most=most) if joins else None
    if _is_max_pool_in_tiles(step.operation) and not node.pool:
        alone = readers[node.step.sources[0]] == 1
        joins = (alone and _norm_takes_pool(node, nodes) if training else
                 _convolution_takes_pool(node))
        return replace(node, pool=step) if joins else None
    return None


def _adds_another(step: Step[Any], others: list[int]) -> bool:
    """A sum of two rows of one shape, the other of which is no row of the caller's."""
    adds = step.operation == op.Combine("add") and step.shapes[0] == step.shapes[1]
    return adds and len(others) == 1 and others[0] >= 0


def _takes_another(node: Node) -> bool:
    return node.is_convolution and not (node.relu or node.pool or node.adds)


def _clips_at(operation: Operation) -> float | None:
    """Where a ReLU with a bound clips above; None for anything else."""
    if operation == op.Elementwise("relu6"):
        return 6.0
    if not isinstance(operation, op.Elementwise) or operation.function != "clipped_relu":
        return None
    slope, top, threshold = operation.numbers
    return top if (slope, threshold) == (0.0, 0.0) and top >= 0 else None


def _takes_clip(node: Node) -> bool:
    return node.is_convolution or isinstance(node.operation, op.ConvolveDepthwise)


def _is_max_pool_in_tiles(operation: Operation) -> bool:
    return isinstance(operation, op.Pool) and operation.kind == "max" and operation.window.tiles


def _norm_takes_pool(node: Node, nodes: list[Node]) -> bool:
    """In training: a batch norm behind a convolution, whose output nobody else needs."""
    if not isinstance(node.operation, op.BatchNorm) or node.sources[0] < 0:
        return False
    before = nodes[node.sources[0]]
    return not before.relu and isinstance(before.operation,
                                          (op.ConvolveDepthwise, op.Dense, *_CONVOLUTIONS))


def _convolution_takes_pool(node: Node) -> bool:
    """In inference: a convolution whose taps of a row are one run of memory."""
    window = getattr(node.operation, "window", None)
    undilated = window is None or window.dilation[1] == 1
    return node.is_convolution and undilated and not node.adds
