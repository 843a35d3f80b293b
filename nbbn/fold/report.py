"""What a fold did, batch norm by batch norm, and how far the outputs moved."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from io import StringIO
from typing import Any, NamedTuple

import numpy as np

from nbbn import markup
from nbbn.terminal import plain_table

_SHOWN_CHANNELS = 5
_WIDTH = 110


class FoldRefused(ValueError):
    """A batch norm could not be folded, and the caller asked for all or nothing.

    Examples
    --------
    >>> import nbbn
    >>> layers = nbbn.layers
    >>> norm = layers.BatchNormalization(input_shape=(4,))
    >>> model = nbbn.Sequential([norm, layers.Activation("relu")])
    >>> try:
    ...     model.fold(strict=True)
    ... except nbbn.FoldRefused as error:
    ...     print("refused")
    refused
    """


@dataclass(frozen=True)
class FoldEntry:
    """What became of one batch norm.

    Attributes
    ----------
    name : str
    into : str or None
        The layer that took it in; None where it stayed.
    direction : {"backward", "forward", "merged"} or None
        `backward` into a layer before it, `forward` into one after it, `merged` with a batch norm
        that stayed.
    folded : bool
        Whether the folded network is rid of it.
    reason : str
        Why it stayed; empty where it was folded.

    Examples
    --------
    >>> import nbbn
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> entry = model.fold().report.entries[0]
    >>> entry.name, entry.into, entry.direction, entry.folded
    ('batch_normalization', 'dense', 'backward', True)
    """

    name: str
    into: str | None
    direction: str | None
    folded: bool
    reason: str = ""


class SuspiciousChannel(NamedTuple):
    """A channel whose running variance is below epsilon.

    The gain is `|gamma| / sqrt(var + epsilon)`.

    Examples
    --------
    >>> import nbbn
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(1, input_shape=(2,)), layers.BatchNormalization()])
    >>> model.recalibrate([[0.0, 0.0], [0.0, 0.0]])  # a channel without variance
    >>> channel = model.fold().report.suspicious_channels[0]
    >>> channel.name, channel.channel, channel.var
    ('batch_normalization', 0, 0.0)
    """

    name: str
    channel: int
    var: float
    gain: float


def norm_figures(var: np.ndarray, gain: np.ndarray, epsilon: float) -> dict[str, Any]:
    """What there is to say of a batch norm's channels, JSON-ready."""
    return {
        "channels": len(var), "epsilon": epsilon, "smallest_variance": float(var.min()),
        "largest_variance": float(var.max()), "largest_gain": float(np.abs(gain).max()),
        "suspicious_channels": np.flatnonzero(var < epsilon).tolist(),
    }


@dataclass(frozen=True)
class FoldReport:
    """Outcome of a fold; `str` makes a table of it.

    Attributes
    ----------
    entries : tuple of FoldEntry
        One per batch norm, in the order of the network.
    suspicious_channels : tuple of SuspiciousChannel
        Channels with `var < epsilon`, largest gain first: they were constant in training, and
        whatever they do in use is blown up.
    largest_gain : float
        Over all channels of all batch norms; 0 without a batch norm.
    max_abs_error : float or None
        Largest difference between an output before and after; None before the check.
    max_rel_error : float or None
        The same, as a fraction of the largest output.
    bound : float or None
        What rounding may account for (`nbbn.fold.check`).
    rows_checked : int

    Examples
    --------
    >>> import nbbn
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> report = model.fold().report
    >>> report.n_folded, report.n_total, report.max_abs_error <= report.bound
    (1, 1, True)
    """

    entries: tuple[FoldEntry, ...] = ()
    suspicious_channels: tuple[SuspiciousChannel, ...] = ()
    largest_gain: float = 0.0
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    bound: float | None = None
    rows_checked: int = 0

    @property
    def n_total(self) -> int:
        """Number of batch norms in the source."""
        return len(self.entries)

    @property
    def n_folded(self) -> int:
        """Number of them that are gone."""
        return sum(entry.folded for entry in self.entries)

    def to_dict(self) -> dict:
        """The report as JSON-ready values."""
        return {
            **asdict(self),
            "entries": [asdict(entry) for entry in self.entries],
            "suspicious_channels": [channel._asdict() for channel in self.suspicious_channels],
        }

    @classmethod
    def from_dict(cls, values: dict) -> FoldReport:
        """The report that `to_dict` wrote.

        Raises
        ------
        ValueError
            For anything else.
        """
        try:
            entries = tuple(FoldEntry(**entry) for entry in values["entries"])
            channels = tuple(SuspiciousChannel(**of) for of in values["suspicious_channels"])
            return cls(**{**values, "entries": entries, "suspicious_channels": channels})
        except (TypeError, KeyError) as err:
            raise ValueError(f"not a fold report: {err}") from err

    def remarks(self) -> list[str]:
        """What there is to say besides the table: what stays and why, and the figures."""
        lines = [f"{entry.name} stays: {entry.reason}"
                 for entry in self.entries if not entry.folded]
        if self.max_abs_error is not None:
            lines.append(f"largest difference {self.max_abs_error:.3g} (relative "
                         f"{self.max_rel_error:.3g}) on {self.rows_checked} rows, "
                         f"bound {self.bound:.3g}")
        if self.entries:
            channels = self.suspicious_channels
            many, shown = len(channels) or "none", channels[:_SHOWN_CHANNELS]
            gain = f"largest gain {self.largest_gain:.4g}"
            lines.append(f"{gain}, channels with var < epsilon: {many}")
            for c in shown:
                lines.append(f"  {c.name}, channel {c.channel}: var {c.var:.3g}, gain {c.gain:.4g}")
            if len(channels) > len(shown):
                lines.append(f"  and {len(channels) - len(shown)} more with smaller gains")
        return lines

    def _head(self) -> str:
        return f"{self.n_folded} of {self.n_total} batch norms folded"

    def __str__(self) -> str:
        table = [_table(self.entries)] if self.entries else []
        stay, remarks = self.n_total - self.n_folded, self.remarks()
        wrapped = [textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False,
                                 break_on_hyphens=False) for text in remarks[:stay]]
        return "\n".join([self._head(), *table, *wrapped, *remarks[stay:]])

    def _repr_html_(self) -> str:
        """For notebooks: the same as `str`."""
        table = [markup.table(COLUMNS, rows_of(self.entries))] if self.entries else []
        return markup.block(markup.heading(self._head()), *table,
                            *map(markup.line, self.remarks()))


# Of the table of batch norms.
COLUMNS = "batch norm", "folded", "direction", "into"


def rows_of(entries: tuple[FoldEntry, ...]) -> list[tuple[str, ...]]:
    """A row of text for each batch norm."""
    return [(entry.name, "yes" if entry.folded else "no", entry.direction or "-",
             entry.into or "-") for entry in entries]


def _table(entries: tuple[FoldEntry, ...]) -> str:
    """One line per batch norm, plain ASCII."""
    columns, rows = COLUMNS, rows_of(entries)
    if find_spec("rich") is None:
        return plain_table(columns, rows)
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(column, overflow="fold") for column in columns), box=box.ASCII)
    for row in rows:
        table.add_row(*map(Text, row))
    out = StringIO()
    Console(file=out, width=_WIDTH, color_system=None, force_terminal=False,
            force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
