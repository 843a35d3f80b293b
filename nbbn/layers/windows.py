"""The arithmetic of windows: how many there are, and how much zero stands around the image.

Rows of steps are images of one line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from nbbn import operations as op
from nbbn.layers.base import Layer
from nbbn.operations import Operation, Pair, Shape, Sides, Window


def count(values: int, span: int, stride: int, padding: str) -> int:
    """Number of windows over `values`; 0 or less where not even one fits."""
    return (values - span) // stride + 1 if padding == "valid" else (values - 1) // stride + 1


def pads(values: int, span: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow puts them.

    Where their number is odd, the extra one comes after; `causal`: all before.
    """
    if padding == "causal":
        return span - 1, 0
    total = (
        max((count(values, span, stride, padding) - 1) * stride + span - values, 0)
        if padding == "same"
        else 0
    )
    return total // 2, total - total // 2


def size_of(of: int | Pair) -> tuple[int, ...]:
    """A window's size as it stands in the shape of a kernel."""
    return (of,) if isinstance(of, int) else of


def of_image(of: int | Pair) -> Pair:
    """What is said of steps, as it is said of the image of one line."""
    return (1, of) if isinstance(of, int) else of


def as_image(shape: Shape) -> Shape:
    """Shape of a row of steps as an image of one line; that of an image as it is."""
    return shape if len(shape) == 3 else (1, *shape)


def on_images(shape: Shape, operations: list[Operation]) -> list[Operation]:
    """Operations that work on images, for rows of steps too."""
    image = after = as_image(shape)
    for operation in operations:
        after = operation.output_shape(after)
    return [*op.reshaped(shape, image), *operations, *op.reshaped(after, after[-len(shape) :])]


def sliding(layer: Layer, shape: Shape, size: int | Pair, strides: int | Pair,
            dilation: int | Pair, padding: str) -> Window:
    """The window of a layer over rows of `shape`, with what `padding` puts around them.

    Raises
    ------
    LayerError
        Where not even one window fits.
    """
    image, window = as_image(shape), Window(of_image(size), of_image(strides), of_image(dilation))
    span = window.span
    top_bottom, left_right = (
        pads(n, k, s, padding) for n, k, s in zip(image, span, window.strides)
    )
    window = replace(window, sides=(top_bottom, left_right))
    if min(window.places(image)) < 1:
        least = f"height {span[0]} and width {span[1]}" if len(shape) == 3 else f"{span[1]} steps"
        raise layer.error(f"needs rows of {least} at least, got rows of shape {shape}; "
                          "use padding='same'")
    return window


class Sliding(Layer):
    """A layer whose kernel slides over rows: it has a size, strides, a dilation and a padding."""

    kernel_size: Any
    strides: Any
    padding: Any
    dilation_rate: Any

    # Axes of a row.
    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self, self.strides, self.dilation_rate)

    def pads(self, input_shape: Shape) -> Sides:
        """Zeros around a row, ((top, bottom), (left, right)); an odd one at the bottom or right."""
        return self._window(input_shape).sides

    def _window(self, input_shape: Shape) -> Window:
        shape = self._row(input_shape, self.rank)
        return sliding(self, shape, self.kernel_size, self.strides, self.dilation_rate,
                       self.padding)


def check_steps(layer: Layer, strides: int | Pair, dilation_rate: int | Pair) -> None:
    """LayerError where both are above 1."""
    if max(size_of(strides)) > 1 and max(size_of(dilation_rate)) > 1:
        raise layer.error("strides and dilation_rate cannot both be above 1, "
                          f"got {strides} and {dilation_rate}")


def transposed_count(values: int, span: int, stride: int, padding: str,
                     output_padding: int | None) -> int:
    """Outputs of a transposed window."""
    if padding == "valid":
        extra = max(stride - span, 0) if output_padding is None else output_padding
        return (values - 1) * stride + span + extra
    return (
        values * stride
        if output_padding is None
        else (values - 1) * stride + span % 2 + output_padding
    )


def crops(values: int, span: int, stride: int, padding: str, output_padding: int | None) -> Pair:
    """What falls away before and after of the values that a transposed window writes.

    These are `(values - 1) * stride + span`; negative after: zeros are appended.
    """
    full = (values - 1) * stride + span
    total = full - transposed_count(values, span, stride, padding, output_padding)
    before = max(total // 2, 0) if padding == "same" else 0
    return before, total - before
