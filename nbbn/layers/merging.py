"""Layers that make one row of several: sums, products, extremes, and rows beside each other.

The functions call them, as in Keras.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, ClassVar

from nbbn import operations as op
from nbbn.layers.arguments import Axis, Flag, Rule, sequence
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape


class Merge(Layer):
    """A layer that is called on a list of tensors."""

    merges: ClassVar = True
    # Fewest and most tensors that it takes.
    takes: ClassVar[tuple[int, int | None]] = (2, None)

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        shapes, (least, most) = (input_shape, *others), self.takes
        if len(shapes) < least or (most is not None and len(shapes) > most):
            wanted = f"{least}" if least == most else f"at least {least}"
            raise self.error(f"takes a list of {wanted} tensors, got {len(shapes)}")
        return self.merged(shapes)

    def merged(self, shapes: tuple[Shape, ...]) -> list[Operation]:
        """The operations for rows of these shapes."""
        raise NotImplementedError


class Combination(Merge):
    """A layer that combines number by number."""

    kind: ClassVar[str]

    def merged(self, shapes: tuple[Shape, ...]) -> list[Operation]:
        rank = max(map(len, shapes))
        aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
        whole = tuple(max(axis) for axis in zip(*aligned))
        if any(n not in (1, length) for shape in aligned for n, length in zip(shape, whole)):
            raise self.error("rows must have the same shape, or axes of length 1, got "
                             f"{_listed(shapes)}")
        if rank > 3 and len({*shapes}) > 1:
            raise self.error("rows of more than three axes must have the same shape, got "
                             f"{_listed(shapes)}")
        return [op.Combine(self.kind)]


def _listed(shapes: tuple[Shape, ...]) -> str:
    return " and ".join(map(str, shapes))


@register
@dataclass(frozen=True, repr=False)
class Add(Combination):
    """The sum of tensors.

    Rows have the same shape; an axis of length 1 goes along with all of the others'.

    Parameters
    ----------
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn import layers
    >>> x = layers.Input((4,))
    >>> layers.Add()([x, layers.Dense(4)(x)]).shape
    (None, 4)
    """

    kind: ClassVar = "add"


@register
@dataclass(frozen=True, repr=False)
class Subtract(Combination):
    """The first of two tensors less the second.

    Parameters
    ----------
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> a, b = nbbn.Input((2,)), nbbn.Input((2,))
    >>> model = nbbn.Model([a, b], nbbn.layers.Subtract()([a, b]))
    >>> model.predict([[[1.0, 5.0]], [[3.0, 2.0]]])
    array([[-2.,  3.]], dtype=float32)
    """

    kind: ClassVar = "subtract"
    takes: ClassVar = (2, 2)


@register
@dataclass(frozen=True, repr=False)
class Multiply(Combination):
    """The product of tensors, number by number.

    Rows have the same shape; an axis of length 1 goes along with all of the others', as channels'
    weights `(1, 1, channels)` with an image.

    Parameters
    ----------
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn import layers
    >>> x = layers.Input((8, 8, 3))
    >>> layers.Multiply()([x, layers.Input((1, 1, 3))]).shape
    (None, 8, 8, 3)
    """

    kind: ClassVar = "multiply"


@register
@dataclass(frozen=True, repr=False)
class Average(Combination):
    """The mean of tensors.

    Parameters
    ----------
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> a, b = nbbn.Input((2,)), nbbn.Input((2,))
    >>> model = nbbn.Model([a, b], nbbn.layers.Average()([a, b]))
    >>> model.predict([[[1.0, 5.0]], [[3.0, 2.0]]])
    array([[2. , 3.5]], dtype=float32)
    """

    kind: ClassVar = "add"

    def merged(self, shapes: tuple[Shape, ...]) -> list[Operation]:
        return [*super().merged(shapes), op.Elementwise("affine", (1 / len(shapes), 0.0))]


@register
@dataclass(frozen=True, repr=False)
class Maximum(Combination):
    """The largest of tensors, number by number.

    Parameters
    ----------
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> a, b = nbbn.Input((2,)), nbbn.Input((2,))
    >>> model = nbbn.Model([a, b], nbbn.layers.Maximum()([a, b]))
    >>> model.predict([[[1.0, 5.0]], [[3.0, 2.0]]])
    array([[3., 5.]], dtype=float32)
    """

    kind: ClassVar = "maximum"


@register
@dataclass(frozen=True, repr=False)
class Minimum(Combination):
    """The smallest of tensors, number by number.

    Parameters
    ----------
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> a, b = nbbn.Input((2,)), nbbn.Input((2,))
    >>> model = nbbn.Model([a, b], nbbn.layers.Minimum()([a, b]))
    >>> model.predict([[[1.0, 5.0]], [[3.0, 2.0]]])
    array([[1., 2.]], dtype=float32)
    """

    kind: ClassVar = "minimum"


@register
@dataclass(frozen=True, repr=False)
class Concatenate(Merge):
    """Tensors one after the other along an axis.

    Parameters
    ----------
    axis : int
        Counted with the batch axis in front; the other axes are the same.
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn import layers
    >>> x = layers.Input((4,))
    >>> layers.Concatenate()([x, layers.Dense(2)(x)]).shape
    (None, 6)
    """

    axis: Axis = -1

    written: ClassVar = ("axis",)
    takes: ClassVar = (1, None)

    def merged(self, shapes: tuple[Shape, ...]) -> list[Operation]:
        axis = self._row_axis(self.axis, shapes[0])
        rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(rests) > 1 or len({len(shape) for shape in shapes}) > 1:
            raise self.error(f"rows must be alike but for axis {self.axis}, got {_listed(shapes)}")
        return [op.Concatenate(axis)]


def _pair_of_axes(value: Any) -> int | tuple[int, int]:
    axes = (value,) if isinstance(value, Integral) else sequence(value)
    if len(axes) > 2 or any(isinstance(a, bool) or not isinstance(a, Integral) for a in axes):
        raise ValueError
    if isinstance(value, Integral):
        return int(value)
    first, second = axes
    return int(first), int(second)


@register
@dataclass(frozen=True, repr=False)
class Dot(Merge):
    """The product of the vectors of two tensors, each of the first with each of the second.

    Of rows `(d,)` and `(d,)` it is one number, `(1,)`; of `(n, d)` and `(m, d)` it is `(n, m)`; of
    `(n, d)` and `(d,)` it is `(n,)`.

    Parameters
    ----------
    axes : int or tuple of two int
        The axis that is summed over, of both or of each, counted with the batch axis in front. It
        must be the last.
    normalize : bool
        Whether each vector is divided by its length first: the cosine of the angle between two.
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> a, b = nbbn.Input((2,)), nbbn.Input((2,))
    >>> model = nbbn.Model([a, b], nbbn.layers.Dot(axes=-1)([a, b]))
    >>> model.predict([[[1.0, 5.0]], [[3.0, 2.0]]])
    array([[13.]], dtype=float32)
    """

    axes: Annotated[Any, Rule(_pair_of_axes, "a whole number, or two of them",
                              given=int | tuple[int, int])]
    normalize: Flag = False

    written: ClassVar = ("axes",)
    takes: ClassVar = (2, 2)

    def merged(self, shapes: tuple[Shape, ...]) -> list[Operation]:
        axes = self.axes if isinstance(self.axes, tuple) else (self.axes, self.axes)
        for axis, shape in zip(axes, shapes):
            if not 1 <= len(shape) <= 2:
                raise self.error(f"takes rows of one axis or two, got {_listed(shapes)}; add a "
                                 "Reshape")
            if self._row_axis(axis, shape) != len(shape) - 1:
                raise self.error(f"sums over the last axis, got axis {axis} of rows of shape "
                                 f"{shape}; turn them with Permute first")
        if shapes[0][-1] != shapes[1][-1]:
            raise self.error("rows must be as long as each other along the axis that is summed "
                             f"over, got {_listed(shapes)}")
        return [op.Dot(self.normalize)]


# -- as functions

_OF_A_FUNCTION = """What a new `{layer}` makes of values.

    Parameters
    ----------
    inputs : list of Input or Value
    **kwargs
        The layer's other arguments, such as `name`.

    Returns
    -------
    Value

    Examples
    --------
    >>> from nbbn import layers
    >>> layers.{function}([layers.Input((3,)), layers.Input((3,))]).shape
    (None, 3)
    """


def _function(layer: type[Merge]) -> Callable[..., Any]:
    """The function that calls a new layer without arguments of its own."""

    def function(inputs: list[Any], **kwargs: Any) -> Any:
        return layer(**kwargs)(inputs)

    name = layer.__name__.lower()
    function.__name__ = function.__qualname__ = name
    function.__doc__ = _OF_A_FUNCTION.format(layer=layer.__name__, function=name)
    return function


add, subtract, multiply = map(_function, (Add, Subtract, Multiply))
average, maximum, minimum = map(_function, (Average, Maximum, Minimum))


def concatenate(inputs: list[Any], axis: int = -1, **kwargs: Any) -> Any:
    """What a new `Concatenate` makes of values.

    Parameters
    ----------
    inputs : list of Input or Value
    axis : int
        As of `Concatenate`.
    **kwargs
        The layer's other arguments, such as `name`.

    Returns
    -------
    Value

    Examples
    --------
    >>> from nbbn import layers
    >>> layers.concatenate([layers.Input((3,)), layers.Input((3,))]).shape
    (None, 6)
    """
    return Concatenate(axis, **kwargs)(inputs)


def dot(inputs: list[Any], axes: int | tuple[int, int] = -1, **kwargs: Any) -> Any:
    """What a new `Dot` makes of values.

    Parameters
    ----------
    inputs : list of Input or Value
    axes : int or tuple of two int
        As of `Dot`.
    **kwargs
        The layer's other arguments, such as `name`.

    Returns
    -------
    Value

    Examples
    --------
    >>> from nbbn import layers
    >>> layers.dot([layers.Input((3,)), layers.Input((3,))]).shape
    (None, 1)
    """
    return Dot(axes, **kwargs)(inputs)
