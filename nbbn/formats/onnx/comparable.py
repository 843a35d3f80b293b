"""Which numbers of a graph tell whether a fold is right: its outputs, or what stands before them.

Labels, whole numbers and flags, and what is rounded to them, jump where their source moves by a
last bit; operators of others cannot be run. The last floating-point numbers before them are
compared instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from importlib.util import find_spec
from typing import Any, NamedTuple

from nbbn.fold.check import FoldCheckFailed
from nbbn.formats.onnx.file import Model, graphs_within
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode, names_read, needed
from nbbn.formats.onnx.tensors import DTYPES

# To whole numbers, though of a floating-point type.
_ROUNDING = ("Round", "Floor", "Ceil", "Sign", "Mod")
# Whole numbers that no number of their input has a part in.
_OF_SHAPES = ("Shape", "Size")
_RUN = ("", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training")


class Shown(NamedTuple):
    """A value to compare: an output of the graph, or input `at` of the node that gives `reader`."""

    value: str
    reader: str = ""
    at: int = 0

    def of(self, graph: OnnxGraph) -> str:
        """Its name in the folded graph, whose nodes behind it are the same; KeyError without it."""
        if not self.reader:
            return self.value
        return graph.givers[self.reader].inputs[self.at]


def shown(graph: OnnxGraph, folded: Set[str]) -> tuple[Shown, ...]:
    """What to compare of a graph: for each output itself, or the last numbers before it.

    `folded` are the values that batch norms give which are folded.

    Raises
    ------
    FoldCheckFailed
        Where one that outputs follow from has no part in these.
    """
    jumps, outputs = _Jumps(graph, folded), [output.name for output in graph.proto.output]
    found: dict[str, Shown] = {}
    for output in outputs:
        for value in jumps.before(output):
            found.setdefault(value.value, value)
    seen = needed(graph, found)
    for node in needed(graph, outputs):
        if node not in seen and not folded.isdisjoint(node.outputs):
            raise FoldCheckFailed(f"no floating-point numbers behind {node.shown} can be computed, "
                                  "so the fold cannot be checked")
    return tuple(found.values())


def showing(model: Model, values: Sequence[str]) -> Model:
    """The model with these outputs, and without the nodes that they do not need."""
    import onnx

    def copied(message: Any) -> Any:
        return type(message).FromString(message.SerializeToString())

    skeleton = copied(model.skeleton)
    graph = skeleton.graph
    declared = {value.name: value for value in (*graph.value_info, *graph.output)}
    kept = [copied(declared.get(name) or onnx.ValueInfoProto(name=name)) for name in values]
    del graph.output[:]
    graph.output.extend(kept)
    nodes = [copied(node.proto) for node in needed(OnnxGraph(model), values)]
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    return Model(skeleton, model.tensors)


class _Jumps:
    """Which values of a graph jump, or cannot be computed."""

    def __init__(self, graph: OnnxGraph, folded: Set[str]):
        self._graph = graph
        # Floating-point numbers that follow from the inputs; whole ones that follow from no such;
        # what jumps with these; what cannot be run, and what follows from that.
        inputs = {value.name for value in graph.proto.input} - set(graph.tensors)
        self._numbers = {name for name in inputs if graph.kind(name) in (None, *DTYPES)}
        self._whole = inputs - self._numbers
        self._jumping: set[str] = set()
        self._foreign: set[str] = set()
        known = {function.domain for function in graph.functions}
        for node in graph.nodes:
            self._note(node, set(names_read(node.proto)), known)
        # What is folded behind a jump shows in the outputs alone.
        self._early = not self._jumping.isdisjoint(folded)

    def _note(self, node: OnnxNode, read: set[str], known: set[str]) -> None:
        outputs = {name for name in node.outputs if name}
        of_shape = node.operator in _OF_SHAPES
        if read & self._foreign or not _runs(node, known):
            self._foreign |= outputs
            return
        rounded = node.operator in _ROUNDING and not node.domain
        for name in outputs if read & (self._whole | self._numbers | self._jumping) else ():
            whole = rounded or self._graph.kind(name) not in (None, *DTYPES)
            if read & self._jumping or (whole and read & self._numbers and not of_shape):
                self._jumping.add(name)
            else:
                (self._whole if whole else self._numbers).add(name)

    def before(self, output: str) -> Iterator[Shown]:
        """What tells of an output."""
        smooth = output not in self._jumping or self._early
        if output not in self._foreign and smooth and self._graph.kind(output) in (None, *DTYPES):
            yield Shown(output)
            return
        waiting, seen = [output], {output}
        while waiting:
            node = self._graph.givers.get(waiting.pop())
            if node is None:
                continue
            for at, name in enumerate(node.inputs):
                if name in self._numbers and name in self._graph.givers:
                    yield Shown(name, next(o for o in node.outputs if o), at)
                elif name and name not in seen:
                    seen.add(name)
                    waiting.append(name)


def runs_whole(graph: OnnxGraph) -> bool:
    """Whether evaluators know all operators of a graph."""
    known = {function.domain for function in graph.functions}
    return all(_runs(node, known) for node in graph.nodes)


def _runs(node: OnnxNode, known: set[str]) -> bool:
    """Whether an evaluator knows a node's operator, and those within it."""
    domains = {node.domain, *_domains_within(node.proto)} - set(_RUN) - known
    return not domains or (domains == {"com.microsoft"} and find_spec("onnxruntime") is not None)


def _domains_within(proto: Any) -> Iterator[str]:
    for inner in graphs_within(proto):
        for node in inner.node:
            yield "" if node.domain == "ai.onnx" else node.domain
            yield from _domains_within(node)
