"""Models within a model: their uses, and Keras's order of what one model has.

The engine sees the layers of all of them side by side. `Value.within` tells whose a value is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbbn.layers.base import Value


@dataclass(eq=False)
class Use:
    """A model where it is called on values."""

    model: Any
    given: tuple[Any, ...]
    gave: tuple[Any, ...] = ()  # of each output a value; None for one that is not there


Within = tuple[Use, ...]


@dataclass(eq=False)
class Node:
    """A use of a layer or of a model, or an input of the whole, with what it takes.

    `what` is an input, an `Entry` or a model; `sources` are nodes and which of their outputs.
    """

    what: Any
    gave: tuple[Any, ...]
    sources: list[tuple[Node, int]] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)  # of the engine's graph


@dataclass(eq=False)
class Part:
    """What a model has as a layer: an `Entry`, a model or an input, with its uses."""

    what: Any
    nodes: list[Node]

    @property
    def is_input(self) -> bool:
        """Whether it stands for rows."""
        return not self.nodes[0].calls


def values_behind(inputs: Iterable[Any], outputs: Iterable[Any]) -> list[Value]:
    """The values between inputs and outputs, each behind its sources.

    Without recursion: networks are deep.
    """
    order: list[Value] = []
    seen, open_ones = {*map(id, inputs)}, set[int]()
    for output in outputs:
        stack = [(output, iter(getattr(output, "sources", ())))]
        while stack:
            value, sources = stack[-1]
            if id(value) in seen:
                stack.pop()
                continue
            open_ones.add(id(value))
            if not isinstance(value, Value):
                raise ValueError(f"Model: an output depends on {value!r}, which is not among the "
                                 "inputs; list it")
            source = next(sources, None)
            if source is not None:
                if id(source) in open_ones:
                    raise ValueError("Model: the layers go round in a circle: what "
                                     f"{source.layer!r} gives depends on itself")
                stack.append((source, iter(getattr(source, "sources", ()))))
                continue
            seen.add(id(value))
            open_ones.discard(id(value))
            order.append(value)
            stack.pop()
    return order


def in_turn(values: Sequence[Value], within: Sequence[Within], inputs: Sequence[Any],
            outputs: Sequence[Any], use: Use) -> list[Any]:
    """What layers make of `use.given` in the place of the inputs: of each output a value.

    The values stand behind their sources; those that are made are within `use`.
    """
    place: dict[int, Any] = {id(own): value for own, value in zip(inputs, use.given)}
    uses: dict[int, Use] = {}
    for value, inner in zip(values, within):
        sources = [place[id(source)] for source in value.sources]
        place[id(value)] = made = value.layer(sources if value.layer.merges else sources[0])
        made.within = (use, *(uses.setdefault(id(one), Use(one.model, one.given, one.gave))
                              for one in inner))
    for one in uses.values():
        one.given = tuple(place.get(id(given)) for given in one.given)
        one.gave = tuple(place.get(id(gave)) for gave in one.gave)
    found = [place[id(output)] for output in outputs]
    use.gave = tuple(found)
    return found


def whole_uses(values: Sequence[Value], outputs: Iterable[Any]) -> list[Within]:
    """Of each value the models that it is within, where all of a model is among the values.

    Of one that is cut, by other inputs or outputs in its midst, the layers stand for themselves.
    """
    within = [value.within for value in values]
    if not any(within):
        return within
    cut, ends = set[int](), {id(output) for output in outputs}
    members = {id(value): value for value in values}
    for value in values:
        for source in value.sources:
            own = members.get(id(source))
            theirs = () if own is None else own.within
            for use in value.within:
                if use not in theirs and not _among(source, use.given):
                    cut.add(id(use))
            for use in theirs:
                if use not in value.within and not _among(source, use.gave):
                    cut.add(id(use))
        if id(value) in ends:
            cut |= {id(use) for use in value.within if not _among(value, use.gave)}
    return [() if any(id(use) in cut for use in inner) else inner for inner in within]


def _among(value: Any, listed: Iterable[Any]) -> bool:
    return any(value is one for one in listed)


def parts_of(inputs: Sequence[Any], outputs: Sequence[Any], values: Sequence[Value],
             within: Sequence[Within], entry_of: Callable[[Any], Any]) -> list[Part]:
    """What the model has, in the order in which Keras has it.

    By depth, which is how many uses lie between a use and the end, at most; of equal ones that
    which is met first on the way back from the outputs.
    """
    producers, nodes = _nodes(inputs, values, within, entry_of)
    order, met = _walk(nodes, [producers[id(output)] for output in outputs])
    depth, depths = dict.fromkeys(map(id, nodes), 0), dict[int, int]()
    for node in reversed(order):
        own = id(node.what)
        at = depths[own] = depth[id(node)] = max(depth[id(node)], depths.get(own, 0))
        for source, _ in node.sources:
            depth[id(source)] = max(depth[id(source)], at + 1)
    parts: dict[int, Part] = {}
    for node in nodes:
        parts.setdefault(id(node.what), Part(node.what, [])).nodes.append(node)
    return sorted(parts.values(), key=lambda part: (-depths[id(part.what)], met[id(part.what)]))


def _nodes(inputs: Sequence[Any], values: Sequence[Value], within: Sequence[Within],
           entry_of: Callable[[Any], Any]) -> tuple[dict[int, Node], list[Node]]:
    """The uses at the model's own level, and which of them gives each value."""
    of_input = [Node(source, (source,)) for source in inputs]
    producers: dict[int, Node] = {id(node.what): node for node in of_input}
    of_use: dict[int, Node] = {}
    found: list[Node] = [*of_input]
    takes: list[Iterable[Any]] = [() for _ in of_input]
    for i, (value, inner) in enumerate(zip(values, within)):
        if inner and id(inner[0]) in of_use:
            node = of_use[id(inner[0])]
        else:
            use = inner[0] if inner else None
            node = Node(use.model, use.gave) if use else Node(entry_of(value.layer), (value,))
            found.append(node)
            takes.append(use.given if use else value.sources)
            if use:
                of_use[id(use)] = node
        node.calls.append(i)
        producers[id(value)] = node
    for node, given in zip(found, takes):
        there = ((producers[id(one)], one) for one in given if id(one) in producers)
        node.sources = [(of, next(k for k, gave in enumerate(of.gave) if gave is one))
                        for of, one in there]
    return producers, found


def _walk(nodes: Sequence[Node], ends: Iterable[Node]) -> tuple[list[Node], dict[int, int]]:
    """The uses, each behind its sources, and of each layer when it is first met."""
    order, seen, met = list[Node](), set[int](), dict[int, int]()

    def enter(node: Node) -> tuple[Node, Iterator[Node]]:
        seen.add(id(node))
        met.setdefault(id(node.what), len(met))
        return node, iter([source for source, _ in node.sources])

    for end in ends:
        stack = [enter(end)] if id(end) not in seen else []
        while stack:
            node, sources = stack[-1]
            source = next(sources, None)
            if source is None:
                order.append(node)
                stack.pop()
            elif id(source) not in seen:
                stack.append(enter(source))
    # What no output needs, such as an input of which a model within is given, but makes nothing.
    for node in nodes:
        if id(node) not in seen:
            order.append(enter(node)[0])
    return order, met
