"""What stands in the cells of a column: numbers, truths, dates, texts, or nothing."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from nbbn.formats.files import FileError, one_line

# Texts, in lower case, that say that there is no value: pandas's, and `?` and `-`.
MISSING = frozenset((
    "", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>",
    "n/a", "na", "null", "nan", "none", "nat", "?", "-", "--",
))  # fmt: skip
TRUTHS = {"true": 1.0, "false": 0.0}
# The orders that the parts of a date may have, by what people call them.
ORDERS = ("year first", "day first", "month first")
_TIME = r"(?:[ T](\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*(?:Z|UTC|[+-]\d\d:?\d\d)?)?$"
_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})" + _TIME)
_YEAR_LAST = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})" + _TIME)
_COMMA_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d*)?(?:[eE][+-]?\d+)?$"
                           r"|[+-]?,\d+(?:[eE][+-]?\d+)?$")
_EPOCH = datetime.datetime(1970, 1, 1)
T = TypeVar("T")


def number_of(text: str, decimal: str = ".") -> float | None:
    """The number that a text is, infinity included; None for any other text."""
    if decimal == ",":
        if not _COMMA_NUMBER.match(text):
            return None
        text = text.replace(".", "").replace(",", ".")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def seconds_of(text: str, order: str) -> float | None:
    """Seconds from 1970 to a date, with or without a time; None for any other text."""
    found = (_YEAR_FIRST if order == "year first" else _YEAR_LAST).match(text)
    if found is None:
        return None
    a, b, c, hour, minute, second = (int(part or 0) for part in found.groups())
    year, month, day = {"year first": (a, b, c), "day first": (c, b, a)}.get(order, (c, a, b))
    try:
        return (datetime.datetime(year, month, day, hour, minute, second) - _EPOCH).total_seconds()
    except ValueError:
        return None


def is_value(text: str) -> bool:
    """Whether a text is a number, a truth, a date or a mark for nothing: no column's name."""
    text = text.strip()
    return (number_of(text) is not None or number_of(text, ",") is not None
            or text.lower() in TRUTHS or text.lower() in MISSING
            or any(seconds_of(text, order) is not None for order in ORDERS))


@dataclass
class Cells:
    """Some rows of one column."""

    path: Any  # of the file, for messages
    name: str
    values: Any  # a sequence of str, or an array of numbers, truths or times
    decimal: str = "."
    lines: Sequence[int] | None = None  # where each row begins in a text file
    first: int = 0  # rows of the file before these

    def __len__(self) -> int:
        return len(self.values)

    def where(self, row: int) -> str:
        """A row, in words."""
        at = f"row {self.first + row + 1}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.path}: {at}, column {self.name!r}"

    def refuse(self, row: int, rule: str, advice: str) -> FileError:
        """The error for one cell."""
        return FileError(f"{self.where(row)}: {one_line(repr(self.text(row)), 60)} {rule}; "
                         f"{advice}")

    @property
    def dtype_kind(self) -> str:
        """`f` for numbers, `b` for truths, `M` for times, `O` for texts."""
        kind = self.values.dtype.kind if isinstance(self.values, np.ndarray) else "O"
        return "f" if kind in "iu" else kind

    def text(self, row: int) -> str:
        """A cell as text."""
        return _as_text(self.values[row])

    def kept(self) -> Cells:
        """The same in less memory: numbers as an array, equal texts once."""
        if self.dtype_kind != "O":
            return self
        if self._parsed is not None and np.isfinite(self._parsed).all():
            return Cells(self.path, self.name, self._parsed, lines=self.lines, first=self.first)
        once: dict[str, str] = {}
        texts = [once.setdefault(text, text) for text in self.texts]
        return Cells(self.path, self.name, texts, self.decimal, self.lines, self.first)

    @property
    def texts(self) -> list[str]:
        """All cells as texts, without blanks around them."""
        return [_as_text(value).strip() for value in self._objects]

    @cached_property
    def missing(self) -> np.ndarray:
        """Which cells hold nothing."""
        if self.dtype_kind == "M":
            return np.isnat(self.values)
        if self.dtype_kind in "fb":
            return np.isnan(self.numbers)
        if self._parsed is not None and not np.isnan(self._parsed).any():
            return np.zeros(len(self), bool)
        return self.looked_up(lambda text: text.lower() in MISSING, bool)

    @property
    def present(self) -> list[str]:
        """The texts of the cells that hold something."""
        return [text for text, gone in zip(self.texts, self.missing) if not gone]

    def counts(self) -> Counter[str]:
        """How often each text stands in the cells that hold something."""
        found: Counter[str] = Counter()
        for value, count in Counter(self._objects).items():
            text = _as_text(value).strip()
            if text.lower() not in MISSING:
                found[text] += count
        return found

    def looked_up(self, function: Callable[[str], Any], dtype: type) -> np.ndarray:
        """A function of each text, computed once for each that differs."""
        values = self._objects
        table = {value: function(_as_text(value).strip()) for value in set(values)}
        return np.fromiter(map(table.__getitem__, values), dtype, len(values))

    @cached_property
    def _objects(self) -> Sequence[Any]:
        """The cells as objects that are equal where their texts are."""
        return self.values if self.dtype_kind == "O" else self.values.tolist()

    @cached_property
    def numbers(self) -> np.ndarray:
        """Each cell as a number; NaN for what is missing, or none."""
        if self.dtype_kind in "fb":
            return self.values.astype(np.float64)
        if self.dtype_kind == "M":
            return np.full(len(self), np.nan)
        return self.looked_up(self._number, float) if self._parsed is None else self._parsed

    @cached_property
    def _parsed(self) -> np.ndarray | None:
        """All texts as numbers at once, which is fast; None where some are none."""
        try:
            if self.decimal != "." or "_" in "".join(self.values):
                return None
            return np.fromiter(map(float, self.values), np.float64, len(self.values))
        except (ValueError, TypeError, OverflowError):
            return None

    def _number(self, text: str) -> float:
        found = number_of(text, self.decimal)
        return np.nan if found is None else found

    @cached_property
    def truths(self) -> np.ndarray:
        """True as 1, false as 0; NaN for anything else."""
        if self.dtype_kind in "bf":
            return self.values.astype(np.float64)
        return self.looked_up(lambda text: TRUTHS.get(text.lower(), np.nan), float)

    def seconds(self, order: str) -> np.ndarray:
        """Seconds from 1970; NaN for what is no date."""
        if self.dtype_kind == "M":
            found = self.values.astype("datetime64[ms]").astype(np.float64) / 1e3
            return np.where(np.isnat(self.values), np.nan, found)

        def of(text: str) -> float:
            found = seconds_of(text, order)
            return np.nan if found is None else found

        return self.looked_up(of, float)


def _as_text(value: Any) -> str:
    """The same text for a value, whichever kind of file it is from."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
