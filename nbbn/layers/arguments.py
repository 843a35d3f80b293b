"""Rules for the arguments of layers.

Each is a type that says what a value must be and how a layer keeps it.

`Layer.__post_init__` applies the rule of every field. The files of layers do without postponed
annotations, so that `Ruled` can take the rules out of them and leave what a reader wants to see.
"""

import difflib
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, NamedTuple, get_args

import numpy as np

from nbbn import constraints, initializers, regularizers
from nbbn.activations import ACTIVATIONS, SYNONYMS
from nbbn.errors import LayerError


class Rule(NamedTuple):
    """What an argument must be.

    Attributes
    ----------
    convert : callable
        The value in the form that a layer keeps; ValueError or TypeError where it breaks the rule.
    text : str
        The rule, as it goes on after "must be"; empty where the errors of `convert` say it.
    none_is_default : bool
        Whether None stands for the argument's default.
    given : type, optional
        What may be given, for signatures, where the annotation is of what is kept.
    """

    convert: Callable[[Any], Any]
    text: str = ""
    none_is_default: bool = False
    given: Any = None

    def apply(self, where: str, value: Any, default: Any) -> Any:
        """The value as a layer keeps it.

        Raises
        ------
        LayerError
            `where`, the rule and what came.
        """
        if value is None and self.none_is_default:
            value = default
        try:
            return self.convert(value)
        except (TypeError, ValueError, OverflowError) as err:
            what = f" must be {self.text}, got {value!r}" if self.text else f": {err}"
            raise LayerError(where + what) from None


class Ruled:
    """A class whose annotations bring rules along, `Annotated[type, Rule(...)]`.

    The rules go to `_rules`, before a dataclass is made of the class; signatures, `help` and fields
    see plain types.
    """

    _rules: ClassVar[dict[str, Rule]] = {}

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        own: dict[str, Rule] = {}
        plain: dict[str, Any] = {}
        for name, annotation in cls.__annotations__.items():
            kind, *notes = get_args(annotation) if _annotated(annotation) else (annotation,)
            rule = next((note for note in notes if isinstance(note, Rule)), None)
            if rule is None:
                plain[name] = annotation
            else:
                own[name], plain[name] = rule, kind if rule.given is None else rule.given
        cls._rules, cls.__annotations__ = {**cls._rules, **own}, plain


def _annotated(annotation: Any) -> bool:
    return hasattr(annotation, "__metadata__")


def activation_name(activation: str | None) -> str:
    """The canonical name of an activation: Keras's, or scikit-learn's `identity` and `logistic`.

    Raises
    ------
    LayerError
        For a name that is none of these.

    Examples
    --------
    >>> from nbbn.layers import activation_name
    >>> activation_name("logistic"), activation_name(None)
    ('sigmoid', 'linear')
    """
    if activation is None:
        return "linear"
    if not isinstance(activation, str):
        raise LayerError(f"an activation is given by name, got {activation!r}; give a name, a "
                         "layer such as LeakyReLU(0.1), or a function of nbbn.activations; layers "
                         "add ReLU, LeakyReLU, ELU or Softmax as a layer of its own, too")
    name = SYNONYMS.get(activation, activation)
    if name not in ACTIVATIONS:
        near = difflib.get_close_matches(name.lower(), (*ACTIVATIONS, *SYNONYMS), 1)
        hint = f"did you mean {near[0]!r}? All of them: " if near else "choose one of "
        raise LayerError(f"unknown activation {activation!r}; {hint}{', '.join(ACTIVATIONS)}")
    return name


def read_layer(config: dict) -> Any:
    """A layer of its config; `nbbn.layers.base` puts its own in this place."""
    raise NotImplementedError


def activation_of(given: Any) -> Any:
    """What `activation` is given as, kept as a name or, where there is none, as a layer.

    A name, a layer without weights that works number by number (or `Softmax`), its config, or a
    function of `nbbn.activations`.
    """
    if isinstance(given, dict):
        given = read_layer(given)
    if hasattr(given, "as_activation") and not isinstance(given, type):
        return given.as_activation()
    if getattr(given, "__module__", None) == "nbbn.activations":
        given = getattr(given, "__name__", given)
    return activation_name(given)


def whole(value: Any, least: int) -> int:
    """`value` as an int of at least `least`; no bool, no float."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError
    return int(value)


def number(value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """`value` as a finite float within the bounds."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not math.isfinite(value)
        or not least <= float(value) <= most
    ):
        raise ValueError
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ValueError
    return bool(value)


def _optional(convert: Callable) -> Callable:
    return lambda value: None if value is None else convert(value)


def sequence(value: Any) -> tuple:
    """A tuple or list (or an array of one axis) as a tuple; no string, no set."""
    if not isinstance(value, tuple | list | np.ndarray):
        raise TypeError
    return tuple(value)


def _pair(value: Any, least: int) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, Integral) else sequence(value)
    return whole(first, least), whole(second, least)


def _single(value: Any, least: int) -> int:
    (only,) = (value,) if isinstance(value, Integral) else sequence(value)
    return whole(only, least)


def side(value: Any) -> tuple[int, int]:
    """`(before, after)` of one number for both or of two, none below 0."""
    return _pair(value, 0)


def _shape(value: Any) -> tuple[int, ...]:
    return (
        (whole(value, 1),)
        if isinstance(value, Integral)
        else tuple(whole(n, 1) for n in sequence(value))
    )


def _any_axis(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError
    return int(value)


def _one_axis(value: Any) -> int:
    if not isinstance(value, Integral):
        (value,) = sequence(value)
    return _any_axis(value)


def _axes(value: Any) -> int | tuple[int, ...]:
    if isinstance(value, Integral):
        return _any_axis(value)
    axes = tuple(_any_axis(axis) for axis in sequence(value))
    if not axes:
        raise ValueError
    return axes[0] if len(axes) == 1 else axes


def _padding_name(value: Any, *more: str) -> str:
    if not isinstance(value, str) or value.lower() not in ("valid", "same", *more):
        raise ValueError
    return value.lower()


def _data_format(value: Any) -> str:
    if value not in (None, "channels_last"):
        raise ValueError
    return "channels_last"


def _dtype(value: Any) -> str | None:
    if value is None:
        return None
    name = np.dtype(value).name
    if name not in ("float32", "float64"):
        raise ValueError
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _above_zero(value: Any) -> float:
    if (value := number(value)) <= 0:
        raise ValueError
    return value


def _noise_shape(value: Any) -> tuple[int | None, ...]:
    return tuple(None if n is None else whole(n, 1) for n in sequence(value))


def _absent(default: Any) -> Callable:
    def convert(value: Any) -> Any:
        if value is not None and value is not default:
            raise ValueError(f"not supported, got {value!r}; leave it out")
        return default

    return convert


Count = Annotated[int, Rule(lambda v: whole(v, 1), "a whole number of at least 1")]
Flag = Annotated[bool, Rule(_flag, "True or False")]
Switch = Annotated[bool | None, Rule(_optional(_flag), "True, False or None")]
Name = Annotated[str | None, Rule(_optional(_text), "None or a string that is not empty")]
Dtype = Annotated[str | None, Rule(_dtype, "None, 'float32' or 'float64'")]
Seed = Annotated[
    int | None, Rule(_optional(lambda v: whole(v, 0)), "None or a whole number of at least 0")
]

Positive = Annotated[float, Rule(_above_zero, "a finite number above 0")]
NonNegative = Annotated[float, Rule(lambda v: number(v, 0.0), "a finite number of at least 0")]
Limit = Annotated[
    float | None, Rule(_optional(lambda v: number(v, 0.0)), "None or a finite number of at least 0")
]
Fraction = Annotated[float, Rule(lambda v: number(v, 0.0, 1.0), "a number in [0, 1]")]
Momentum = Annotated[
    float | None, Rule(_optional(lambda v: number(v, 0.0, 1.0)), "None or lie in [0, 1]")
]

RowShape = Annotated[
    tuple[int, ...] | None,
    Rule(_optional(_shape),
         "the shape of one row, whole numbers of at least 1 without the batch axis"),
]
Axis = Annotated[int, Rule(_one_axis, "a whole number, or a list of one")]
Axes = Annotated[int | tuple[int, ...], Rule(_axes, "a whole number or a list of them")]
NoiseShape = Annotated[
    tuple[int | None, ...] | None,
    Rule(_optional(_noise_shape), "None or a list of whole numbers of at least 1 and None"),
]

Pair = Annotated[
    tuple[int, int],
    Rule(lambda v: _pair(v, 1), "a whole number of at least 1 or two of them, (height, width)",
         given=int | tuple[int, int]),
]
OptionalPair = Annotated[
    tuple[int, int] | None,
    Rule(_optional(lambda v: _pair(v, 1)),
         "None, a whole number of at least 1 or two of them, (height, width)",
         given=int | tuple[int, int] | None),
]
OutputPadding = Annotated[
    tuple[int, int] | None,
    Rule(_optional(lambda v: _pair(v, 0)),
         "None, a whole number of at least 0 or two of them, (height, width)",
         given=int | tuple[int, int] | None),
]
# Of layers over steps.
Single = Annotated[
    int,
    Rule(lambda v: _single(v, 1), "a whole number of at least 1, or a list of one",
         given=int | tuple[int]),
]
OptionalSingle = Annotated[
    int | None,
    Rule(_optional(lambda v: _single(v, 1)), "None, a whole number of at least 1 or a list of one",
         given=int | tuple[int] | None),
]
OutputPaddingOfSteps = Annotated[
    int | None,
    Rule(_optional(lambda v: _single(v, 0)), "None, a whole number of at least 0 or a list of one",
         given=int | tuple[int] | None),
]
SidesOfSteps = Annotated[
    tuple[int, int],
    Rule(side, "a whole number of at least 0 or two of them, (before, after)",
         given=int | tuple[int, int]),
]
Padding = Annotated[str, Rule(_padding_name, "'valid' or 'same'")]
CausalPadding = Annotated[
    str, Rule(lambda v: _padding_name(v, "causal"), "'valid', 'same' or 'causal'")
]
DataFormat = Annotated[
    str | None,
    Rule(_data_format,
         "None or 'channels_last' (transpose the data to (rows, height, width, channels) or "
         "(rows, steps, channels))"),
]

# A name or None goes in, a name is kept; a name or an object goes in, an object is kept.
ActivationName = Annotated[Any, Rule(activation_of, given=str | None)]
Initializer = Annotated[
    Any, Rule(initializers.get, none_is_default=True, given=str | initializers.Initializer)
]
Regularizer = Annotated[
    regularizers.Regularizer | None,
    Rule(regularizers.get, given=str | regularizers.Regularizer | None),
]
Constraint = Annotated[
    Callable[[np.ndarray], Any] | None,
    Rule(constraints.get,
         given=str | constraints.Constraint | Callable[[np.ndarray], np.ndarray] | None),
]

# Arguments of Keras's that exist here so that a program which spells out their defaults runs.
NotSupported = Annotated[None, Rule(_absent(None))]
NotSupportedFlag = Annotated[bool, Rule(_absent(False))]
