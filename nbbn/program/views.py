"""Steps without reshapes that move nothing: those that only put axes of length 1 in front.

Rows of steps go through convolutions as images of one line. What stands between two of these works
number by number or along the last axis, on such an image as on the steps, and reads the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nbbn import operations as op
from nbbn.operations import Computation, Shape, Step

# Operations of rows of two axes or more that leave the axes before the last as they are.
_ALONG_LAST = (op.BatchNorm, op.RowNorm, op.Elementwise, op.Softmax, op.Dense)


def is_view(before: Shape, after: Shape) -> bool:
    """Whether rows of two shapes differ in leading axes of length 1 alone."""
    return min(len(before), len(after)) > 1 and _core(before) == _core(after)


def _core(shape: Shape) -> Shape:
    at = 0
    while len(shape) - at > 2 and shape[at] == 1:
        at += 1
    return shape[at:]


def without_views(computation: Computation) -> tuple[list[Step[Any]], dict[int, int]]:
    """The steps, where views are needed between others, and where each step's result is."""
    rest = _Rest(computation.input_shape)
    for i, step in enumerate(computation.steps):
        rest.place[i] = rest.add(step)
    return rest.steps, rest.place


@dataclass
class _Rest:
    input_shape: Shape
    steps: list[Step[Any]] = field(default_factory=list)
    place: dict[int, int] = field(default_factory=lambda: {-1: -1})
    # Of results in another shape: the steps that give them.
    views: dict[tuple[int, Shape], int] = field(default_factory=dict)

    def add(self, step: Step[Any]) -> int:
        """A step on what its sources give, in its shape or another; where its result is."""
        sources = [self.place[source] for source in step.sources]
        shapes = tuple(map(self._shape, sources))
        operation = step.operation
        if isinstance(operation, op.Reshape):
            if is_view(shapes[0], operation.shape):
                return sources[0]
        elif shapes != step.shapes and not _goes_along(operation, shapes):
            pairs = zip(sources, step.shapes)
            sources, shapes = [self._seen(*pair) for pair in pairs], step.shapes
        self.steps.append(replace(step, sources=tuple(sources), shapes=shapes,
                                  output_shape=operation.output_shape(*shapes)))
        return len(self.steps) - 1

    def _shape(self, source: int) -> Shape:
        return self.input_shape if source < 0 else self.steps[source].output_shape

    def _seen(self, source: int, shape: Shape) -> int:
        """The step that gives a result in this shape."""
        before = self._shape(source)
        if before == shape:
            return source
        if (source, shape) not in self.views:
            view = op.Reshape(shape)
            self.steps.append(Step(view, op.NO_LAYER, (source,), (before,), shape))
            self.views[source, shape] = len(self.steps) - 1
        return self.views[source, shape]


def _goes_along(operation: op.Operation, shapes: tuple[Shape, ...]) -> bool:
    """Whether an operation gives the same numbers for rows with other leading axes of length 1."""
    if isinstance(operation, op.Combine):
        return len({*shapes}) == 1
    plain = isinstance(operation, op.Disturb) and operation.noise_shape is None
    return plain or isinstance(operation, _ALONG_LAST)
