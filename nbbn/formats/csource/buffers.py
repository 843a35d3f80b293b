"""Where results stand while a row is computed: in the input, in the output, or in a buffer.

A result stays until its last reader has read it; then another one may stand there. In a call `{0}`
stands for the first source, `{1}` for the next, `{y}` for what is written; a call without a `{0}`
changes its first source in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nbbn.operations import Step

INPUT, OUTPUT = "x", "out"
ONE_INPUT = {-1: INPUT}


class Placed(NamedTuple):
    """Calls with the names of the buffers that they read and write, and the size of each buffer."""

    calls: list[str]
    buffers: dict[str, int]


def placed(inputs: int, steps: Sequence[Step[Any]], calls: Sequence[str | None],
           copy: Callable[[str, str, int], str], given: Mapping[int, str] = ONE_INPUT,
           ends: Mapping[str, int] | None = None) -> Placed:
    """Give each result a place; the last one's is the output.

    `inputs` is how many numbers the only input has; of `calls` that of a step is None where its
    result is its source as it stands; `copy` makes the call that copies from a place to a place so
    many numbers. With several inputs and outputs `given` says where each step stands that gives an
    input, and `ends` which step each output is.
    """
    ends = {OUTPUT: len(steps) - 1} if ends is None else ends
    first = _first_there(steps, calls, given, ends)
    last_read = {first[source]: i for i, source in _reads(steps, given)}
    places, free, out = dict(given), list[str](), Placed([], {})
    for name, end in ends.items():
        places.setdefault(first[end], name)
    for i, (step, call) in enumerate(zip(steps, calls)):
        size, at = math.prod(step.output_shape), first[i]
        if i in given:
            continue
        if at not in places:
            places[at] = _buffer(size, free, out.buffers)
        sources = [places[first[source]] for source in step.sources]
        if call is not None:
            if "{0}" not in call and sources[0] != places[at]:
                out.calls.append(copy(sources[0], places[at], size))
            out.calls.append(call.format(*sources, y=places[at]))
        over = {first[j] for j in (i, *step.sources) if last_read.get(first[j], i) == i}
        free += sorted({places[j] for j in over} & set(out.buffers))
    for name, end in ends.items():
        if (stands := places[first[end]]) != name:
            size = inputs if first[end] < 0 else math.prod(steps[end].output_shape)
            out.calls.append(copy(stands, name, size))
    return out


def _reads(steps: Sequence[Step[Any]], given: Mapping[int, str]) -> Iterator[tuple[int, int]]:
    """Each step with each of its sources, but those that stand for inputs."""
    for i, step in enumerate(steps):
        yield from ((i, source) for source in step.sources if i not in given)


def _first_there(steps: Sequence[Step[Any]], calls: Sequence[str | None], given: Mapping[int, str],
                 ends: Mapping[str, int]) -> dict[int, int]:
    """For each result the one that stood first where it stands: its own index, or a source's."""
    last_read: dict[int, float] = {source: i for i, source in _reads(steps, given)}
    last_read |= dict.fromkeys(ends.values(), math.inf) if len(ends) > 1 else {}
    first, until = {i: i for i in given}, dict[int, float].fromkeys(given, math.inf)
    for i, (step, call) in enumerate(zip(steps, calls)):
        if i in given:
            continue
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
