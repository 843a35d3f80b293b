"""What a network computes: a dozen plain operations, in steps that name their sources.

Layers declare their operations; training, inference, NumPy, C, ONNX and the fold are tables from
operations to functions. A shape is that of one row, channels last, without the batch axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from nbbn.activations import ELEMENTWISE

Shape = tuple[int, ...]
Pair = tuple[int, int]
# Before and after, of height and of width.
Sides = tuple[Pair, Pair]
NO_SIDES: Sides = ((0, 0), (0, 0))


@dataclass(frozen=True)
class Window:
    """A window that slides over height and width.

    Attributes
    ----------
    size, strides, dilation : tuple of two ints
        Taps, steps and distances between taps, down and to the right.
    sides : tuple of two pairs
        What stands around the image: ((top, bottom), (left, right)).
    """

    size: Pair
    strides: Pair = (1, 1)
    dilation: Pair = (1, 1)
    sides: Sides = NO_SIDES

    @property
    def span(self) -> Pair:
        """Height and width that the taps reach over, holes included."""
        (h, w), (dh, dw) = self.size, self.dilation
        return (h - 1) * dh + 1, (w - 1) * dw + 1

    def places(self, image: Shape) -> Pair:
        """Places that the window takes, down and to the right."""
        down, right = (
            (n + sum(side) - span) // stride + 1
            for n, side, span, stride in zip(image, self.sides, self.span, self.strides)
        )
        return down, right

    def written(self, image: Shape) -> Pair:
        """Height and width of what a transposed window writes, less `sides`, which fall away."""
        down, right = (
            (n - 1) * stride + span - sum(side)
            for n, side, span, stride in zip(image, self.sides, self.span, self.strides)
        )
        return down, right

    @property
    def tiles(self) -> bool:
        """Whether windows neither overlap nor leave gaps, and nothing stands around."""
        return self.strides == self.size and self.dilation == (1, 1) and self.sides == NO_SIDES


@dataclass(frozen=True)
class Operation:
    """One thing that is computed, of one or several rows' shapes."""

    # Names of the arrays that it reads; some may be absent in its layer.
    arrays: ClassVar[tuple[str, ...]] = ()

    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of a row that comes out, for the shape of a row of each source."""
        return shapes[0]

    def name_of(self, array: str) -> str:
        """What one of its arrays is called in its layer."""
        return array

    def array_shape(self, array: str, input_shape: Shape) -> Shape | None:
        """Shape that it reads an array in, for rows of a shape; None: that of its layer."""
        return None


@dataclass(frozen=True)
class Weighted(Operation):
    """What multiplies by a kernel and adds a bias.

    Attributes
    ----------
    names : tuple of two str
        What kernel and bias are called in the layer. The kernel may have another shape there, of
        the same numbers in C order.
    """

    arrays = ("kernel", "bias")
    names: tuple[str, str] = field(default=("kernel", "bias"), kw_only=True)

    def name_of(self, array: str) -> str:
        return self.names[self.arrays.index(array)]

    def array_shape(self, array: str, input_shape: Shape) -> Shape | None:
        return self.kernel_shape(input_shape) if array == "kernel" else None

    def kernel_shape(self, input_shape: Shape) -> Shape:
        """Shape of the kernel for rows of a shape."""
        raise NotImplementedError


@dataclass(frozen=True)
class Dense(Weighted):
    """`x @ kernel + bias` along the last axis; kernel `(in, units)`, bias `(units,)`."""

    units: int

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0][:-1], self.units)

    def kernel_shape(self, input_shape: Shape) -> Shape:
        return input_shape[-1], self.units


@dataclass(frozen=True)
class Convolve(Weighted):
    """Cross-correlation; kernel `(kh, kw, in / groups, filters)`, bias `(filters,)`."""

    window: Window
    filters: int
    groups: int = 1

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*self.window.places(shapes[0]), self.filters)

    def kernel_shape(self, input_shape: Shape) -> Shape:
        return (*self.window.size, input_shape[2] // self.groups, self.filters)


@dataclass(frozen=True)
class ConvolveTransposed(Weighted):
    """Each number adds its multiple of the kernel `(kh, kw, filters, in)` to the output.

    `window.sides` falls away of what is written; negative: zeros are appended.
    """

    window: Window
    filters: int

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*self.window.written(shapes[0]), self.filters)

    def kernel_shape(self, input_shape: Shape) -> Shape:
        return (*self.window.size, self.filters, input_shape[2])


@dataclass(frozen=True)
class ConvolveDepthwise(Weighted):
    """Each channel on its own, kernel `(kh, kw, in, multiplier)`, bias `(in * multiplier,)`.

    Output channel `i * multiplier + m` is input channel `i` with filter `m`.
    """

    window: Window
    multiplier: int = 1

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*self.window.places(shapes[0]), shapes[0][2] * self.multiplier)

    def kernel_shape(self, input_shape: Shape) -> Shape:
        return (*self.window.size, input_shape[2], self.multiplier)


@dataclass(frozen=True)
class Pool(Operation):
    """The `max` or `mean` of each window, per channel, of the values that are there."""

    kind: str
    window: Window

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*self.window.places(shapes[0]), shapes[0][2])

    def is_global(self, shape: Shape) -> bool:
        """Whether one window is the whole image."""
        return self.window.size == shape[:2] and self.window.sides == NO_SIDES


@dataclass(frozen=True)
class BatchNorm(Operation):
    """`gamma * (x - mean) / sqrt(var + epsilon) + beta` per number of the last axis.

    Attributes
    ----------
    epsilon : float
    momentum : float or None
        Of the running mean and var; None: the mean over all batches so far.
    uses_running, updates_running : bool
        Whether training normalises with the running values, and whether it moves them.
    """

    epsilon: float
    momentum: float | None = 0.99
    uses_running: bool = False
    updates_running: bool = True

    arrays = ("gamma", "beta", "mean", "var")


@dataclass(frozen=True)
class RowNorm(Operation):
    """`gamma * (x - mean) / sqrt(var + epsilon) + beta` per set of numbers of a row.

    A set is `pixels` neighbouring pixels (all axes but the last, in C order) of `channels`
    neighbouring numbers of the last axis; gamma and beta have as many numbers as the last axis.
    """

    pixels: int
    channels: int
    epsilon: float

    arrays = ("gamma", "beta")


@dataclass(frozen=True)
class Elementwise(Operation):
    """A function of `nbbn.activations.ELEMENTWISE`, with its parameters."""

    function: str
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Affine(Operation):
    """`(x - mean) * scale + offset` per number of the last axis, or with one number for all."""

    scale: tuple[float, ...]
    offset: tuple[float, ...] = (0.0,)
    mean: tuple[float, ...] = (0.0,)

    def of_channels(self, channels: int) -> dict[str, np.ndarray]:
        """Its numbers for each of the last axis, float64."""
        given = {"scale": self.scale, "offset": self.offset, "mean": self.mean}
        return {name: np.broadcast_to(np.array(numbers, np.float64), (channels,))
                for name, numbers in given.items()}


@dataclass(frozen=True)
class PRelu(Operation):
    """`x`, or up to 0 `alpha * x`: alpha has the shape of a row, and 1 along shared axes."""

    arrays = ("alpha",)


@dataclass(frozen=True)
class Embed(Operation):
    """Each number of a row is a row of `embeddings`, `(count, width)`: a further, last axis."""

    count: int
    width: int

    arrays = ("embeddings",)

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0], self.width)


@dataclass(frozen=True)
class Dot(Operation):
    """The product of each vector of one row with each of another, along their last axes.

    Rows are one vector or several; with `cosine` each is divided by its length first.
    """

    cosine: bool = False

    def output_shape(self, *shapes: Shape) -> Shape:
        return tuple(shape[0] for shape in shapes if len(shape) > 1) or (1,)


@dataclass(frozen=True)
class Softmax(Operation):
    """`exp(x - max(x)) / sum(exp(x - max(x)))` over the last axis; with `log` its logarithm."""

    log: bool = False

    @property
    def name(self) -> str:
        """Of the activation."""
        return "log_softmax" if self.log else "softmax"


@dataclass(frozen=True)
class Permute(Operation):
    """Axis `k` of what comes out is axis `order[k]` of a row, of at most three axes."""

    order: tuple[int, ...]

    def output_shape(self, *shapes: Shape) -> Shape:
        return tuple(shapes[0][k] for k in self.order)

    @property
    def inverse(self) -> Permute:
        """What undoes it."""
        return Permute(tuple(self.order.index(k) for k in range(len(self.order))))


@dataclass(frozen=True)
class Reshape(Operation):
    """The same numbers in C order as rows of another shape."""

    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.shape


@dataclass(frozen=True)
class Pad(Operation):
    """Zeros around height and width: ((top, bottom), (left, right)).

    Negative on all sides: as much falls away.
    """

    sides: Sides

    def output_shape(self, *shapes: Shape) -> Shape:
        height, width, channels = shapes[0]
        return height + sum(self.sides[0]), width + sum(self.sides[1]), channels


@dataclass(frozen=True)
class Repeat(Operation):
    """Each number along axis `k` of a row, of at most three axes, `times[k]` in a row."""

    times: tuple[int, ...]

    def output_shape(self, *shapes: Shape) -> Shape:
        return tuple(n * times for n, times in zip(shapes[0], self.times))


@dataclass(frozen=True)
class Combine(Operation):
    """Two rows number by number: `add`, `subtract`, `multiply`, `maximum` or `minimum`.

    An axis of length 1 goes along with all of the other row's, as does an axis in front that is not
    there; rows of at most three axes where they differ.
    """

    kind: str

    def output_shape(self, *shapes: Shape) -> Shape:
        rank = max(len(shape) for shape in shapes)
        aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
        return tuple(max(axis) if 0 not in axis else 0 for axis in zip(*aligned))


@dataclass(frozen=True)
class Concatenate(Operation):
    """Rows one after the other along an axis of a row."""

    axis: int

    def output_shape(self, *shapes: Shape) -> Shape:
        whole = sum(shape[self.axis] for shape in shapes)
        return (*shapes[0][: self.axis], whole, *shapes[0][self.axis + 1 :])


@dataclass(frozen=True)
class Part(Operation):
    """Numbers of a row from `first` on, as rows of `shape`: one of several inputs."""

    first: int
    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.shape


@dataclass(frozen=True)
class Disturb(Operation):
    """What works in training alone: `dropout` with a rate, or `noise` of a deviation.

    Attributes
    ----------
    kind : {"dropout", "noise"}
    amount : float
    seed : int or None
        Of its own random numbers; None: they follow from the model's.
    noise_shape : tuple or None
        Of a dropout's mask, with the batch axis in front; None: as what goes in.
    """

    kind: str
    amount: float
    seed: int | None = None
    noise_shape: tuple[int | None, ...] | None = None


OPERATIONS: tuple[type[Operation], ...] = (Dense, Convolve, ConvolveTransposed, ConvolveDepthwise,
                                           Pool, BatchNorm, RowNorm, Elementwise, Affine, PRelu,
                                           Softmax, Permute, Reshape, Pad, Repeat, Embed, Combine,
                                           Dot, Concatenate, Part, Disturb)


AnOperation = TypeVar("AnOperation", bound=Operation)


# Activations whose values are shares, or become some when they are divided by their sum.
_SHARES = ("sigmoid", "hard_sigmoid", "softplus", "exponential")
# The layer of steps that no layer has declared: they read no arrays.
NO_LAYER = -1


@dataclass(frozen=True)
class Step(Generic[AnOperation]):
    """An operation in its place.

    Attributes
    ----------
    operation : Operation
    layer : int
        Whose arrays it reads; `NO_LAYER` for none.
    sources : tuple of int
        Indices of the steps whose results it takes; -1 is the network's input.
    shapes : tuple of Shape
        Of a row of each source.
    output_shape : Shape
        Of a row that comes out.
    """

    operation: AnOperation
    layer: int
    sources: tuple[int, ...]
    shapes: tuple[Shape, ...]
    output_shape: Shape

    @property
    def input_shape(self) -> Shape:
        """Of a row of the first source."""
        return self.shapes[0]

    @property
    def activation(self) -> str | None:
        """Name of the activation that it is; None for what is none."""
        if isinstance(self.operation, Softmax):
            return self.operation.name
        return self.operation.function if isinstance(self.operation, Elementwise) else None

    def key_of(self, array: str) -> tuple[int, str]:
        """Layer of one of the operation's arrays, and what it is called there."""
        return self.layer, self.operation.name_of(array)

    @property
    def keys(self) -> list[tuple[int, str]]:
        """`key_of` all arrays."""
        return [self.key_of(array) for array in self.operation.arrays]

    def view(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A layer's arrays as the operation names and reads them; no copies of whole arrays."""
        views = {}
        for own in self.operation.arrays:
            if (named := self.operation.name_of(own)) in arrays:
                shape = self.operation.array_shape(own, self.input_shape)
                views[own] = arrays[named] if shape is None else arrays[named].reshape(shape)
        return views


@dataclass(frozen=True)
class Array:
    """What is declared of an array of a layer.

    Attributes
    ----------
    shape : Shape
        In the user's layout.
    trained : bool
        Whether training changes it by gradients.
    l1, l2 : float
        Its penalty: `l1 * sum(|a|) + l2 * sum(a^2)`.
    constraint : callable, optional
        From it to what it becomes after each step of the optimiser; nothing to a program.
    """

    shape: Shape
    trained: bool
    l1: float = 0.0
    l2: float = 0.0
    constraint: Callable[[np.ndarray], np.ndarray] | None = field(default=None, compare=False,
                                                                  repr=False)

    @property
    def penalised(self) -> bool:
        """Whether it has a penalty."""
        return bool(self.l1 or self.l2)


@dataclass(frozen=True)
class Indices:
    """`size` numbers of a row from `first` on, which are to be whole, from 0 to `count - 1`."""

    first: int
    size: int
    count: int

    def check(self, rows: np.ndarray, name: str = "x") -> None:
        """ValueError for numbers of rows that are none of them."""
        given = rows.reshape(len(rows), -1)[:, self.first : self.first + self.size]
        wrong = ~((given >= 0) & (given < self.count))  # NaN too
        if given.dtype.kind == "f":
            wrong |= given != np.floor(given)
        if wrong.any():
            row, column = (int(k) for k in np.argwhere(wrong)[0])
            value = given[row, column]
            shown = f"{value:.10g}" if given.dtype.kind == "f" else f"{value}"
            raise ValueError(f"{name} holds {shown} in row {row}, which an Embedding reads: it "
                             f"takes whole numbers from 0 to {self.count - 1}; number them so, or "
                             "give it a larger input_dim")


@dataclass(frozen=True)
class Computation:
    """A network as steps, in an order in which each stands behind its sources.

    Attributes
    ----------
    input_shape : Shape
        Of one row.
    steps : tuple of Step
    arrays : tuple of dict
        What each layer declares of its arrays, by name.
    ends : tuple of int
        Steps that give the outputs of a network of several, each for a loss of its own; empty for
        one output, which the last step gives.
    """

    input_shape: Shape
    steps: tuple[Step[Any], ...]
    arrays: tuple[dict[str, Array], ...]
    ends: tuple[int, ...] = ()

    @property
    def output_shape(self) -> Shape:
        """Of one row."""
        return self.steps[-1].output_shape if self.steps else self.input_shape

    @property
    def inference(self) -> Computation:
        """The same without what works in training alone, several outputs beside each other."""
        builder, place = Builder(self.input_shape), {-1: -1}
        for i, step in enumerate(self.steps):
            sources = tuple(place[source] for source in step.sources)
            disturbs = isinstance(step.operation, Disturb)
            place[i] = sources[0] if disturbs else builder.add(step.operation, step.layer, sources)
        end = builder.joined([place[i] for i in self.ends or (len(self.steps) - 1,)])
        return replace(builder.computation(end), arrays=self.arrays)

    @property
    def indices(self) -> list[Indices]:
        """Numbers of the input that are read as rows of a table."""
        found = []
        for step in self.steps:
            places = self._places(step.sources[0]) if isinstance(step.operation, Embed) else None
            if places is not None:
                flat = places.ravel()
                for run in np.split(flat, np.flatnonzero(np.diff(flat) != 1) + 1):
                    found.append(Indices(int(run[0]), len(run), step.operation.count))
        return found

    def _places(self, at: int) -> np.ndarray | None:
        """Which numbers of the input a step gives, where it only moves and picks them."""
        if at < 0:
            return np.arange(math.prod(self.input_shape)).reshape(self.input_shape)
        operation, shape = self.steps[at].operation, self.steps[at].output_shape
        before = self._places(self.steps[at].sources[0])
        if before is None:
            return None
        if isinstance(operation, Reshape):
            return before.reshape(shape)
        if isinstance(operation, Part):
            first = operation.first
            return before.reshape(-1)[first : first + math.prod(shape)].reshape(shape)
        if isinstance(operation, Permute):
            return before.transpose(operation.order)
        if isinstance(operation, Pad) and np.max(operation.sides) <= 0:
            (top, _), (left, _) = operation.sides
            return before[-top : -top + shape[0], -left : -left + shape[1]]
        return None

    @property
    def last_activation(self) -> int | None:
        """Index of the step that is the network's last activation: only other shapes follow it."""
        at = len(self.steps) - 1
        while at >= 0 and isinstance(self.steps[at].operation, Reshape | Disturb):
            at = self.steps[at].sources[0]
        found = at >= 0 and isinstance(self.steps[at].operation, Elementwise | Softmax)
        return at if found else None

    def closing(self, end: int, activation: str) -> int | None:
        """The step of this activation that gives what step `end` gives, or None.

        A sigmoid may stand before other shapes of the same numbers.
        """
        if activation == "sigmoid":
            while end >= 0 and isinstance(self.steps[end].operation, Reshape):
                end = self.steps[end].sources[0]
        found = end >= 0 and self.steps[end].activation == activation
        return end if found else None

    def between(self, first: int, end: int) -> list[int]:
        """The steps from one to another that follows from it alone."""
        steps = [end]
        while steps[0] != first:
            steps.insert(0, self.steps[steps[0]].sources[0])
        return steps

    def ends_as(self, end: int) -> str:
        """Name of the activation that a loss which begins before it finds at the end, or what else
        ends it: `linear` without one."""
        for name in ("softmax", "sigmoid"):
            if self.closing(end, name) is not None:
                return name
        return (self.steps[end].activation if end >= 0 else None) or "linear"

    def gives_shares(self, end: int) -> bool:
        """Whether what a step gives may be probabilities: not where weights or norms have the last
        word, nor an activation that goes below 0."""
        if end < 0:
            return True
        step = self.steps[end]
        if isinstance(step.operation, Elementwise):
            return step.activation in _SHARES
        if isinstance(step.operation, Softmax):
            return not step.operation.log
        if isinstance(step.operation, Part):
            return True
        if step.operation.arrays:
            return False
        return all(self.gives_shares(source) for source in step.sources)

    @property
    def ends_with(self) -> str:
        """Name of the activation that ends the network, `linear` without one."""
        if self.last_activation is None:
            return "linear"
        operation = self.steps[self.last_activation].operation
        return operation.function if isinstance(operation, Elementwise) else operation.name


class Builder:
    """Makes a `Computation`, operation by operation.

    Parameters
    ----------
    input_shape : Shape
    """

    def __init__(self, input_shape: Shape):
        self.input_shape = tuple(input_shape)
        self._steps: list[Step[Any]] = []
        self._arrays: dict[int, dict[str, Array]] = {}

    def shape(self, source: int) -> Shape:
        """Of a row that a step gives; -1 is the input."""
        return self._steps[source].output_shape if source >= 0 else self.input_shape

    def add_layer(self, layer: int, operations: list[Operation], arrays: dict[str, Array],
                  sources: tuple[int, ...]) -> int:
        """A layer's operations: the first takes the sources, each other the one before it.

        Returns
        -------
        int
            The step that gives the layer's result.
        """
        self._arrays[layer] = arrays
        for operation in operations:
            sources = (self.add(operation, layer, sources),)
        return sources[0]

    def add(self, operation: Operation, layer: int, sources: tuple[int, ...]) -> int:
        """One step; its index. More than two rows are combined two by two, from the first on."""
        if isinstance(operation, Combine) and len(sources) > 2:
            sources = (self.add(operation, layer, sources[:-1]), sources[-1])
        shapes = tuple(self.shape(source) for source in sources)
        step = Step(operation, layer, sources, shapes, operation.output_shape(*shapes))
        self._steps.append(step)
        return len(self._steps) - 1

    def joined(self, ends: list[int]) -> int:
        """The step that gives rows of several steps beside each other, flattened."""
        if len(ends) == 1:
            return ends[0]
        flat = []
        for end in ends:
            shape = self.shape(end)
            row = Reshape((math.prod(shape),))
            flat.append(self.add(row, NO_LAYER, (end,)) if len(shape) > 1 else end)
        return self.add(Concatenate(0), NO_LAYER, tuple(flat))

    def computation(self, *outputs: int) -> Computation:
        """What was made: the steps that lead to the outputs, by default to the last one.

        Of one output each other step leads to another, so it is the last of them.
        """
        ends = outputs or (len(self._steps) - 1,)
        needed = {*ends}
        for i in range(len(self._steps) - 1, -1, -1):
            needed |= {*self._steps[i].sources} if i in needed else set()
        place, steps = {-1: -1}, list[Step[Any]]()
        for i in sorted(needed - {-1}):
            step = self._steps[i]
            place[i] = len(steps)
            steps.append(replace(step, sources=tuple(place[source] for source in step.sources)))
        arrays = tuple(self._arrays.get(k, {}) for k in range(max(self._arrays, default=-1) + 1))
        several = tuple(place[end] for end in ends) if len(ends) > 1 else ()
        return Computation(self.input_shape, tuple(steps), arrays, several)


# -- what several layers declare


def activation(name: Any) -> list[Operation]:
    """The activation of this name (`nbbn.activations.ACTIVATIONS`), or of a layer that is one."""
    if not isinstance(name, str):
        return name.operations((2,))
    if name == "linear":
        return []
    if name in ("softmax", "log_softmax"):
        return [Softmax(name != "softmax")]
    return [Elementwise(name, ELEMENTWISE[name].defaults)]


def reshaped(before: Shape, after: Shape) -> list[Operation]:
    """Rows of one shape as rows of another."""
    return [] if before == after else [Reshape(after)]


def permuted(shape: Shape, order: tuple[int, ...]) -> list[Operation]:
    """Axes of rows in another order: axis `k` is axis `order[k]` before.

    Rows of more than three axes go as ones of three, axis by axis to the end.
    """
    if len(shape) <= 3 or order == tuple(range(len(shape))):
        return [] if order == tuple(range(len(shape))) else [Permute(order)]
    operations, axes = list[Operation](), list(range(len(shape)))
    for axis in order:
        at = axes.index(axis)
        if at < len(axes) - 1:
            operations += _last(shape, at)
        shape = (*shape[:at], *shape[at + 1 :], shape[at])
        axes.append(axes.pop(at))
    return operations


def _last(shape: Shape, axis: int) -> list[Operation]:
    """One axis behind the others, by way of rows of three: before it, itself, behind it."""
    before, n, behind = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    moved = (*shape[:axis], *shape[axis + 1 :], n)
    return [Reshape((before, n, behind)), Permute((0, 2, 1)), Reshape(moved)]


def over_last(shape: Shape, axes: tuple[int, ...],
              inner: Callable[[Shape], list[Operation]]) -> list[Operation]:
    """What `inner` declares for rows whose axes `axes` are one, the last.

    Before and after it they move.

    Parameters
    ----------
    shape : Shape
    axes : tuple of int
        Ascending indices into `shape`.
    inner : callable
        From the shape with the axes at the end to operations that leave it as it is.
    """
    there, moved = _moved_last(shape, axes)
    rest = len(shape) - len(axes)
    joined = (*moved[:rest], math.prod(moved[rest:]))
    return [
        *there, *reshaped(moved, joined), *inner(joined), *reshaped(joined, moved),
        *undone(shape, there),
    ]


def _moved_last(shape: Shape, axes: tuple[int, ...]) -> tuple[list[Operation], Shape]:
    """Operations that put axes behind the others, and the shape that this gives.

    Rows of more than three axes go as ones of three: before the axis, the axis, behind it.
    """
    order = (*(k for k in range(len(shape)) if k not in axes), *axes)
    if order == tuple(range(len(shape))):
        return [], shape
    if len(shape) <= 3:
        operation = Permute(order)
        return [operation], operation.output_shape(shape)
    operations: list[Operation] = []
    for moves, axis in enumerate(axes):
        at = axis - moves
        operations += _last(shape, at)
        shape = (*shape[:at], *shape[at + 1 :], shape[at])
    return operations, shape


def undone(shape: Shape, operations: list[Operation]) -> list[Operation]:
    """What takes permutations and reshapes of rows of `shape` back."""
    undone: list[Operation] = []
    for operation in operations:
        back = operation.inverse if isinstance(operation, Permute) else Reshape(shape)
        undone.insert(0, back)
        shape = operation.output_shape(shape)
    return undone
