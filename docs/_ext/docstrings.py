"""What docstrings hold that reStructuredText would take for markup: it is written as it stands."""

from __future__ import annotations

import re
from typing import Any

# Roles of scikit-learn's docstrings, whose targets are pages of its own.
_ROLE = re.compile(r":(?:ref|term|class|func|meth|mod|ref):`~?([^`<]*[^`<\s])\s*(?:<[^>`]*>)?`")
_CODE = re.compile(r"(`+[^`]*`+)")
_MARKUP = [
    (re.compile(r"(?<=\w)_(?=[^\w`]|$)"), r"\\_"),  # `name_` outside of code is no link
    (re.compile(r"(?<![*\w\\])\*(?=\w)"), r"\\*"),  # (n, *shape) begins no emphasis
    (re.compile(r"\|(?=\w+\|)"), r"\\|"),  # |x| is no substitution
]


def plain(line: str) -> str:
    """The line with its markup escaped, but for code between backticks and doctests."""
    if line.lstrip().startswith((">>>", "...", ".. ")):
        return line
    line = _ROLE.sub(r"\1", line)
    head, colon, rest = line.partition(" : ")
    if not colon:
        head, rest = "", line
    pieces = _CODE.split(rest)
    for i in range(0, len(pieces), 2):
        for pattern, replacement in _MARKUP:
            pieces[i] = pattern.sub(replacement, pieces[i])
    return head + colon + "".join(pieces)


def process(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    lines[:] = map(plain, lines)


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process, priority=400)  # before numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}
