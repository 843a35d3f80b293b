"""Which nodes rows go through, who reads what, and which nodes are one layer together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.operators import operator_of
from nbbn.formats.onnx.read_forks import Build, Found, Term, X, found_form
from nbbn.formats.onnx.read_products import Meeting, Meetings

# How far it is looked for the next node on images, so that many nodes do not take the square of
# their number.
_AHEAD = 100
# What leaves numbers as they are.
_MOVES = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather",
          "Cast")
# The longest form that is known has fewer nodes.
_MAX_FORM = 32


class Given(NamedTuple):
    """An input of the graph: how many rows where that is fixed, and what a row is."""

    name: str
    batch: int | None
    row: tuple[int, ...]
    dtype: np.dtype


class Form(NamedTuple):
    """Nodes that are one layer of the value `start`, which they read so many times."""

    start: str
    times: int
    build: Build
    found: Found
    inner: frozenset[int]


class Rows:
    """The nodes of a graph by what goes through them.

    Attributes
    ----------
    nodes : sequence of OnnxNode
    there : list of bool
        For each node whether rows go in, and not constants or their shape alone.
    """

    def __init__(self, nodes: Sequence[OnnxNode], inputs: Sequence[Given], outputs: Sequence[str]):
        self.nodes, self.inputs, self.outputs = nodes, inputs, tuple(outputs)
        self._giver: dict[str, int] = {}
        self._values = {given.name for given in inputs}
        self.there = list[bool]()
        for i, node in enumerate(nodes):
            reads = node.operator != "Shape" and any(name in self._values for name in node.inputs)
            self.there.append(reads)
            if reads:
                named = [name for name in node.outputs if name]
                self._values.update(named)
                self._giver.update(dict.fromkeys(named, i))
        self._readers: dict[str, list[int]] = {}
        for i in range(len(nodes)):
            for name in self.read_by(i):
                self._readers.setdefault(name, []).append(i)

    def read_by(self, i: int) -> list[str]:
        """The values of rows that a node reads, each as often as it does."""
        if not self.there[i]:
            return []
        return [name for name in self.nodes[i].inputs if name in self._values]

    def uses(self) -> Counter[str]:
        """How often each value is read, the graph's outputs included."""
        return Counter({name: len(readers) for name, readers in self._readers.items()}) + Counter(
            self.outputs)

    def following(self, name: str) -> list[OnnxNode]:
        """The nodes that read a value, in the file's order."""
        return [self.nodes[i] for i in self._readers.get(name, ())]

    def channel_axis(self, name: str, rank: int) -> int | None:
        """The axis of a row that the next of the nodes on images takes for the channels.

        None where there is no such node of rows of this many axes.
        """
        perms = {name: list(range(rank + 1))}
        ahead, seen = [*self._readers.get(name, ())], set[int]()
        for _ in range(_AHEAD):
            if not ahead:
                break
            i = min(ahead)
            ahead = [other for other in ahead if other != i]
            seen.add(i)
            node, operator = self.nodes[i], operator_of(self.nodes[i])
            perm = next(perms[value] for value in self.read_by(i) if value in perms)
            if operator.on_images if rank == 3 else operator.slides:
                return perm[1] - 1
            if node.operator == "Transpose":
                given = node.attributes.get("perm") or []
                if sorted(given) != list(range(rank + 1)):
                    continue
                perm = [perm[axis] for axis in given]
            elif operator.mixes_axes:
                continue
            for value in node.outputs:
                perms[value] = perm
                ahead += [other for other in self._readers.get(value, ()) if other not in seen]
        return None

    def only_numbers_rows(self, name: str) -> bool:
        """Whether a value is read for nothing but to say which rows of tables are taken."""
        ahead, seen = [name], {*self.outputs}
        while ahead:
            value = ahead.pop()
            if value in seen or not self._readers.get(value):
                return False
            for i in self._readers[value]:
                node = self.nodes[i]
                if node.operator == "Gather" and node.inputs[1] == value:
                    continue
                if node.operator not in _MOVES or node.inputs[0] != value:
                    return False
                ahead += [output for output in node.outputs if output]
        return True

    # -- nodes that are one layer together

    def forms(self, constant: Callable[[str], Any]) -> dict[int, Form | Meeting]:
        """By its last node each form that is found; `constant` gives the numbers of a constant."""
        forms, taken = dict[int, Form | Meeting](), set[int]()
        meetings = Meetings(self.nodes, self._giver.get, constant)
        for i in range(len(self.nodes) - 1, -1, -1):
            if i in taken:
                continue
            form = (self._form(i, constant) if len(self.read_by(i)) > 1 else None
                    ) or self._closed(i, meetings.ending_at(i))
            if form is not None:
                forms[i] = form
                taken |= form.inner
        return forms

    def _closed(self, last: int, meeting: Meeting | None) -> Meeting | None:
        """A meeting of which nothing else reads what is between."""
        return meeting if meeting and self._only_read_by(meeting.inner, last) else None

    def _only_read_by(self, inner: Collection[int], last: int) -> bool:
        """Whether what nodes give is read by them and the last one alone."""
        between = [name for i in inner for name in self.nodes[i].outputs]
        readers = {i for name in between for i in self._readers.get(name, ())}
        return readers <= {*inner, last} and not any(name in self.outputs for name in between)

    def times(self, start: str, inner: Collection[int], last: int) -> int:
        """How often some nodes read a value."""
        return sum(self.read_by(i).count(start) for i in (*inner, last))

    def _form(self, last: int, constant: Callable[[str], Any]) -> Form | None:
        region = self._region(last)
        if region is None:
            return None
        start, inner = region
        found = found_form(self._term(last, start, constant, {}))
        if found is None:
            return None
        return Form(start, self.times(start, inner, last), *found, frozenset(inner))

    def _region(self, last: int) -> tuple[str, set[int]] | None:
        """The nearest value that all ways to a node come through, and the nodes between.

        None where that is too far, or something else reads what is between.
        """
        ways, inner, behind = set(self.read_by(last)), set[int](), last
        while len(ways) > 1:
            latest = max(self._giver.get(name, -1) for name in ways)
            if not 0 <= latest < behind or len(inner) == _MAX_FORM:
                return None
            inner.add(latest)
            behind = latest
            ways = {name for name in ways if self._giver.get(name, -1) != latest}
            ways |= set(self.read_by(latest))
        return (ways.pop(), inner) if self._only_read_by(inner, last) else None

    def _term(self, i: int, start: str, constant: Callable[[str], Any],
              known: dict[int, Term]) -> Term:
        """A node's result as a term of a value."""
        if i not in known:
            args = tuple(
                X if name == start else
                self._term(self._giver[name], start, constant, known) if name in self._giver else
                constant(name) for name in self.nodes[i].inputs)
            known[i] = Term(self.nodes[i], args)
        return known[i]
