"""Lowering of a loss: its kernel gets whatever operands it asks for."""

from __future__ import annotations

from dataclasses import replace

from nbbn.kernels import KERNELS
from nbbn.layers import LayerError
from nbbn.losses import LossRecord
from nbbn.program.images import Images
from nbbn.program.layout import panels_of
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.tensors import Tensor, layout_of


def add_loss(
    images: Images,
    record: LossRecord,
    outputs: Tensor,
    targets: Tensor | None,
    *,
    rows: int,
    parameter: float,
) -> Tensor:
    """Emit a loss, the mean over all numbers of a row; several axes are flattened for it.

    Parameters
    ----------
    images : Images
        Emits what changes a shape.
    record : LossRecord
    outputs : Tensor
        What the loss starts from: the logits where the record has an `end`.
    targets : Tensor or None
        The step's targets, a row of numbers for each row; None where the loss takes labels.
    rows : int
        The largest batch.
    parameter : float
        Of the loss; read by those that have one.

    Returns
    -------
    Tensor
        The gradient by `outputs`: over `outputs` itself where the loss starts from logits.
    """
    program = images.program
    if len(outputs.shape) == 1:
        return _add(program, record, outputs, targets, rows, parameter)
    flat = _vectors(program, "outputs", outputs.width, rows)
    images.repack(outputs, flat)
    flat_gradient = _add(program, record, flat, targets, rows, parameter)
    shaped = program.buffer("dshaped", Segment.WORK, rows * outputs.stride)
    gradient = replace(outputs, buffer=shaped, kept=False)
    images.repack(flat_gradient, gradient)
    return gradient


def weigh_rows(program: Program, gradient: Tensor, shares: Buffer) -> None:
    """Multiply each row's loss and gradient by its part of the batch's mass.

    Raises
    ------
    LayerError
        For rows of several axes.
    """
    if len(gradient.shape) > 1:
        raise LayerError("weighted rows need outputs of one axis; end with a Flatten")
    program.add("weigh_rows", dz=gradient.buffer, dz_stride=gradient.stride,
                panels=panels_of(gradient.width, program.dtype), shares=shares,
                losses=Buffer("losses", Segment.LOSSES))  # fmt: skip


def _add(
    program: Program,
    record: LossRecord,
    y: Tensor,
    targets: Tensor | None,
    rows: int,
    parameter: float,
) -> Tensor:
    """A loss of rows of one axis, as `add_loss`."""
    wanted = KERNELS[record.engine].operands
    gradient = _vectors(program, "doutputs", y.width, rows) if "dy" in wanted else y
    known = {
        "z": y.buffer, "z_stride": y.stride, "y": y.buffer, "y_stride": y.stride,
        "dy": gradient.buffer, "dy_stride": gradient.stride,
        "units": y.width, "panels": panels_of(y.width, program.dtype),
        "labels": Buffer("Y", Segment.Y), "order": Buffer("order", Segment.ORDER),
        "losses": Buffer("losses", Segment.LOSSES), "hits": Buffer("hits", Segment.HITS),
        "parameter": parameter,
    }  # fmt: skip
    if targets is not None:
        known |= {"targets": targets.buffer, "t_stride": targets.stride}
    program.add(record.engine, **{name: known[name] for name in wanted})
    return gradient


def _vectors(program: Program, name: str, width: int, rows: int) -> Tensor:
    """A new tensor of rows of one axis."""
    stride, pixel = layout_of((width,), program.dtype)
    return Tensor(program.buffer(name, Segment.WORK, rows * stride), stride, (width,), pixel)
