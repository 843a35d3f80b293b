"""The estimators' docstrings, put together from texts that several of them share."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from string import Template
from textwrap import dedent
from typing import Any


def docstring(
    init: Callable[..., None], summary: str, parameters: str, attributes: str, rest: str,
    **words: str,
) -> str:  # fmt: skip
    """A class's docstring.

    Parameters
    ----------
    init : callable
        Its constructor: it says which parameters there are, their order and their defaults.
    summary : str
        What stands first.
    parameters : str
        numpydoc's entries of all parameters that any estimator of the family has, without defaults.
    attributes : str
        numpydoc's entries of the fitted attributes.
    rest : str
        The sections after these.
    **words
        What stands for each `$word` of the texts.
    """
    entries = _entries(Template(parameters).substitute(words))
    given = [p for p in inspect.signature(init).parameters.values() if p.name != "self"]
    found = _entries(Template(attributes).substitute(words))
    sections = [
        dedent(summary).strip(),
        "Parameters\n----------\n" + "\n".join(_shown(entries[p.name], p.default) for p in given),
        "Attributes\n----------\n" + "\n".join(_shown(entry) for entry in found.values()),
        dedent(rest).strip(),
    ]
    return "\n\n".join(sections) + "\n"


def _entries(text: str) -> dict[str, str]:
    """numpydoc's entries by name."""
    parts = re.split(r"^(?=\w+ : )", text.strip(), flags=re.MULTILINE)
    return {part.split(" : ")[0]: part for part in parts if part}


def _shown(entry: str, default: Any = inspect.Parameter.empty) -> str:
    """An entry with its default, its text in lines of at most 100 columns."""
    head, _, text = entry.partition("\n")
    if default is not inspect.Parameter.empty:
        head += f", default={default!r}"
    wrap = {"initial_indent": "    ", "subsequent_indent": "    ", "break_on_hyphens": False}
    return "\n".join([head, *textwrap.wrap(" ".join(text.split()), 100, **wrap)])
