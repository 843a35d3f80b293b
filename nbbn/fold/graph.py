"""The graph that folding works on: values by name, and between them nodes, most of them opaque."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nbbn.fold.arithmetic import Affine

# A map and the axis of its channels, counted with the batch axis in front.
Placed = tuple[Affine, int]
Carry = Callable[[Affine, int], "Placed | str"]
# From the maps that inputs lose, in order, None where one loses none, to that of the output.
Merge = Callable[[Sequence[Placed | None]], "Placed | str"]
# From the map that the output is to gain to ways of giving the inputs maps, the first preferred.
Divide = Callable[[Affine, int], "list[list[Placed | None]] | str"]


@dataclass(frozen=True)
class Node:
    """Something that folding does not look into; reads and gives values, by name."""

    name: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    # What it is, as the end of a sentence that says why it takes in no batch norm.
    what: str = "takes in no batch norm"
    # What reports and reasons call it; its name unless given.
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.name)


@dataclass(frozen=True)
class Norm(Node):
    """A batch norm in inference: `affine` along `axis`, counted with the batch axis in front."""

    affine: Affine | None = None
    axis: int = 1
    var: np.ndarray = field(default_factory=lambda: np.empty(0))
    epsilon: float = 0.0
    # Why it can never be folded; empty where it can.
    obstacle: str = ""
    # Whether `affine` holds another batch norm besides.
    merged: bool = False
    # Whether it is written as products and sums, of which a graph has many: it is told of only
    # where it is folded, and holds no other batch norm.
    arithmetic: bool = False
    # Names of all calls of its layer, whose arrays are one; none where it is called once.
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Linear(Node):
    """A dense layer or a convolution, and the affine maps to be folded in before and after it.

    Kinds, groups and layouts are those of `nbbn.fold_conv`.
    """

    kind: str = "dense"
    groups: int = 1
    # Of the channels, counted with the batch axis in front; None where they are not known.
    axis_in: int | None = None
    axis_out: int | None = None
    channels_in: int = 0
    channels_out: int = 0
    # Called when the folding is done, so that memory holds few kernels at a time.
    kernel: Callable[[], np.ndarray] = lambda: np.empty((0, 0))
    bias: np.ndarray | None = None
    # Why its weights cannot be changed, or cannot take in the shift of a batch norm before it;
    # empty: they can.
    obstacle: str = ""
    not_forward: str = ""
    before: Affine | None = None
    after: Affine | None = None
    # Whether a first bias takes a node of its own.
    bias_costs: bool = False
    # As of a `Norm`.
    calls: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is to be folded in."""
        return self.before is not None or self.after is not None


@dataclass(frozen=True)
class Pass(Node):
    """A node with which an affine map may change places, such as a pooling: `f(a(x)) = b(f(x))`.

    `carry` goes from `a` and its axis to `b` and its axis, or to the reason why there is no `b`;
    `back` from `b` to `a`, None where it is not asked.
    """

    carry: Carry = field(kw_only=True)
    back: Carry | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Join(Node):
    """A node that makes one value of several, with which affine maps may change places.

    Its inputs are all that it reads, in order; one that is read twice stands there twice.
    """

    carry: Merge = field(kw_only=True)
    back: Divide = field(kw_only=True)


class Graph:
    """Nodes in an order in which they can be computed, who reads what, and what is given out."""

    def __init__(self, nodes: Iterable[Node], outputs: Iterable[str]):
        self.nodes, self.outputs = {node.name: node for node in nodes}, frozenset(outputs)
        self._places = {name: k for k, name in enumerate(self.nodes)}
        self._producer = {v: node.name for node in self.nodes.values() for v in node.outputs}
        self._readers: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for value in dict.fromkeys(node.inputs):
                self._readers.setdefault(value, []).append(node.name)

    def place(self, name: str) -> int:
        """Of a node in the order."""
        return self._places[name]

    def norms(self) -> list[Norm]:
        """The batch norms that are left."""
        return [node for node in self.nodes.values() if isinstance(node, Norm)]

    def producer(self, value: str) -> Node | None:
        """Who gives a value; None for an input of the graph."""
        return self.nodes[self._producer[value]] if value in self._producer else None

    def calls(self, node: Norm | Linear) -> list[str]:
        """Names of the calls of a node's layer that are left, its own among them."""
        return [name for name in node.calls or (node.name,) if name in self.nodes]

    def readers(self, value: str) -> list[Node]:
        """Who reads a value, each once."""
        return [self.nodes[name] for name in self._readers.get(value, ())]

    def put(self, node: Node) -> None:
        """Put a node in the place of the one of its name, which reads and gives the same."""
        self.nodes[node.name] = node

    def join_backward(self, norm: Norm) -> None:
        """Drop a batch norm; the node before it gives its output."""
        before = self.nodes[self._producer.pop(norm.inputs[0])]
        del self.nodes[norm.name], self._readers[norm.inputs[0]]
        self.put(replace(before, outputs=norm.outputs))
        self._producer[norm.outputs[0]] = before.name

    def join_forward(self, norm: Norm) -> None:
        """Drop a batch norm; its readers read its input."""
        old, new = norm.outputs[0], norm.inputs[0]
        del self.nodes[norm.name], self._producer[old]
        moved = self._readers.pop(old)
        for name in moved:
            node = self.nodes[name]
            inputs = tuple(new if value == old else value for value in node.inputs)
            self.nodes[name] = replace(node, inputs=inputs)
        readers = [name for name in self._readers[new] if name != norm.name]
        self._readers[new] = readers + [name for name in moved if name not in readers]
