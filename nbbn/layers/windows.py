"""The arithmetic of windows that slide over one axis: how many there are, and how much zero stands before and after."""


def window(size: int, dilation: int = 1) -> int:
    """Values that a window spans, its holes included."""
    return (size - 1) * dilation + 1


def count(values: int, span: int, stride: int, padding: str) -> int:
    """Number of windows over `values`; 0 or less where not even one fits."""
    return (values - span) // stride + 1 if padding == "valid" else (values - 1) // stride + 1


def pads(values: int, span: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow puts them: where their number is odd, the extra one comes after."""
    total = max((count(values, span, stride, padding) - 1) * stride + span - values, 0) if padding == "same" else 0
    return total // 2, total - total // 2


def transposed_count(values: int, span: int, stride: int, padding: str, output_padding: int | None) -> int:
    """Outputs of a transposed window."""
    if padding == "valid":
        extra = max(stride - span, 0) if output_padding is None else output_padding
        return (values - 1) * stride + span + extra
    return values * stride if output_padding is None else (values - 1) * stride + span % 2 + output_padding


def crops(values: int, span: int, stride: int, padding: str, output_padding: int | None) -> tuple[int, int]:
    """What falls away before and after of the `(values - 1) * stride + span` values that a transposed window writes.

    Negative after: zeros are appended.
    """
    full = (values - 1) * stride + span
    total = full - transposed_count(values, span, stride, padding, output_padding)
    before = max(total // 2, 0) if padding == "same" else 0
    return before, total - before
