"""Layers that make one row of several: sums, products, extremes, and rows beside each other."""

from dataclasses import dataclass
from typing import ClassVar

from nbbn import operations as op
from nbbn.layers.arguments import Axis
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
