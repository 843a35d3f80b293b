"""Operations as calls of the C functions in `csource.functions`, which work on one row.

An operation is a function `(out, step, arrays)` that gives the call (see `csource.buffers`), or
None where there is nothing to do: a row stands in C order, whatever its shape.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.activations import ELEMENTWISE
from nbbn.formats.csource.buffers import INPUT, OUTPUT, Placed, placed
from nbbn.formats.ports import Port, Ports, ports_of
from nbbn.network import LayerError, Network
from nbbn.operations import Operation, Step, Window

Arrays = dict[str, np.ndarray]


@dataclass
class Lowering:
    """What the calls name: arrays, each `struct nn_window` by its numbers, and functions."""

    dtype: np.dtype
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    windows: dict[tuple[int, ...], str] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)

    def call(self, function: str, *arguments: object) -> str:
        """`nn_FUNCTION(arguments)`."""
        self.functions.add(function)
        return f"nn_{function}({', '.join(map(str, arguments))})"

    def array(self, step: Step[Any], name: str, values: np.ndarray | None) -> str:
        """A constant array's name; `NULL` for None."""
        if values is None:
            return "NULL"
        named = f"{step.operation.name_of(name)}_{step.layer}"
        self.constants[named] = np.asarray(values).astype(self.dtype)
        return named

    def window(self, step: Step[Any], window: Window) -> str:
        """A constant `struct nn_window`, as an argument; its fields in the order of the struct."""
        (top, _), (left, _) = window.sides
        sizes = *window.size, *window.strides, *window.dilation
        numbers = *step.input_shape, *step.output_shape, *sizes, top, left
        return f"&{self.windows.setdefault(numbers, f'window_{len(self.windows)}')}"


def lower(network: Network, ports: Ports | None = None) -> tuple[Lowering, Placed]:
    """The calls that compute a row, and what they name; LayerError where there is no C function."""
    ports = ports or ports_of(network)
    out, steps, calls = Lowering(network.dtype), ports.computation.steps, list[str | None]()
    given = {port.step: name for name, port in named(ports.inputs, INPUT) if port.step is not None}
    for i, step in enumerate(steps):
        kind = type(step.operation)
        if kind not in OPERATIONS:
            known = ", ".join(one.__name__ for one in OPERATIONS)
            raise LayerError(f"layer {step.layer}: to_c cannot write {kind.__name__}; "
                             f"it writes {known}")
        write = _nothing if i in given else OPERATIONS[kind]
        calls.append(write(out, step, step.view(network.weights[step.layer])))
    ends = {name: port.step for name, port in named(ports.outputs, OUTPUT) if port.step is not None}
    size = math.prod(network.input_shape)
    return out, placed(size, steps, calls, partial(out.call, "copy"), given, ends)


def named(ports: Sequence[Port], what: str) -> list[tuple[str, Port]]:
    """Inputs or outputs with the names of their arguments."""
    return [(what if len(ports) == 1 else f"{what}_{port.name}", port) for port in ports]


def literal(value: np.floating) -> str:
    """A float32 or float64 as a C99 literal of exactly its value."""
    if math.isinf(value):
        return "-INFINITY" if value < 0 else "INFINITY"
    digits = re.sub(r"\.?0*p", "p", float(value).hex())
    return digits + ("f" if value.dtype == np.float32 else "")


# -- dense layers, convolutions, pools


def _pixels(step: Step[Any]) -> int:
    return math.prod(step.input_shape[:-1])


def _weights(out: Lowering, step: Step[Any], arrays: Arrays) -> tuple[str, str]:
    return out.array(step, "kernel", arrays["kernel"]), out.array(step, "bias", arrays.get("bias"))


def _dense(out: Lowering, step: Step[op.Dense], arrays: Arrays) -> str:
    sizes = _pixels(step), step.input_shape[-1], step.operation.units
    return out.call("dense", "{0}", "{y}", *sizes, *_weights(out, step, arrays))


def _convolve(out: Lowering, step: Step[Any], arrays: Arrays, function: str = "conv") -> str:
    window, operation = out.window(step, step.operation.window), step.operation
    groups = [operation.groups] if isinstance(operation, op.Convolve) else []
    return out.call(function, "{0}", "{y}", window, *groups, *_weights(out, step, arrays))


def _pool(out: Lowering, step: Step[op.Pool], arrays: Arrays) -> str:
    window = out.window(step, step.operation.window)
    return out.call(f"{step.operation.kind}_pool", "{0}", "{y}", window)


# -- norms


def _batch_norm(out: Lowering, step: Step[op.BatchNorm], arrays: Arrays) -> str:
    mean, var = arrays["mean"], arrays["var"].astype(np.float64)
    gain = arrays.get("gamma", 1.0) / np.sqrt(var + step.operation.epsilon)
    beta = arrays.get("beta", np.zeros_like(mean))
    named = {"mean": mean, "gain": gain, "beta": beta}
    names = (out.array(step, name, values) for name, values in named.items())
    return out.call("batch_norm", "{y}", _pixels(step), step.input_shape[-1], *names)


def _row_norm(out: Lowering, step: Step[op.RowNorm], arrays: Arrays) -> str:
    pixels, channels = step.operation.pixels, step.operation.channels
    sizes = _pixels(step) // pixels, step.input_shape[-1] // channels, pixels, channels
    epsilon = literal(np.float64(step.operation.epsilon))
    names = (out.array(step, name, arrays.get(name)) for name in ("gamma", "beta"))
    return out.call("group_norm", "{y}", *sizes, epsilon, *names)


# -- number by number, and moves


def _elementwise(out: Lowering, step: Step[op.Elementwise], arrays: Arrays) -> str:
    function, numbers = step.operation.function, step.operation.numbers
    kind = np.float64 if ELEMENTWISE[function].in_double else out.dtype.type
    literals = (literal(kind(number)) for number in numbers)
    return out.call(function, "{y}", math.prod(step.output_shape), *literals)


def _affine(out: Lowering, step: Step[op.Affine], arrays: Arrays) -> str:
    numbers = step.operation.of_channels(step.input_shape[-1])
    named = {"mean": numbers["mean"], "gain": numbers["scale"], "beta": numbers["offset"]}
    names = (out.array(step, name, values) for name, values in named.items())
    return out.call("batch_norm", "{y}", _pixels(step), step.input_shape[-1], *names)


def _prelu(out: Lowering, step: Step[op.PRelu], arrays: Arrays) -> str:
    shape, own = step.output_shape, arrays["alpha"].shape
    alpha = out.array(step, "alpha", arrays["alpha"])
    if own == shape:
        return out.call("prelu", "{y}", _three_axes([math.prod(shape)], 1), _three_axes([1], 0),
                        alpha)
    moves = [0 if n == 1 else math.prod(own[k + 1 :]) for k, n in enumerate(own)]
    return out.call("prelu", "{y}", _three_axes(shape, 1), _three_axes(moves, 0), alpha)


def _embed(out: Lowering, step: Step[op.Embed], arrays: Arrays) -> str:
    sizes = math.prod(step.input_shape), step.operation.count, step.operation.width
    table = out.array(step, "embeddings", arrays["embeddings"])
    return out.call("embed", "{0}", "{y}", *sizes, table)


def _dot(out: Lowering, step: Step[op.Dot], arrays: Arrays) -> str:
    a, b = (math.prod(shape[:-1]) for shape in step.shapes)
    sizes = a, b, step.input_shape[-1], int(step.operation.cosine)
    return out.call("dot", "{0}", "{1}", "{y}", *sizes)


def _softmax(out: Lowering, step: Step[op.Softmax], arrays: Arrays) -> str:
    return out.call(step.operation.name, "{y}", _pixels(step), step.input_shape[-1])


def _permute(out: Lowering, step: Step[op.Permute], arrays: Arrays) -> str:
    order, shape = step.operation.order, step.output_shape
    steps = [math.prod(shape[order.index(axis) + 1 :]) for axis in range(len(order))]
    sizes = _three_axes(step.input_shape, 1), _three_axes(steps, 0)
    return out.call("permute", "{0}", "{y}", *sizes)


def _three_axes(numbers: Sequence[int], of_others: int) -> str:
    """A number an axis as a list in C, with those of the axes that a row lacks in front."""
    numbers = *[of_others] * (3 - len(numbers)), *numbers
    return f"(const int[]){{{{{', '.join(map(str, numbers))}}}}}"


def _pad(out: Lowering, step: Step[op.Pad], arrays: Arrays) -> str:
    window = out.window(step, Window((1, 1), sides=step.operation.sides))
    return out.call("pad", "{0}", "{y}", window)


def _repeat(out: Lowering, step: Step[op.Repeat], arrays: Arrays) -> str:
    sizes = _three_axes(step.input_shape, 1), _three_axes(step.operation.times, 1)
    return out.call("repeat", "{0}", "{y}", *sizes)


def _combine(out: Lowering, step: Step[op.Combine], arrays: Arrays) -> str:
    shape, steps = step.output_shape, list[str]()
    same = all(source == shape for source in step.shapes)
    for source in step.shapes:
        aligned = (1,) * (len(shape) - len(source)) + source
        moves = [0 if n == 1 else math.prod(aligned[k + 1 :]) for k, n in enumerate(aligned)]
        steps.append(_three_axes([1] if same else moves, 0))
    sizes = _three_axes([math.prod(shape)] if same else shape, 1)
    return out.call(f"combine_{step.operation.kind}", "{0}", "{1}", "{y}", sizes, *steps)


def _concatenate(out: Lowering, step: Step[op.Concatenate], arrays: Arrays) -> str:
    """A call for each source: its runs stand apart by those of all."""
    axis, whole, at, calls = step.operation.axis, step.output_shape, 0, list[str]()
    runs, apart = math.prod(whole[:axis]), math.prod(whole[axis:])
    for k, shape in enumerate(step.shapes):
        length = math.prod(shape[axis:])
        calls.append(out.call("copy_runs", f"{{{k}}}", f"{{y}} + {at}", runs, length, apart))
        at += length
    return "; ".join(calls)


def _part(out: Lowering, step: Step[op.Part], arrays: Arrays) -> str:
    size = math.prod(step.output_shape)
    return out.call("copy", f"{{0}} + {step.operation.first}", "{y}", size)


def _nothing(out: Lowering, step: Step[Any], arrays: Arrays) -> None:
    """Another shape of the same numbers, or what works in training alone."""


OPERATIONS: dict[type[Operation], Callable[[Lowering, Any, Arrays], str | None]] = {
    op.Dense: _dense, op.Convolve: _convolve,
    op.ConvolveTransposed: partial(_convolve, function="transposed"),
    op.ConvolveDepthwise: partial(_convolve, function="depthwise"), op.Pool: _pool,
    op.BatchNorm: _batch_norm, op.RowNorm: _row_norm, op.Elementwise: _elementwise,
    op.Softmax: _softmax, op.Permute: _permute, op.Reshape: _nothing, op.Pad: _pad,
    op.Repeat: _repeat, op.Combine: _combine, op.Concatenate: _concatenate, op.Part: _part,
    op.Disturb: _nothing, op.Affine: _affine, op.PRelu: _prelu, op.Embed: _embed, op.Dot: _dot,
}
