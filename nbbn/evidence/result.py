"""What a study found, as plain data: numbers of every run, verdicts, curves."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbbn.evidence.intervals import short
from nbbn.evidence.measures import Measure, Verdict
from nbbn.evidence.panel import Panel
from nbbn.formats.files import FileError
from nbbn.terminal import plain_table, print_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = 1


@dataclass(frozen=True)
class Result:
    """What `nbbn.evidence.show` found.

    Attributes
    ----------
    claim, sentence, source, paper : str
        The claim's name, what it says, where it comes from, what was found there.
    data : str
        On which rows.
    settings : dict
        Network, rates, steps: JSON-ready.
    measures : list of Measure
        The figures of the table, each with all runs.
    verdicts : list of Verdict
    panels : list of Panel
        The curves of the picture.
    runs, seed : int
    quick : bool
        Whether it was a short one.
    seconds : float
        How long it took.
    versions : dict of str to str

    Examples
    --------
    >>> from nbbn import evidence
    >>> result = evidence.show("folding", quick=True)    # doctest: +SKIP
    >>> result.save("folding.json")                      # doctest: +SKIP
    >>> evidence.Result.load("folding.json").runs        # doctest: +SKIP
    5
    """

    claim: str
    sentence: str
    source: str
    paper: str
    data: str
    settings: dict[str, Any]
    measures: list[Measure]
    verdicts: list[Verdict]
    panels: list[Panel]
    runs: int
    seed: int
    quick: bool
    seconds: float
    versions: dict[str, str]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table: figure, mean, interval at 95 %, the paper's."""
        found = []
        for measure in self.measures:
            mean, low, high = measure.interval
            ends = "-" if math.isnan(low) else f"{short(low)} to {short(high)}"
            found.append((measure.name, short(mean), ends, measure.paper))
        return found

    def _columns(self) -> tuple[Sequence[str], list[tuple[str, ...]]]:
        rows = self.rows()
        with_paper = any(row[-1] for row in rows)
        columns = ("figure", "mean", "95 % interval", "in the paper")
        return (columns, list(rows)) if with_paper else (columns[:3], [row[:3] for row in rows])

    def _head(self) -> str:
        return f"{self.sentence}\nsource: {self.source}\nthere: {self.paper}\nhere: {self._how()}"

    def _how(self) -> str:
        kind = "a quick look, " if self.quick else ""
        return f"{kind}{self.data}; {self.runs} runs from seed {self.seed}, {self.seconds:.0f} s"

    def __str__(self) -> str:
        verdicts = "\n".join(f"- {verdict}" for verdict in self.verdicts)
        return f"{self._head()}\n\n{plain_table(*self._columns())}\n\n{verdicts}"

    def print(self) -> None:
        """Print it, with the table as rich draws it where that is installed."""
        print(self._head())
        columns, rows = self._columns()
        print_table(self.claim, columns, rows, right=[1])
        print("\n".join(f"- {verdict}" for verdict in self.verdicts))

    def figure(self, figure: "Figure | None" = None) -> "Figure":
        """The picture: each curve's mean with its interval at 95 %.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            An empty one to draw on, such as pyplot's; a new one by default.

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        from nbbn.evidence.figures import draw

        return draw(self.sentence, self.panels, figure)

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """What `to_json` gave.

        Raises
        ------
        ValueError
            For anything else.
        """
        try:
            given = json.loads(text)
            if given.pop("format") != _FORMAT:
                raise ValueError("its format is not known; take a newer nbbn")
            kinds = {"measures": Measure, "verdicts": Verdict, "panels": Panel}
            for name, kind in kinds.items():
                given[name] = [kind(**entry) for entry in given[name]]
            return cls(**given)
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            raise ValueError(f"not a result of nbbn.evidence: {err}") from err

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON.

        Parameters
        ----------
        path : path-like
        """
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Result":
        """Read what `save` wrote.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        FileError
            For a file that is not there, or another.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise FileError(f"{path}: {err}") from err
