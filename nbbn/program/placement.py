"""Memory of a training step by need: a buffer has its place from its first writer to its last
reader, and others have it before and behind.

Threads of a team run on between barriers. So one buffer follows another in the same place only
where a whole barrier lies between them: all threads arrive behind the last use of the one, and wait
before the first use of the other, in this step and in the next.

Large ones are placed first, each as low as it fits: "greedy by size" of Pisarchyk and Lee,
"Efficient Memory Management for Deep Neural Net Inference" (2020).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container
from dataclasses import dataclass, replace

from nbbn.program.program import Buffer, Program, Segment, first_gap


@dataclass(frozen=True)
class Moves:
    """How far each working buffer has moved, by name."""

    by_name: dict[str, int]

    def __call__(self, buffer: Buffer) -> Buffer:
        """A buffer, or a part of one, in its new place."""
        if buffer.segment != Segment.WORK:
            return buffer
        return replace(buffer, offset=buffer.offset + self.by_name.get(buffer.name, 0))


def share_memory(program: Program, lasting: Container[str] = ()) -> Moves:
    """Place the working buffers of a training program by need.

    Parameters
    ----------
    program : Program
        Whole; it is changed. Where its barriers stand does not change.
    lasting : container of str
        Names of buffers that keep what they hold, or count on zeros: nobody shares their place.
    """
    phases = phases_of(program, lasting)
    sizes = {name: program.pieces[name][1] for name in phases}
    places = _greedy(phases, sizes)
    moves = Moves({name: at - program.pieces[name][0] for name, at in places.items()})
    program.move(moves, places, max((places[name] + sizes[name] for name in places), default=0))
    return moves


def phases_of(program: Program, lasting: Container[str] = ()) -> dict[str, int]:
    """When each working buffer is in use: a bit for each phase of a step.

    A phase ends where all threads have met. What is used behind the last barrier is in use up to
    the first one of the next step. Buffers that nobody uses have no place.
    """
    barriers = program.barriers()
    waits = _set(barriers)
    comes = _set(program.arrivals(barriers))
    count = max(1, len(waits))
    every = (1 << count) - 1
    phases: dict[str, int] = {}
    for name, (_, begin, end) in program.uses(Segment.WORK).items():
        first, last = bisect_left(waits, begin), bisect_left(comes, end)
        own = sum(1 << k % count for k in range(first, min(last, first + count - 1) + 1))
        phases[name] = every if name in lasting else own
    return phases | {buffer.name: every for buffer in program.shared.values()}


def most_at_once(program: Program, phases: dict[str, int]) -> int:
    """Bytes of the buffers that are in use in one phase, at most."""
    count = max(phases.values(), default=0).bit_length()
    return max((sum(program.pieces[name][1] for name, own in phases.items() if own >> k & 1)
                for k in range(count)), default=0)


def _set(flags: list[bool]) -> list[int]:
    return [i for i, flag in enumerate(flags) if flag]


def _greedy(phases: dict[str, int], sizes: dict[str, int]) -> dict[str, int]:
    """Large ones first, each in the first place that is free in all its phases."""
    placed: list[tuple[int, int, int]] = []  # start, end, phases
    places: dict[str, int] = {}
    for name in sorted(phases, key=sizes.__getitem__, reverse=True):
        taken = sorted((start, end) for start, end, own in placed if own & phases[name])
        places[name] = first_gap(taken, sizes[name])
        placed.append((places[name], places[name] + sizes[name], phases[name]))
    return places
