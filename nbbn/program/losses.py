"""Lowering of a loss: its kernel gets whatever operands it asks for."""

from __future__ import annotations

from nbbn.errors import LayerError
from nbbn.kernels import KERNELS
from nbbn.losses import LossRecord
from nbbn.program.lowering import Lowering
from nbbn.program.program import Buffer, Segment
from nbbn.program.tensors import Tensor

_LOSSES = Buffer("losses", Segment.LOSSES)


def add_loss(low: Lowering, record: LossRecord, outputs: Tensor, targets: Tensor | None, *,
             parameter: float) -> Tensor:
    """Emit a loss, the mean over all numbers of a row; several axes are flattened for it.

    Parameters
    ----------
    low : Lowering
    record : LossRecord
    outputs : Tensor
        What the loss starts from: the logits where the record has an `end`.
    targets : Tensor or None
        The step's targets, a row of numbers for each row; None where the loss takes labels.
    parameter : float
        Of the loss; read by those that have one.

    Returns
    -------
    Tensor
        The gradient by `outputs`: over `outputs` itself where the loss starts from logits.
    """
    if len(outputs.shape) == 1:
        return _add(low, record, outputs, targets, parameter)
    flat = low.tensor("outputs", (outputs.width,))
    low.repack(outputs, flat)
    gradient = low.like("dshaped", outputs)
    low.repack(_add(low, record, flat, targets, parameter), gradient)
    return gradient


def weigh_rows(low: Lowering, gradient: Tensor, shares: Buffer) -> None:
    """Multiply each row's loss and gradient by its part of the batch's mass.

    Raises
    ------
    LayerError
        For rows of several axes.
    """
    if len(gradient.shape) > 1:
        raise LayerError("weighted rows need outputs of one axis; end with a Flatten")
    low.add("weigh_rows", dz=gradient, panels=low.panels(gradient.width), shares=shares,
            losses=_LOSSES)


def _add(low: Lowering, record: LossRecord, y: Tensor, targets: Tensor | None,
         parameter: float) -> Tensor:
    """A loss of rows of one axis, as `add_loss`."""
    wanted = KERNELS[record.engine].operands
    gradient = low.tensor("doutputs", (y.width,)) if "dy" in wanted else y
    known: dict[str, Tensor | Buffer | float] = {
        "z": y, "y": y, "dy": gradient, "units": y.width, "panels": low.panels(y.width),
        "labels": Buffer("Y", Segment.Y), "order": Buffer("order", Segment.ORDER),
        "losses": _LOSSES, "hits": Buffer("hits", Segment.HITS), "parameter": parameter,
    }
    if targets is not None:
        known |= {"targets": targets, "t_stride": targets.stride}
    low.add(record.engine, **{name: value for name, value in known.items() if name in wanted})
    return gradient
