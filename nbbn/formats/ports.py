"""What goes into a network and comes out of it, each for itself, for formats that have names."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from nbbn.network import Network
from nbbn.operations import NO_LAYER, Computation, Part, Shape


class Port(NamedTuple):
    """An input or an output.

    Attributes
    ----------
    name : str
        An identifier, no other port's in capitals either.
    step : int or None
        The step that gives it; -1 is the network's only input, None for an input that is not read.
    shape : Shape
        Of a row.
    """

    name: str
    step: int | None
    shape: Shape


class Ports(NamedTuple):
    """A network in inference with its inputs and outputs."""

    computation: Computation
    inputs: list[Port]
    outputs: list[Port]


def ports_of(network: Network, *, beside: bool = False) -> Ports:
    """The inputs and outputs of a network, `x` and `output` where there is one.

    `beside`: several outputs are one, flattened beside each other.
    """
    graph, shape = network.graph, network.output_shape
    several = graph is not None and len(graph.outputs) > 1 and not beside
    # What works in training alone hands on what it gets.
    whole = network.computation(training=several, joined=not several)
    last = Port("output", len(whole.steps) - 1, shape)
    if graph is None:
        return Ports(whole, [Port("x", -1, network.input_shape)], [last])
    inputs = [Port("x", -1, network.input_shape)]
    if len(graph.inputs) > 1:
        names = _identifiers(graph.input_names, len(graph.inputs), "x")
        inputs = [Port(*port) for port in zip(names, _parts(whole, graph.inputs), graph.inputs)]
    if not several:
        return Ports(whole, inputs, [last])
    names = _identifiers(graph.output_names, len(graph.outputs), "output")
    shapes = graph.output_shapes(network.layers)
    return Ports(whole, inputs, [Port(*port) for port in zip(names, whole.ends, shapes)])


def _parts(computation: Computation, shapes: Sequence[Shape]) -> list[int | None]:
    """The step that gives each of several inputs."""
    parts = [(i, step) for i, step in enumerate(computation.steps) if step.layer == NO_LAYER]
    steps = {step.operation.first: i for i, step in parts
             if isinstance(step.operation, Part) and step.sources == (-1,)}
    first, found = 0, list[int | None]()
    for shape in shapes:
        found.append(steps.get(first))
        first += math.prod(shape)
    return found


def _identifiers(names: Sequence[str], count: int, default: str) -> list[str]:
    """Names as identifiers, numbered ones for those that have none."""
    found, taken = list[str](), set[str]()
    for k in range(count):
        name = re.sub(r"\W", "_", names[k] if names else f"{default}{k + 1}", flags=re.ASCII)
        name = name if re.match(r"[A-Za-z]", name) else f"{default}_{name.lstrip('_')}".rstrip("_")
        own, number = name, 1
        while own.upper() in taken:
            number += 1
            own = f"{name}_{number}"
        found.append(own)
        taken.add(own.upper())
    return found
