"""Gradients of losses beside central differences of their values."""

from typing import Any

import numpy as np

from nbbn.losses.base import Loss, by_row

# Rows and numbers that a gradient is checked at; a step, as a share of the number's size; how far
# off a derivative may be, as a share of its size.
_CHECKED_ROWS, _CHECKED_NUMBERS = 16, 64
_STEP, _SLIP = 1e-5, 1e-4


def compare_gradient(loss: Loss, y_true: Any, y_pred: Any) -> None:
    """Compare a loss's gradient with central differences; ValueError for a wrong one.

    At up to 64 numbers of up to 16 rows.
    """
    y = np.array(y_pred, np.float64)[:_CHECKED_ROWS]
    t = np.asarray(y_true)[:_CHECKED_ROWS]
    if not loss.takes_labels:
        t = t.astype(np.float64)

    def total() -> float:
        values = np.asarray(loss.call(t, y), np.float64)
        return float(by_row(values).sum() if values.ndim else values)

    slopes = np.asarray(loss.gradient(t, y))
    if slopes.shape != y.shape:
        raise loss._error(f"the gradient must have the outputs' shape {y.shape}, "
                          f"got {slopes.shape}")
    for at in np.unique(np.linspace(0, y.size - 1, _CHECKED_NUMBERS).astype(int)):
        place = np.unravel_index(at, y.shape)
        number = float(y[place])
        step = _STEP * max(1.0, abs(number))
        here, sides = total(), []
        for moved in (number - step, number + step):
            y[place] = moved
            sides.append(total())
        y[place] = number
        left, right = (here - sides[0]) / step, (sides[1] - here) / step
        # At a kink any slope between those of both sides will do.
        slip = _SLIP * max(1.0, abs(left), abs(right))
        got = float(slopes[place])
        if not min(left, right) - slip <= got <= max(left, right) + slip:
            where = ", ".join(map(str, place[1:])) or "0"
            raise loss._error(f"the gradient at row {place[0]}, unit {where} is {got:.6g}, but "
                              "central differences of the value give "
                              f"{0.5 * (left + right):.6g}; it must be the derivative of each "
                              "row's number by y_pred")
