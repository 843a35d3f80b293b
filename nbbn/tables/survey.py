"""One look through a table: what each column holds, which are left out, and what is predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nbbn.formats.files import FileError, one_line
from nbbn.tables.cells import ORDERS, Cells
from nbbn.tables.description import (
    DAY,
    MAX_CATEGORIES,
    OWN,
    SHARED,
    Category,
    Column,
    Date,
    Description,
    Number,
    Target,
    Truth,
)
from nbbn.tables.reading import Piece, Table, check_columns

# The share of cells that must be numbers for the others to count as missing.
_NEARLY_ALL = 0.95
# The share of rows from which a column of so many different texts says who, not what.
_NAMES = 0.5
# Different texts that are counted, of a column of numbers and of any.
_FEW, _MOST = 1 << 12, 1 << 20
# Numbers are a target of regression from so many different ones, and from so many that are whole;
# fewer of the latter where they are this share of the rows.
_FRACTIONS, _WHOLE, _WHOLE_FEW, _WHOLE_SHARE = 10, 50, 20, 0.05


@dataclass(frozen=True)
class Options:
    """What the user says of the columns."""

    target: str | None = None  # None: the last
    ignore: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    regression: bool | None = None  # None: found out


@dataclass
class ColumnSurvey:
    """What has been seen of a column."""

    name: str
    rows: int = 0
    missing: int = 0
    numbers: int = 0
    truths: int = 0
    whole: int = 0
    dates: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ORDERS, 0))
    first_day: dict[str, float] = field(default_factory=dict)  # by the order of dates
    times: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    counting: bool = True
    no_number: str = ""  # the first text that is none, and where it stands

    def update(self, cells: Cells, keep: bool = False) -> None:
        """Look at some more rows; `keep` counts texts however many numbers there are."""
        there = len(cells) - int(cells.missing.sum())
        self.rows, self.missing = self.rows + len(cells), self.missing + len(cells) - there
        numbers = cells.numbers
        found = np.isfinite(numbers) & ~cells.missing
        infinite = np.isinf(numbers)
        count = int(found.sum() + infinite.sum())
        if count == there and infinite.any():
            raise cells.refuse(int(np.flatnonzero(infinite)[0]), "is infinite",
                               "correct it, or leave the cell empty")
        self.numbers += count
        self.whole += int((numbers[found] == np.floor(numbers[found])).sum())
        if there > count and not self.no_number:
            row = int(np.flatnonzero(~cells.missing & ~np.isfinite(numbers))[0])
            self.no_number = f"{one_line(repr(cells.text(row)), 40)} " \
                             f"({cells.where(row).removeprefix(f'{cells.path}: ')})"
        if there > count or cells.dtype_kind == "b":
            self._look_for_truths(cells, there)
            self._look_for_dates(cells, there)
        # Of columns of numbers in a Parquet file no texts are made, unless they are asked for.
        if keep or (self.counting and cells.dtype_kind == "O"):
            self._count(cells, keep)

    def _look_for_truths(self, cells: Cells, there: int) -> None:
        if cells.dtype_kind == "b":
            self.truths += there
        elif cells.dtype_kind == "O" and self.truths == self.rows - self.missing - there:
            self.truths += int((~np.isnan(cells.truths)).sum())

    def _look_for_dates(self, cells: Cells, there: int) -> None:
        for order, count in self.dates.items():
            if count == self.rows - self.missing - there:  # all before
                seconds = cells.seconds(order)
                dates = seconds[~np.isnan(seconds)]
                self.dates[order] += len(dates)
                if len(dates):
                    first = float(dates.min()) // DAY
                    self.first_day[order] = min(self.first_day.get(order, first), first)
                    self.times |= bool((dates % DAY != 0).any())

    def _count(self, cells: Cells, keep: bool) -> None:
        self.counts.update(cells.counts())
        most = _FEW if self.numbers == self.rows - self.missing and not keep else _MOST
        self.counting = len(self.counts) <= most

    @property
    def there(self) -> int:
        """Cells that hold something."""
        return self.rows - self.missing

    def column(self, category: bool, notes: list[str]) -> Column | None:
        """What the column is; None for one that is left out."""
        name, missing, shown = self.name, self.missing > 0, one_line(repr(self.name), 60)
        if self.there == 0:
            notes.append(f"column {shown} is empty and left out")
            return None
        if category:
            return self._category(missing)
        # Truths of Parquet are numbers too.
        if self.truths == self.there:
            return Truth(name, missing=missing)
        if self.numbers == self.there:
            return Number(name, missing=missing)
        orders = [order for order in ORDERS if self.dates[order] == self.there]
        if orders:
            return self._date(orders, missing, notes)
        if self.numbers >= _NEARLY_ALL * self.there:
            others = self.there - self.numbers
            notes.append(f"column {shown}: {others} of {self.there} cells are no numbers, the "
                         f"first {self.no_number}; they count as missing (--categories "
                         f"{one_line(name, 60)} makes texts of all)")
            return Number(name, lenient=True, missing=True)
        if len(self.counts) > max(MAX_CATEGORIES, _NAMES * self.there):
            notes.append(f"column {shown} is left out: {len(self.counts)} different texts in "
                         f"{self.rows} rows (--categories {one_line(name, 60)} takes it)")
            return None
        return self._category(missing)

    def _date(self, orders: list[str], missing: bool, notes: list[str]) -> Date:
        order = orders[0]
        if order != ORDERS[0] and len(orders) > 1:
            # 3.4.2024 is German, 3/4/2024 as likely American.
            points = "." in next(iter(self.counts), "")
            order = "day first" if points else "month first"
            if not points:
                notes.append(f"column {one_line(repr(self.name), 60)}: dates may have the day or "
                             "the month first; read as month first")
        return Date(self.name, order, self.first_day[order], self.times,
                    missing=missing)

    def _category(self, missing: bool) -> Category:
        many = len(self.counts) > MAX_CATEGORIES
        # By frequency, and by the text where that is the same.
        ranked = sorted(self.counts, key=lambda text: (-self.counts[text], text))
        texts = sorted(ranked[:OWN] if many else ranked)
        return Category(self.name, tuple(texts), SHARED if many else 0, missing=missing)

    def numbers_to_predict(self) -> bool:
        """Whether numbers of the target are many enough for a regression."""
        if self.numbers < self.there or not self.there:
            return False
        different = len(self.counts)
        if self.whole < self.numbers:
            return different > _FRACTIONS
        return different > _WHOLE or different > max(_WHOLE_FEW, _WHOLE_SHARE * self.there)

    @property
    def integers(self) -> bool:
        """Whether the labels are whole numbers, written as such."""
        return all(text.lstrip("-").isdecimal() for text in self.counts)


@dataclass
class Survey:
    """What has been seen of tables of the same columns."""

    names: list[str]  # of the columns that numbers are made of
    target: ColumnSurvey
    named: bool
    columns: dict[str, ColumnSurvey]
    options: Options
    rows: list[int] = field(default_factory=list)  # with a target, of each table
    notes: list[str] = field(default_factory=list)
    single: bool = False  # whether all numbers are of float32
    index: str | None = None  # the column that may be pandas's index
    whole: frozenset[str] = frozenset()  # columns of whole numbers in a Parquet file
    at_once: bool = True  # lines of numbers are parsed at once, and have no texts to count
    ways: set[bool] = field(default_factory=set)  # whether pieces were parsed so

    @classmethod
    def of(cls, table: Table, options: Options) -> Survey:
        """Before any row is looked at; FileError for a table that has not the columns named."""
        if len(table.names) < 2:
            raise FileError(f"{table.path} must hold rows of at least two columns, "
                            "one of them the target")
        target = options.target
        if target is None:
            target = next(name for name in reversed(table.names) if name != table.index)
        check_columns(table, [target], " for target")
        for option in ("ignore", "categories"):
            check_columns(table, getattr(options, option), f" for --{option}")
        ignored = {target, *options.ignore}
        names = [name for name in table.names if name not in ignored]
        if not names:
            raise FileError(f"{table.path} must hold rows of at least two columns, "
                            "one of them the target: none is left to predict from")
        single = names and all(name in getattr(table, "single", ()) for name in names)
        return cls(names, ColumnSurvey(target), table.named,
                   {name: ColumnSurvey(name) for name in names}, options,
                   notes=list(table.notes), single=bool(single), index=table.index,
                   whole=getattr(table, "whole", frozenset()))

    @property
    def wanted(self) -> list[str]:
        """The columns that are read."""
        return [*self.names, self.target.name]

    def look(self, table: Table, first: Table, keep: list[Piece] | None = None) -> None:
        """Go over a table, which must have the first one's columns; its pieces go to `keep`."""
        lacking = set(self.wanted) - set(table.names)
        if lacking or len(table.names) != len(first.names):
            raise FileError(f"{table.path}: its columns are not those of {first.path}")
        self.rows.append(0)
        texts = [name for name in self.wanted if self._as_written(name)] if self.at_once else None
        for piece in table.pieces(self.wanted, texts):
            self.ways.add(piece.plain)
            self._see(piece)
            if keep is not None:
                # Labels are kept as they are written: 01 is not 1.
                columns = {name: cells if self._as_written(name) else cells.kept()
                           for name, cells in piece.columns.items()}
                keep.append(replace(piece, columns=columns))

    def _as_written(self, name: str) -> bool:
        return name in (self.target.name, self.index) or name in self.options.categories

    def _see(self, piece: Piece) -> None:
        keep = rows_with_target(piece, self.target.name)
        self.rows[-1] += int(keep.sum())
        self.target.update(piece.columns[self.target.name], keep=True)
        for name, column in self.columns.items():
            column.update(piece.columns[name], keep=name in self.options.categories)

    def regression(self) -> bool:
        """Whether numbers are predicted: as said, or as the target is."""
        found = self.target.numbers_to_predict()
        if self.options.regression is not None:
            return self.options.regression
        if found:
            self.notes.append(f"target {one_line(repr(self.target.name), 60)} holds "
                              f"{len(self.target.counts)} different numbers and is taken for "
                              "regression (--classification makes a class of each)")
        return found

    def description(self, regression: bool) -> Description:
        """What the tables hold; not standardised yet."""
        found = [own.column(name in self.options.categories, self.notes)
                 for name, own in self.columns.items() if not self._numbers_the_rows(own)]
        columns = tuple(column for column in found if column is not None)
        if not columns:
            raise FileError("no column is left to predict from: " + "; ".join(self.notes))
        target = Target(self.target.name if self.named else None, regression)
        return Description(columns, self.named, target)


    def _numbers_the_rows(self, column: ColumnSurvey) -> bool:
        """Whether a column without a name is but a number for each row, as pandas writes it."""
        if column.name != self.index or column.whole < column.rows:
            return False
        if column.counting and len(column.counts) < column.rows:
            return False
        self.notes.append("a column without a name numbers the rows and is left out")
        return True


def rows_with_target(piece: Piece, target: str) -> np.ndarray:
    """Which rows can be learnt from."""
    return ~piece.columns[target].missing


def targets_of(cells: Cells, survey: Survey, regression: bool) -> np.ndarray:
    """What is to be predicted: numbers, or labels of one type for all tables."""
    there = ~cells.missing
    if regression:
        numbers = cells.numbers
        bad = np.flatnonzero(there & ~np.isfinite(numbers))
        if len(bad):
            raise cells.refuse(int(bad[0]), "is not a finite number",
                               "correct it, or predict classes: --classification")
        return numbers[there]
    if cells.dtype_kind != "O":
        labels = np.asarray(cells.values)[there]
        # Whole numbers of which some were missing come as floats.
        return labels.astype(np.int64) if survey.target.name in survey.whole else labels
    labels = np.array(cells.present, str)
    return labels.astype(np.int64) if survey.target.integers else labels


def look_through(tables: Sequence[Table], options: Options,
                 keep: list[Piece] | None = None) -> Survey:
    """One look through tables of the same columns; `keep` gets their pieces."""
    survey = Survey.of(tables[0], options)
    for table in tables:
        survey.look(table, tables[0], keep)
        if len(survey.ways) > 1:
            break
    if len(survey.ways) > 1:  # texts came after numbers that were not counted: all anew
        survey = replace(Survey.of(tables[0], options), at_once=False)
        if keep is not None:
            keep.clear()
        for table in tables:
            survey.look(table, tables[0], keep)
    if not sum(survey.rows):
        what = f"{tables[0].path} must" if len(tables) == 1 else f"the {len(tables)} files must"
        raise FileError(f"{what} hold rows of at least two columns, one of them the target; there "
                        "is no row with a target")
    if lost := survey.target.missing:
        survey.notes.append(f"{lost} rows without a target are left out")
    return survey


def check_classes(labels: Any, name: str | None) -> None:
    """FileError where there is only one class."""
    classes = np.unique(labels)
    if len(classes) == 1:
        shown = f" {one_line(repr(name), 60)}" if name else ""
        raise FileError(f"the target{shown} holds one class alone, "
                        f"{one_line(repr(classes.tolist()[0]), 60)}: nothing can be learnt; give "
                        "rows of other classes, or another --target")
