"""The arithmetic of windows: how many there are, and how much zero stands around the image."""

from nbbn.layers.base import Layer
from nbbn.operations import Pair, Shape, Window


def count(values: int, span: int, stride: int, padding: str) -> int:
    """Number of windows over `values`; 0 or less where not even one fits."""
    return (values - span) // stride + 1 if padding == "valid" else (values - 1) // stride + 1


def pads(values: int, span: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow puts them.

    Where their number is odd, the extra one comes after.
    """
    total = (
        max((count(values, span, stride, padding) - 1) * stride + span - values, 0)
        if padding == "same"
        else 0
    )
    return total // 2, total - total // 2


def sliding(layer: Layer, shape: Shape, size: Pair, strides: Pair, dilation: Pair,
            padding: str) -> Window:
    """The window of a layer over rows of `shape`, with what `padding` puts around them.

    Raises
    ------
    LayerError
        Where not even one window fits.
    """
    span = Window(size, strides, dilation).span
    top_bottom, left_right = (pads(n, k, s, padding) for n, k, s in zip(shape, span, strides))
    window = Window(size, strides, dilation, (top_bottom, left_right))
    if min(window.places(shape)) < 1:
        raise layer.error(f"needs rows of height {span[0]} and width {span[1]} at least, "
                          f"got rows of shape {shape}; use padding='same'")
    return window


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
