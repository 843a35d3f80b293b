"""What the columns of a table hold, and how each becomes columns of numbers: plain JSON."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from nbbn.formats.files import BROKEN, FileError, one_line
from nbbn.tables.cells import MISSING, ORDERS, Cells

VERSION = 1
DAY = 86_400.0
_LAST_DAY = 1e7  # a few ten thousand years from 1970
# A column of more different texts gives its most frequent ones a column each, and all others share
# the rest, by a checksum of the text.
MAX_CATEGORIES, OWN, SHARED = 64, 48, 16
_ADVICE = "correct it, or leave the cell empty"


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    kind: ClassVar[str]
    name: str
    # Whether some cells held nothing, which a column of numbers of its own says.
    missing: bool = field(default=False, kw_only=True)

    def parts(self) -> list[str]:
        """What its columns of numbers say besides its name."""
        return [""]

    def values(self, cells: Cells) -> np.ndarray:
        """Columns of numbers, without the one for missing cells; NaN stands for these."""
        raise NotImplementedError

    def facts(self) -> str:
        """What to show of it."""
        return ""


@dataclass(frozen=True)
class Number(Column):
    """Numbers as they are."""

    kind: ClassVar[str] = "number"
    lenient: bool = False  # texts count as missing

    def values(self, cells: Cells) -> np.ndarray:
        numbers = cells.numbers
        if not np.isfinite(numbers).all():
            _check(cells, numbers, "is no number", self.lenient)
            infinite = np.flatnonzero(np.isinf(numbers))
            if len(infinite):
                raise cells.refuse(int(infinite[0]), "is infinite", _ADVICE)
        return numbers[:, None]

    def facts(self) -> str:
        return "texts count as missing" if self.lenient else ""


@dataclass(frozen=True)
class Truth(Column):
    """True and false: 1 and 0."""

    kind: ClassVar[str] = "bool"

    def values(self, cells: Cells) -> np.ndarray:
        found = cells.truths
        _check(cells, found, "is neither True nor False", False)
        return found[:, None]


@dataclass(frozen=True)
class Date(Column):
    """Days from a first one, and the places in the year, the week and, with times, the day."""

    kind: ClassVar[str] = "date"
    order: str
    origin: float  # days from 1970
    times: bool

    def parts(self) -> list[str]:
        cycles = ["year", "week", *(["day"] if self.times else [])]
        return ["days", *(f"{part} of {cycle}" for cycle in cycles for part in ("sine", "cosine"))]

    def values(self, cells: Cells) -> np.ndarray:
        seconds = cells.seconds(self.order)
        _check(cells, seconds, f"is no date, {self.order}", False)
        days = seconds / DAY
        turns = [days / 365.2425, days / 7.0, *([days] if self.times else [])]
        cycles = [f(2 * math.pi * (turn % 1.0)) for turn in turns for f in (np.sin, np.cos)]
        return np.stack([days - self.origin, *cycles], axis=1)

    def facts(self) -> str:
        first = np.datetime64(int(self.origin), "D")
        return f"{self.order}, days from {first}"


@dataclass(frozen=True)
class Category(Column):
    """A column of numbers for each text, 1 where it stands; of many texts the others share some."""

    kind: ClassVar[str] = "category"
    texts: tuple[str, ...]
    shared: int = 0  # columns for all other texts; of none, those have no 1

    def parts(self) -> list[str]:
        return [f"= {text}" for text in self.texts] + [f"other {i + 1}" for i in range(self.shared)]

    def values(self, cells: Cells) -> np.ndarray:
        own, known = {text: i for i, text in enumerate(self.texts)}, len(self.texts)

        def place(text: str) -> int:
            if text in own:
                return own[text]
            if not self.shared or text.lower() in MISSING:
                return -1
            return known + zlib.crc32(text.encode("utf-8", "surrogatepass")) % self.shared

        places = cells.looked_up(place, int)
        return (places[:, None] == np.arange(known + self.shared)).astype(np.float64)

    def facts(self) -> str:
        shown = one_line(", ".join(self.texts[:6]), 60) + (", ..." if len(self.texts) > 6 else "")
        return shown + (f"; others share {self.shared}" if self.shared else "")


KINDS: dict[str, Callable[..., Column]] = {
    kind.kind: kind for kind in (Number, Truth, Date, Category)
}


def _check(cells: Cells, found: np.ndarray, what: str, lenient: bool) -> None:
    """FileError for a cell that holds something, but nothing of the column's kind."""
    if lenient or not np.isnan(found).any():
        return
    bad = np.flatnonzero(np.isnan(found) & ~cells.missing)
    if len(bad):
        raise cells.refuse(int(bad[0]), f"{what}, as all of this column that the model was "
                           "trained on", _ADVICE)


@dataclass(frozen=True)
class Target:
    """The column that is predicted."""

    name: str | None  # None where the table names none
    regression: bool


@dataclass(frozen=True)
class Description:
    """The columns that a model takes, in order, and what standardises their numbers."""

    columns: tuple[Column, ...]
    named: bool
    target: Target
    mean: np.ndarray = field(default_factory=lambda: np.empty(0))
    scale: np.ndarray = field(default_factory=lambda: np.empty(0))  # of no standardisation: ones

    @property
    def names(self) -> list[str]:
        """Of the table's columns."""
        return [column.name for column in self.columns]

    def not_numbers(self) -> list[str]:
        """Columns of anything else."""
        return [column.name for column in self.columns if column.kind != "number"]

    @property
    def plain(self) -> bool:
        """Whether the table's columns are the network's, as they stand."""
        return all(column.kind == "number" and not column.missing for column in self.columns)

    @property
    def standardises(self) -> bool:
        """Whether there are means and deviations to standardise by."""
        return bool((self.mean != 0).any() or (self.scale != 1).any())

    def encoded_names(self) -> list[str]:
        """Of the network's columns, in order."""
        found = []
        for column in self.columns:
            found += [f"{column.name} {part}".strip() for part in column.parts()]
            found += [f"{column.name} is missing"] if column.missing else []
        return found

    def encode(self, columns: dict[str, Cells]) -> np.ndarray:
        """The network's columns; NaN where the mean is to stand."""
        found = []
        for column in self.columns:
            cells = columns[column.name]
            values = column.values(cells)
            found.append(values)
            if column.missing:
                # Of a lenient column all that is no number is missing.
                gone = np.isnan(values[:, 0]) if column.kind == "number" else cells.missing
                found.append(gone[:, None].astype(np.float64))
        return np.concatenate(found, axis=1)

    def filled(self, x: np.ndarray) -> np.ndarray:
        """`x`, with the mean of its column for every NaN; in place."""
        row, column = np.nonzero(np.isnan(x))
        x[row, column] = self.mean[column]
        return x

    def unexpected(self, columns: dict[str, Cells]) -> list[str]:
        """Columns with missing cells that had none when the model was trained."""
        return [c.name for c in self.columns if not c.missing and columns[c.name].missing.any()]

    def to_json(self) -> dict[str, Any]:
        """As a file keeps it."""
        columns = [{"kind": column.kind, **asdict(column)} for column in self.columns]
        return {"version": VERSION, "columns": columns, "named": self.named,
                "target": asdict(self.target), "mean": self.mean.tolist(),
                "scale": self.scale.tolist()}

    @classmethod
    def from_json(cls, found: Any) -> Description:
        """What `to_json` gave; ValueError for anything else."""
        try:
            if found["version"] != VERSION:
                raise ValueError(f"version {found['version']!r}; update nbbn")
            columns = tuple(_column(own) for own in found["columns"])
            mean, scale = (np.array(found[name], np.float64) for name in ("mean", "scale"))
            target = Target(found["target"]["name"], bool(found["target"]["regression"]))
            self = cls(columns, bool(found["named"]), target, mean, scale)
            if not len(mean) == len(scale) == len(self.encoded_names()):
                raise ValueError("as many means as columns are needed")
            if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
                raise ValueError("means and deviations must be finite, the latter above 0")
        except BROKEN as err:
            raise ValueError(f"not the description of a table: {one_line(err)}") from None
        return self


def _column(found: dict[str, Any]) -> Column:
    options = {name: value for name, value in found.items() if name != "kind"}
    if "texts" in options:
        options["texts"] = tuple(str(text) for text in options["texts"])
        if not 0 <= options["shared"] <= SHARED:
            raise ValueError("too many shared columns")
    if found["kind"] == "date" and not (options["order"] in ORDERS
                                        and abs(options["origin"]) < _LAST_DAY):
        raise ValueError(f"dates {options['order']!r} from day {options['origin']!r}")
    column = KINDS[found["kind"]](**options)
    if not isinstance(column.name, str):
        raise ValueError("a column has no name")
    return column


def of_numbers(names: list[str], named: bool, target: Target) -> Description:
    """Plain numbers, not standardised."""
    width = len(names)
    return Description(tuple(Number(name) for name in names), named, target, np.zeros(width),
                       np.ones(width))


def not_described(path: Any, err: Exception) -> FileError:
    """The error for a model file whose description cannot be read."""
    return FileError(f"{path}: {one_line(err)}; write it again with nbbn train")
