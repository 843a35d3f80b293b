"""How a text table is written: its encoding, delimiter and decimal sign, found out from it."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nbbn.formats.files import FileError

# By the ending of a file's name; what its lines say counts more.
DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Tried in this order: a comma may be the decimal sign where another one separates.
_TRIED = ("\t", ";", "|", ",")
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_SAMPLE = 1 << 16
_BLOCK = 1 << 20
# Control characters that no text table holds.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_COMMA_NUMBER = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][+-]?\d+)?$")
_POINT_NUMBER = re.compile(r"[+-]?(\d*\.\d{1,2}|\d*\.\d{4,}|0?\.\d+)([eE][+-]?\d+)?$")


@dataclass(frozen=True)
class Dialect:
    """How a text table is written."""

    encoding: str
    delimiter: str
    decimal: str = "."

    def notes(self, suffix: str) -> list[str]:
        """What is out of the ordinary, in words."""
        names = {"\t": "tabs"}
        found = []
        if not self.encoding.startswith("utf-8"):
            found.append(f"encoding {self.encoding}")
        if self.delimiter != DELIMITERS.get(suffix, ","):
            found.append(f"fields between {names.get(self.delimiter, repr(self.delimiter))}")
        if self.decimal == ",":
            found.append("decimal commas")
        return found


def find(path: Path) -> Dialect:
    """The dialect of a file; FileError for one that is no text."""
    encoding = _encoding(path)
    with open(path, encoding=encoding, newline="", errors="replace") as file:
        sample = file.read(_SAMPLE)
        whole = not file.read(1)
    rows = {mark: _fields(sample, mark, whole) for mark in _TRIED}
    delimiter = _delimiter(rows, DELIMITERS.get(path.suffix.lower(), ","))
    return Dialect(encoding, delimiter, "." if delimiter == "," else _decimal(rows[delimiter]))


def _encoding(path: Path) -> str:
    """By the mark at a file's beginning, or by whether all of it is UTF-8."""
    with open(path, "rb") as file:
        start = file.read(_SAMPLE)
        for mark, name in _BOMS:
            if start.startswith(mark):
                return name
        if wide := _without_mark(start):
            return wide
        if _BINARY.search(start):
            raise FileError(f"{path}: line {_line_of(start)} is not text; give a table of text, or "
                            "a .parquet or .npz file")
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while start:
                decoder.decode(start)
                start = file.read(_BLOCK)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            return "cp1252" if _is_cp1252(path) else "latin-1"
    return "utf-8"


def _line_of(start: bytes) -> int:
    found = _BINARY.search(start)
    return start.count(b"\n", 0, found.start() if found else 0) + 1


def _without_mark(start: bytes) -> str | None:
    """UTF-16 without its mark: every other byte of plain text is zero."""
    pairs = len(start) // 2
    for name, first in (("utf-16-be", 0), ("utf-16-le", 1)):
        if pairs > 1 and start[first : 2 * pairs : 2].count(0) > 0.7 * pairs \
                and start[1 - first : 2 * pairs : 2].count(0) == 0:
            return name
    return None


def _is_cp1252(path: Path) -> bool:
    """Whether a file of single bytes is Windows's western one, which leaves five out."""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            try:
                block.decode("cp1252")
            except UnicodeDecodeError:
                return False
    return True


def _fields(sample: str, delimiter: str, whole: bool) -> list[list[str]]:
    """The sample's rows; the last line, which may be cut, left out."""
    lines = sample.splitlines(keepends=True)
    if not whole and len(lines) > 1:
        lines.pop()
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if any(row)]
    except csv.Error:
        return []


def _delimiter(rows: dict[str, list[list[str]]], default: str) -> str:
    """The first under which all rows have as many fields, or nearly all."""
    for least in (1.0, 0.9):
        for mark in sorted(_TRIED, key=lambda mark: (_TRIED.index(mark), mark != default)):
            widths = Counter(len(row) for row in rows[mark])
            width, count = max(widths.items(), key=lambda item: item[1], default=(0, 0))
            if width > 1 and count >= least * widths.total():
                return mark
    return default


def _decimal(rows: list[list[str]]) -> str:
    fields = {field.strip() for row in rows for field in row}
    commas = any(_COMMA_NUMBER.match(field) for field in fields)
    return "," if commas and not any(_POINT_NUMBER.match(field) for field in fields) else "."
