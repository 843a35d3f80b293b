"""Where results stand while a row is computed: in the input, in the output, or in a buffer.

A result stays until its last reader has read it; then another one may stand there. In a call `{0}`
stands for the first source, `{1}` for the next, `{y}` for what is written; a call without a `{0}`
changes its first source in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nbbn.operations import Step

INPUT, OUTPUT = "x", "out"


class Placed(NamedTuple):
    """Calls with the names of the buffers that they read and write, and the size of each buffer."""

    calls: list[str]
    buffers: dict[str, int]


def placed(inputs: int, steps: Sequence[Step[Any]], calls: Sequence[str | None],
           copy: Callable[[str, str, int], str]) -> Placed:
    """Give each result a place; the last one's is the output.

    `inputs` is how many numbers the input has; of `calls` that of a step is None where its result
    is its source as it stands; `copy` makes the call that copies from a place to a place so many
    numbers.
    """
    first = _first_there(steps, calls)
    last_read = {first[source]: i for i, step in enumerate(steps) for source in step.sources}
    result = first[len(steps) - 1]
    places, free, out = {-1: INPUT, result: OUTPUT}, list[str](), Placed([], {})
    if result == -1:
        return Placed([copy(INPUT, OUTPUT, inputs)], {})
    for i, (step, call) in enumerate(zip(steps, calls)):
        size, at = math.prod(step.output_shape), first[i]
        if at not in places:
            places[at] = _buffer(size, free, out.buffers)
        sources = [places[first[source]] for source in step.sources]
        if call is not None:
            if "{0}" not in call and sources[0] != places[at]:
                out.calls.append(copy(sources[0], places[at], size))
            out.calls.append(call.format(*sources, y=places[at]))
        over = {first[j] for j in (i, *step.sources) if last_read.get(first[j], i) == i}
        free += sorted({places[j] for j in over} & set(out.buffers))
    return out


def _first_there(steps: Sequence[Step[Any]], calls: Sequence[str | None]) -> dict[int, int]:
    """For each result the one that stood first where it stands: its own index, or a source's."""
    last_read = {source: i for i, step in enumerate(steps) for source in step.sources}
    first, until = {-1: -1}, {-1: math.inf}
    for i, (step, call) in enumerate(zip(steps, calls)):
        there = first[step.sources[0]]
        # In place of what nobody reads any more; the caller's rows are not written.
        stays = call is None or ("{0}" not in call and until[there] <= i)
        first[i] = there if stays else i
        until[first[i]] = max(until.get(first[i], i), last_read.get(i, i))
    return first


def _buffer(size: int, free: list[str], buffers: dict[str, int]) -> str:
    """Take the smallest free buffer that is large enough, else make the largest one grow."""
    fitting = [name for name in free if buffers[name] >= size]
    if fitting:
        name = min(fitting, key=buffers.__getitem__)
    else:
        name = max(free, key=buffers.__getitem__, default=f"t{len(buffers)}")
    if name in free:
        free.remove(name)
    buffers[name] = max(size, buffers.get(name, 0))
    return name
