"""Estimators defined by a table of parameters: constructor, rules and docstring follow from it."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from string import Template
from typing import Any, TypeVar

from sklearn.utils._param_validation import Interval, StrOptions

from nbbn.estimators import suggestions

Class = TypeVar("Class", bound=type)

REQUIRED = inspect.Parameter.empty
# scikit-learn's rules that several parameters have.
FROM_0 = Interval(Real, 0, None, closed="left")
ABOVE_0 = Interval(Real, 0, None, closed="neither")
SHARE = Interval(Real, 0, 1, closed="left")
COUNT = Interval(Integral, 1, None, closed="left")
DTYPE = StrOptions({"float32", "float64"})


@dataclass(frozen=True)
class Parameter:
    """What a constructor takes: default, scikit-learn's rules for it, type and meaning."""

    default: Any
    rules: list[Any]
    type: str
    text: str


def defined(parameters: dict[str, Parameter], positional: Iterable[str], summary: str,
            attributes: str, rest: str, **words: str) -> Callable[[Class], Class]:
    """A decorator that gives a class what its parameters tell.

    `positional` names those that may come without a name. The docstring is the summary, the
    parameters, the fitted attributes (numpydoc's entries) and the rest; `words` stand for each
    `$word` in the entries.
    """
    first = list(positional)
    ordered = {name: parameters[name] for name in [*first, *parameters]}
    constructor = _constructor({name: p.default for name, p in ordered.items()}, first)
    heads = {
        f"{name} : {p.type}" + ("" if p.default is REQUIRED else f", default={p.default!r}"): p.text
        for name, p in ordered.items()
    }
    found = dict(entry.split("\n", 1) for entry in re.split(r"\n(?=\w)", attributes.strip()))
    sections = [textwrap.dedent(summary).strip(), _section("Parameters", heads, words),
                _section("Attributes", found, words), textwrap.dedent(rest).strip()]

    def define(cls: Class) -> Class:
        constructor.__qualname__ = f"{cls.__qualname__}.__init__"
        made: Any = cls
        made.__init__, made.__doc__ = constructor, "\n\n".join(sections) + "\n"
        made._parameter_constraints = {name: p.rules for name, p in ordered.items()}
        return cls

    return define


def _constructor(defaults: dict[str, Any], positional: list[str]) -> Callable[..., None]:
    """A constructor of attributes; its TypeError for an unknown one says which may be meant."""
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    taken = [inspect.Parameter("self", kinds[0])]
    for name, default in defaults.items():
        taken.append(inspect.Parameter(name, kinds[name not in positional], default=default))
    signature = inspect.Signature(taken)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in defaults:
                raise TypeError(f"{type(self).__name__} got an unexpected keyword argument "
                                f"{name!r}{suggestions.of_name(name, defaults)}")
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        vars(self).update({name: bound.arguments[name] for name in defaults})

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def _section(title: str, entries: dict[str, str], words: dict[str, str]) -> str:
    """A section of numpydoc's entries, in lines of at most 100 columns."""
    lines = [title, "-" * len(title)]
    for head, text in entries.items():
        text = Template(" ".join(text.split())).substitute(words)
        shown = textwrap.wrap(text, 96, break_on_hyphens=False)
        lines += [head, *(f"    {line}" for line in shown)]
    return "\n".join(lines)
