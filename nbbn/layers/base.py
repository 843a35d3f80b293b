"""What every layer declares.

Its weights' shapes, its output's shape, how it is written to a file.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import MISSING, InitVar, dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

from nbbn import constraints
from nbbn import operations as op
from nbbn.activations import ACTIVATIONS
from nbbn.errors import LayerError
from nbbn.layers import arguments
from nbbn.layers.arguments import Dtype, Flag, Name, RowShape, Rule, Ruled
from nbbn.names import suggesting
from nbbn.operations import Array, Operation, Shape
from nbbn.regularizers import Regularizer


@dataclass(frozen=True, repr=False)
class Layer(Ruled):
    """A plain specification: no arrays, no arithmetic.

    A shape here is that of one row, without the batch axis, channels last: `(features,)`,
    `(steps, channels)` or `(height, width, channels)`. Axes are counted with the batch axis in
    front, as in Keras.

    Parameters
    ----------
    name : str, optional
        Keyword only, as all of these. None: the model names the layer after its class.
    trainable : bool
        Whether training changes the layer's weights.
    input_shape : tuple of int, optional
        Shape of one row that goes in; on the first layer of a model it replaces an `Input`.
    dtype : {None, "float32", "float64"}
        What the layer computes in; None: what the model computes in.

    Raises
    ------
    LayerError
        For an argument that breaks its rule.

    Examples
    --------
    >>> from nbbn.layers import Dense
    >>> layer = Dense(128, use_bias=False)
    >>> layer.output_shape((784,)), layer.weight_shapes((784,))
    ((128,), {'kernel': (784, 128)})
    >>> layer.config()
    {'layer': 'Dense', 'units': 128, 'activation': 'linear', 'use_bias': False}
    """

    name: Name = field(default=None, kw_only=True)
    trainable: Flag = field(default=True, kw_only=True)
    input_shape: RowShape = field(default=None, kw_only=True)
    dtype: Dtype = field(default=None, kw_only=True)

    # Arguments that `config` writes even at their defaults: files say what a layer is, whatever a
    # later default may be.
    written: ClassVar[tuple[str, ...]] = ()
    # What an array is called in the names of its arguments (`<name>_initializer`), where that is
    # not its own name.
    argument_names: ClassVar[dict[str, str]] = {}
    # Arrays that training never changes by gradients.
    statistics: ClassVar[tuple[str, ...]] = ()
    # Whether it takes several values, and whether it stands for a model's rows.
    merges: ClassVar[bool] = False
    gives_rows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for where, name, rule, default in _rules(kind):
            object.__setattr__(self, name, rule.apply(where, getattr(self, name), default))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._given())
        return f"{type(self).__name__}({shown})"

    def __call__(self, inputs: Any, training: Any = None) -> "Value":
        """What the layer makes of a value, for `nbbn.Model`; called again it has the same weights.

        Parameters
        ----------
        inputs : Input or Value, or a list of them
            A list for layers that merge, such as `Add`.
        training : bool, optional
            Keras's; None and False: the model says whether it trains.

        Returns
        -------
        Value
            To call further layers on, and to make a `Model` of.

        Raises
        ------
        TypeError
            For anything else, such as arrays.
        LayerError
            Where the layer cannot take such rows.
        """
        given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
        for source in given:
            if not isinstance(source, Value) and not getattr(source, "gives_rows", False):
                raise self._not_called_on(source)
        if training:
            raise self.error("training=True is not supported: fit trains, all else is inference")
        shapes = [row_shape_of(source) for source in given]
        if len(shapes) > 1 and not self.merges:
            raise self.error(f"takes one value, got a list of {len(shapes)}; merge them first, "
                             "as Concatenate does")
        try:
            wanted = self.weight_shapes(*shapes)
            known = self.__dict__.setdefault("_shapes", wanted)
            if known != wanted:
                raise self.error(f"has weights of shapes {known} since it was called before, and "
                                 f"here it needs {wanted}")
            return Value(self, given, self.output_shape(*shapes))
        except LayerError as err:
            raise LayerError(f"{err}; it is called on {' and '.join(map(_shown, given))}") from None

    def _not_called_on(self, source: Any) -> TypeError:
        kind = type(source).__name__
        if isinstance(source, np.ndarray):
            return TypeError(f"{type(self).__name__} is called on an array; layers are called on "
                             "what Input(...) and other layers give, models on arrays")
        return TypeError(f"{type(self).__name__} is called on {kind}; layers are called on what "
                         "Input(...) and other layers give: x = Dense(3)(Input((4,)))")

    def __getstate__(self) -> dict[str, Any]:
        """The arguments alone: weights that models share are not part of the layer."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        """What the layer computes: operations one after the other, the first of all its sources.

        Parameters
        ----------
        input_shape, *others : tuple of int
            Shape of one row of each source.

        Raises
        ------
        LayerError
            Where the layer cannot take such rows.
        """
        return []

    def output_shape(self, input_shape: Shape, *others: Shape) -> Shape:
        """Shape of one output row for one row of each source.

        Raises
        ------
        LayerError
            Where the layer cannot take such rows.
        """
        shapes = (tuple(input_shape), *others)
        for operation in self.operations(*shapes):
            shapes = (operation.output_shape(*shapes),)
        return shapes[0]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        """Name and shape of each array of the layer, in Keras's order; empty without weights."""
        return {}

    def arrays(self, input_shape: Shape, *others: Shape) -> dict[str, Array]:
        """What there is to know of each array: its shape, whether it is trained, its penalty, what
        it is brought back to."""
        trained = self.trainable_names(input_shape, *others)
        penalties = self.regularizers(input_shape, *others)
        bounds = self.constraints(input_shape, *others)
        return {
            name: Array(shape, name in trained, getattr(penalties.get(name), "l1", 0.0),
                        getattr(penalties.get(name), "l2", 0.0), bounds.get(name))
            for name, shape in self.weight_shapes(input_shape, *others).items()
        }

    def trainable_names(self, input_shape: Shape, *others: Shape) -> tuple[str, ...]:
        """Names of the arrays that gradients change, in the order of `weight_shapes`."""
        names = self.weight_shapes(input_shape, *others) if self.trainable else ()
        return tuple(name for name in names if name not in self.statistics)

    def initial_weights(self, input_shape: Shape, rng: np.random.Generator,
                        dtype: str | type | np.dtype[Any]) -> dict[str, np.ndarray]:
        """New arrays, as the layer's initializers make them.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one row that goes in.
        rng : numpy.random.Generator
            Read array by array, in the order of `weight_shapes`; initializers with a seed of their
            own leave it alone.
        dtype : dtype
            float32 or float64; the values in float32 are the rounded ones of float64.

        Returns
        -------
        dict of arrays
            C-contiguous, in the order and of the shapes of `weight_shapes`.
        """
        return {
            name: getattr(self, self._field_of(name, "initializer"))(shape, rng, dtype)
            for name, shape in self.weight_shapes(input_shape).items()
        }

    def regularizers(self, input_shape: Shape, *others: Shape) -> dict[str, Regularizer]:
        """The `nbbn.regularizers` object of each trained array that has one."""
        found = {
            name: getattr(self, self._field_of(name, "regularizer"), None)
            for name in self.trainable_names(input_shape, *others)
        }
        return {name: regularizer for name, regularizer in found.items() if regularizer is not None}

    def constraints(self, input_shape: Shape,
                    *others: Shape) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        """From an array to what it becomes after each step, of each trained one with a constraint.

        Raises
        ------
        LayerError
            For a constraint that cannot take arrays of this shape.
        """
        found, shapes = dict[str, Any](), self.weight_shapes(input_shape, *others)
        for name in self.trainable_names(input_shape, *others):
            argument = self._field_of(name, "constraint")
            if (given := getattr(self, argument, None)) is not None:
                try:
                    constraints.checked(given, shapes[name])
                except ValueError as err:
                    raise self.error(f"{argument}: {err}") from None
                where = str(self.error(argument))
                found[name] = functools.partial(constraints.applied, where, given)
        return found

    def config(self) -> dict:
        """The arguments as JSON-ready values; `layer_from_config` reads them.

        Most defaults are left out. A constraint that is a plain function stays one.
        """
        return {
            "layer": type(self).__name__,
            **{name: _json_ready(value) for name, value in self._given(self.written)},
        }

    def get_config(self) -> dict:
        """The arguments by name, from which `from_config` of the class makes the same layer."""
        config = self.config()
        del config["layer"]
        return config

    @classmethod
    def from_config(cls, config: dict) -> "Layer":
        """The layer of these arguments.

        Parameters
        ----------
        config : dict
            Of `get_config`.
        """
        return layer_from_config({**config, "layer": cls.__name__})

    def check_written(self) -> None:
        """TypeError for an argument that no file can hold."""
        for name, value in self._given():
            if name.endswith("_constraint") and not hasattr(value, "config") and value is not None:
                raise TypeError(f"{self.error(name)} is the function {value!r}, which no file "
                                "holds; make it a subclass of nbbn.constraints.Constraint")

    def as_activation(self) -> Any:
        """The layer as the argument `activation` of others keeps it: a name where it has one.

        Raises
        ------
        LayerError
            For a layer that is no activation.
        """
        try:
            made, weights = self.operations((2,)), self.weight_shapes((2,))
        except LayerError:
            made, weights = [], {"": ()}
        simple = all(isinstance(one, op.Elementwise | op.Softmax) for one in made)
        if weights or not simple or not (made or hasattr(self, "activation")):
            raise self.error("is no activation: put it behind the layer as one of its own")
        names = (name for name in ACTIVATIONS if op.activation(name) == made)
        return next(names, replace(self, name=None))

    def _given(self, always: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
        """Names and values of the arguments not at their defaults, or in `always`."""
        for f in sorted(fields(self), key=lambda f: bool(f.kw_only)):
            value, default = getattr(self, f.name), f.default
            if default is not MISSING and (rule := self._rules.get(f.name)):
                default = rule.apply(f.name, default, default)
            if f.name in always or default is MISSING or value != default:
                yield f.name, value

    def _field_of(self, array: str, what: str) -> str:
        return f"{self.argument_names.get(array, array)}_{what}"

    def error(self, message: str) -> LayerError:
        """An error that says which layer it is about."""
        name = f" {self.name!r}" if self.name else ""
        return LayerError(f"{type(self).__name__}{name}: {message}")

    def _row(self, input_shape: Shape, rank: int | None = None) -> Shape:
        """`input_shape`, checked: positive, and of `rank` axes where given.

        Raises
        ------
        LayerError
            What came and what the layer needs.
        """
        shape = tuple(input_shape)
        needs = {
            1: "rows of one axis", 2: "rows of shape (steps, channels)",
            3: "rows of shape (height, width, channels)", None: "rows of one axis or more",
        }[rank]
        if len(shape) != rank if rank else not shape:
            raise self.error(f"needs {needs}, got rows of shape {shape}")
        return shape

    def _row_axis(self, axis: int, input_shape: Shape) -> int:
        """Index into a row's shape of an axis that is counted with the batch axis in front.

        Raises
        ------
        LayerError
            For the batch axis, and for an axis that rows do not have.
        """
        rank = len(input_shape) + 1
        at = axis + rank if axis < 0 else axis
        if not 1 <= at < rank:
            raise self.error(f"axis {axis} is not an axis of rows of shape {tuple(input_shape)} "
                             "(axis 0 is the batch)")
        return at - 1

    def _row_axes(self, axes: int | tuple[int, ...], input_shape: Shape) -> tuple[int, ...]:
        """`_row_axis` of each of the axes, ascending.

        Raises
        ------
        LayerError
            As `_row_axis`, and for an axis that is named twice.
        """
        axes = axes if isinstance(axes, tuple) else (axes,)
        found = tuple(sorted({self._row_axis(axis, input_shape) for axis in axes}))
        if len(found) < len(axes):
            raise self.error(
                f"axis {axes} names an axis of rows of shape {tuple(input_shape)} twice"
            )
        return found


_NUMBERS = itertools.count()


class Value:
    """What a layer gives, before there are any numbers.

    Parameters
    ----------
    layer : Layer
    sources : tuple of Input or Value
    row_shape : tuple of int

    Attributes
    ----------
    shape : tuple
        `(None, ...)`, with the batch axis.
    number : int
        Grows from value to value, as layers are called.
    within : tuple
        Where it comes of models that were called on values: their uses, the outermost first.
    """

    def __init__(self, layer: Layer, sources: tuple[Any, ...], row_shape: Shape):
        self.layer, self.sources, self.row_shape = layer, sources, row_shape
        self.number = next(_NUMBERS)
        self.within: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, *self.row_shape)

    def __repr__(self) -> str:
        return f"<Value of shape {self.shape}, of {self.layer!r}>"

    def __add__(self, other: Any) -> "Value":
        return _LAYERS["Add"]()([self, other])

    def __sub__(self, other: Any) -> "Value":
        return _LAYERS["Subtract"]()([self, other])

    def __mul__(self, other: Any) -> "Value":
        return _LAYERS["Multiply"]()([self, other])

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a value of a layer holds no numbers: make a Model of it, and call that on "
                        "arrays")


def _shown(source: Any) -> str:
    """An `Input` or a `Value` in an error's words."""
    layer = source.layer if isinstance(source, Value) else source
    name = f" {layer.name!r}" if layer.name else ""
    return f"{type(layer).__name__}{name} with rows of shape {row_shape_of(source)}"


def row_shape_of(source: Any) -> Shape:
    """Shape of a row of an `Input` or a `Value`."""
    return source.row_shape if isinstance(source, Value) else source.shape


@functools.cache
def _rules(cls: Any) -> list[tuple[str, str, Rule, Any]]:
    """Of each argument with a rule: what errors call it, its name, the rule, the default."""
    pairs = ((f, cls._rules.get(f.name)) for f in fields(cls))
    return [(f"{cls.__name__}: {f.name}", f.name, rule, f.default) for f, rule in pairs if rule]


def _json_ready(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_json_ready(v) for v in value]
    return value.config() if hasattr(value, "config") else value


_LAYERS: dict[str, type[Layer]] = {}


def register(cls: type[Layer]) -> type[Layer]:
    """Make a layer class known to `layer_from_config`, and its signature readable."""
    _LAYERS[cls.__name__] = cls
    for annotations in (cls.__annotations__, cls.__init__.__annotations__):
        annotations |= {n: of.type for n, of in annotations.items() if isinstance(of, InitVar)}
    return suggesting(cls)


def layer_from_config(config: dict) -> Layer:
    """The layer that `Layer.config` described.

    Raises
    ------
    LayerError
        For an unknown layer name or arguments that the layer does not take.

    Examples
    --------
    >>> from nbbn import layers
    >>> layers.layer_from_config(layers.Dense(8, activation="relu").config())
    Dense(units=8, activation='relu')
    """
    config = dict(config)
    name = config.pop("layer", None)
    if not isinstance(name, str) or name not in _LAYERS:
        raise LayerError(f"unknown layer {name!r}; known layers: {', '.join(sorted(_LAYERS))}")
    known = {f.name: f for f in fields(_LAYERS[name])}
    if unknown := set(config) - set(known):
        raise LayerError(f"{name} does not take {', '.join(sorted(map(str, unknown)))}")
    if missing := [n for n, f in known.items() if f.default is MISSING and n not in config]:
        raise LayerError(f"{name} needs {', '.join(missing)}")
    return _LAYERS[name](**config)


# Files keep an activation that is a layer as its config.
arguments.read_layer = layer_from_config
