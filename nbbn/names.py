"""Specifications, and the names that users give to their classes.

What a name stands for is found, or an error says which known one is the nearest.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, TypeVar, cast

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

# Arguments by the names that other libraries, or short memories, give them.
_ARGUMENTS = {
    "lr": ("learning_rate", "max_learning_rate", "initial_learning_rate"),
    "max_lr": ("max_learning_rate",), "eps": ("epsilon",), "bias": ("use_bias",),
    "betas": ("beta_1",), "alpha": ("momentum", "negative_slope"), "decay": ("weight_decay",),
    "p": ("rate",), "prob": ("rate",), "std": ("stddev",), "sigma": ("stddev",),
    "out_features": ("units",), "neurons": ("units",), "size": ("units", "pool_size"),
    "in_features": ("input_dim",), "out_channels": ("filters",), "channels": ("filters",),
    "kernel": ("kernel_size",), "window": ("pool_size",), "affine": ("scale",),
    "dim": ("axis",), "num_groups": ("groups",), "nesterov_momentum": ("nesterov",),
    "label_smooth": ("label_smoothing",), "beta": ("delta",), "path": ("filepath", "filename"),
    "gamma": ("factor", "decay_rate"), "logits": ("from_logits",),
    "metric": ("monitor",), "wait": ("patience",), "steps": ("decay_steps", "total_steps"),
}  # fmt: skip


@dataclass(frozen=True)
class Specification:
    """A dataclass of plain values, as which Keras's arguments are given and written to files."""

    def config(self) -> dict:
        """The object as JSON-ready values, in Keras's form; its module reads them."""
        return {"class_name": type(self).__name__, "config": asdict(self)}

    def _error(self, text: str) -> ValueError:
        return ValueError(f"{type(self).__name__}: {text}")

    def _number(self, name: str, least: float = -math.inf, most: float = math.inf,
                rule: str = "a finite number") -> float:
        """The argument as a float, if it is a finite number within these bounds."""
        value: object = getattr(self, name)
        if isinstance(value, Real) and not isinstance(value, bool):
            if math.isfinite(value) and least <= float(value) <= most:
                return float(value)
        raise self._error(f"{name} must be {rule}, got {value!r}")


def argument_hint(given: str, known: Iterable[str]) -> str:
    """What to say of an argument that there is not: the one that is meant, or all of them."""
    known = list(known)
    meant = next((name for name in _ARGUMENTS.get(given, ()) if name in known), None)
    near = [meant] if meant else difflib.get_close_matches(given, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"


def suggesting(cls: Any) -> Any:
    """The class, whose TypeError for an unknown argument says which one may be meant."""
    for base in cls.__mro__[:-1]:
        made = vars(base).get("__init__")
        if made is not None and not hasattr(made, "__wrapped__"):
            base.__init__ = suggested(made)
    return cls


def suggested(made: F) -> F:
    """A method that says so, too."""
    _, *parameters = inspect.signature(made).parameters.values()
    known = [of.name for of in parameters]
    if any(of.kind is of.VAR_KEYWORD for of in parameters):
        return made

    @functools.wraps(made)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known:
                of = "" if made.__name__ == "__init__" else f".{made.__name__}"
                raise TypeError(f"{type(self).__name__}{of}() got an unexpected keyword argument "
                                f"{name!r}; {argument_hint(name, known)}")
        return made(self, *args, **kwargs)

    return cast(F, call)


def find(kind: str, name: object, names: Mapping[str, T], aliases: Mapping[str, T],
         further: Iterable[str] = (), instead: Mapping[str, str] | None = None) -> T:
    """What a name stands for.

    Parameters
    ----------
    kind : str
        What is looked for, such as `"loss"`.
    name : object
        As given.
    names, aliases : dict
        The names that are shown to users, and those that are only understood.
    further : iterable of str
        Names that are shown too, and dealt with elsewhere.
    instead : dict, optional
        Of names of Keras's that there are not here, what to use.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one.
    """
    for missing, advice in (instead or {}).items():
        if str(name).lower().replace("_", "") == missing.lower():
            raise ValueError(f"{kind} {name!r} is not supported: {advice}")
    for known in (names, aliases):
        if isinstance(name, str) and name in known:
            return known[name]
    shown = (*further, *names)
    given = str(name).lower().replace(" ", "_").replace("-", "_")
    words = set(given.split("_"))
    within = [known for known in shown if words <= set(known.split("_"))]
    near = within if len(within) == 1 else difflib.get_close_matches(given, shown, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(shown)}"
    raise ValueError(f"unknown {kind} {name!r}; {hint}")


def made_of(kind: str, identifier: object, base: type[T], names: Mapping[str, type[T]],
            aliases: Mapping[str, type[T]]) -> T | None:
    """The object of the dataclass `base` that a name, a class, an object or a config stands for.

    Parameters
    ----------
    kind : str
        With its article, such as `"a regularizer"`.
    identifier : object
        None stays None.
    base : type
    names, aliases : dict
        As in `find`.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one, or a config of something else.
    TypeError
        For any other type.
    """
    word = kind.split()[-1]
    if identifier is None or isinstance(identifier, base):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, base):
        return identifier()
    if isinstance(identifier, str):
        return find(word, identifier, names, aliases)()
    if isinstance(identifier, dict):
        return _from_config(kind, identifier, names, aliases)
    raise TypeError(f"{kind} is a name, an object of nbbn.{word}s or None, "
                    f"got {type(identifier).__name__}")


def _from_config(kind: str, config: dict, names: Mapping[str, type[T]],
                 aliases: Mapping[str, type[T]]) -> T:
    name, arguments = config.get("class_name"), config.get("config", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(
            f"{kind}'s config must be a dict of class_name (a string) and config (a dict)"
        )
    cls: Any = find(kind.split()[-1], name, names, aliases)
    unknown = sorted(set(arguments) - {f.name for f in fields(cls)})
    if unknown:
        raise ValueError(f"{cls.__name__} does not take {', '.join(unknown)}")
    return cls(**arguments)
