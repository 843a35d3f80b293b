"""Lowering of a loss: its kernel gets whatever operands it asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from nbbn.kernels import KERNELS
from nbbn.losses import LossRecord
from nbbn.program.lowering import Lowering
from nbbn.program.program import Buffer, Segment
from nbbn.program.tensors import Tensor


@dataclass(frozen=True)
class Head:
    """A loss of one of several outputs.

    Attributes
    ----------
    loss : str
        Name of a record of `nbbn.losses`; of several outputs one of targets, not of labels.
    parameter : float
        Of the loss; read by those that have one.
    weight : float
        By which it is multiplied before the losses of all outputs are added up.
    """

    loss: str
    parameter: float = 0.0
    weight: float = 1.0


@dataclass(frozen=True)
class Outside:
    """Where a step is left: NumPy reads `read`, and writes `written`, before it goes on.

    Attributes
    ----------
    operation : int
        Which one of the program's it stands for.
    number : int
        Of the loss among the outputs'.
    shard : int
        Of the batch.
    read, written : Tensor
        What the loss starts from, and the gradient.
    shares, own_shares : Buffer or None
        The rows' parts of the batch's mass, and those that this loss is weighed by.
    """

    operation: int
    number: int
    shard: int
    read: Tensor
    written: Tensor
    shares: Buffer | None = None
    own_shares: Buffer | None = None

    def moved(self, at: Callable[[Buffer], Buffer]) -> Outside:
        """The same with its buffers where they stand now."""
        return replace(self, read=self.read.moved(at), written=self.written.moved(at),
                       shares=self.shares and at(self.shares),
                       own_shares=self.own_shares and at(self.own_shares))


@dataclass(frozen=True)
class Kept:
    """An output of a step, in rows of the caller's array.

    Attributes
    ----------
    first : int
        Its first column.
    shape : tuple of int
        Of a row.
    end : str or None
        The activation that is still to come.
    """

    first: int
    shape: tuple[int, ...]
    end: str | None

    @property
    def columns(self) -> slice:
        """Those of its own."""
        return slice(self.first, self.first + math.prod(self.shape))


_LOSSES, _KEPT = Buffer("losses", Segment.LOSSES), Buffer("kept", Segment.OUT)
# Of pixels, each of which has a loss.
_BY_PIXEL = ("softmax_cross_entropy", "categorical_cross_entropy")


def keep_outputs(low: Lowering, kept: list[Kept], outputs: list[Tensor]) -> None:
    """Leave what losses start from in an array of the caller's, before they write over it."""
    for k, (place, y) in enumerate(zip(kept, outputs)):
        if len(y.shape) > 1:
            flat = low.tensor(f"kept{k}", (y.width,))
            low.repack(y, flat)
            y = flat
        low.add("keep_rows", x=y, width=y.width, out=_KEPT, begins=place.first,
                out_width=kept[-1].columns.stop)


def leave_step(low: Lowering, number: int, shard: int, outputs: Tensor,
               shares: Buffer | None) -> Outside:
    """Leave the step for a loss that NumPy computes; its gradient has a place of its own.

    Where rows have `shares` of the mass, it says those that it is weighed by.
    """
    gradient = low.like(f"doutputs{number}", outputs)
    low.add("outside", read=outputs.buffer, written=gradient.buffer)
    place = Outside(len(low.program.operations) - 1, number, shard, outputs, gradient)
    if shares is None:
        return place
    own = low.program.buffer(f"shares{number}", Segment.WORK, low.rows)
    low.lasting |= {shares.name, own.name}  # the program does not show that NumPy uses them here
    return replace(place, shares=shares, own_shares=own)


def add_loss(low: Lowering, record: LossRecord, outputs: Tensor, targets: Tensor | None, *,
             parameter: float, name: str = "") -> Tensor:
    """Emit a loss, the mean over all numbers of a row, or over all pixels.

    Several axes are flattened for it, where pixels have none of their own.

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
    name : str
        Joins the names of buffers where there are several losses.

    Returns
    -------
    Tensor
        The gradient by `outputs`: over `outputs` itself where the loss starts from logits.
    """
    if len(outputs.shape) == 1:
        return _add(low, record, outputs, targets, parameter, name)
    if record.engine in _BY_PIXEL:
        return _add_by_pixel(low, record, outputs, targets, name)
    flat = low.tensor(f"outputs{name}", (outputs.width,))
    low.repack(outputs, flat)
    gradient = low.like(f"dshaped{name}", outputs)
    low.repack(_add(low, record, flat, targets, parameter, name), gradient)
    return gradient


def weigh_rows(low: Lowering, gradient: Tensor, shares: Buffer) -> None:
    """Multiply each row's loss and gradient by its part of the batch's mass."""
    row = gradient.width if len(gradient.shape) == 1 else gradient.stride
    low.add("weigh_rows", dz=gradient, panels=low.panels(row), shares=shares, losses=_LOSSES)


def collect_losses(low: Lowering, number: int, weight: float, gradient: Tensor,
                   sums: tuple[Buffer, Buffer], whole: Buffer) -> None:
    """Weigh output `number`'s loss and gradient.

    Its own losses and hits go on in `sums`; `whole` holds the losses of those before it.
    """
    if weight != 1.0:
        low.add("image_affine", x=gradient.buffer, y=gradient.buffer, image=gradient.stride,
                scale=weight, offset=0.0)
    low.add("collect_losses", losses=_LOSSES, hits=Buffer("hits", Segment.HITS), whole=whole,
            own_losses=sums[0], own_hits=sums[1], weight=weight, begins=int(number == 0))


def _add_by_pixel(low: Lowering, record: LossRecord, z: Tensor, targets: Tensor | None,
                  name: str) -> Tensor:
    """A loss of each pixel, over `z` itself; targets are laid out as `z`."""
    known: dict[str, Tensor | Buffer | float] = {
        "z": z, "pixels": z.pixels, "units": z.channels, "panels": low.panels(z.channels),
        "losses": _LOSSES, "hits": Buffer("hits", Segment.HITS),
    }
    if targets is None:
        known |= {"labels": Buffer("Y", Segment.Y), "order": Buffer("order", Segment.ORDER)}
    else:
        laid_out = low.like(f"target_pixels{name}", z)
        low.repack(targets, laid_out)
        known["targets"] = laid_out
    low.add(f"pixel_{record.engine}", **known)
    return z


def _add(low: Lowering, record: LossRecord, y: Tensor, targets: Tensor | None,
         parameter: float, name: str) -> Tensor:
    """A loss of rows of one axis, as `add_loss`."""
    wanted = KERNELS[record.engine].operands
    gradient = low.tensor(f"doutputs{name}", (y.width,)) if "dy" in wanted else y
    known: dict[str, Tensor | Buffer | float] = {
        "z": y, "y": y, "dy": gradient, "units": y.width, "panels": low.panels(y.width),
        "labels": Buffer("Y", Segment.Y), "order": Buffer("order", Segment.ORDER),
        "losses": _LOSSES, "hits": Buffer("hits", Segment.HITS), "parameter": parameter,
    }
    if targets is not None:
        known |= {"targets": targets, "t_stride": targets.stride}
    low.add(record.engine, **{name: value for name, value in known.items() if name in wanted})
    if gradient is not y:
        low.clear_padding(gradient)
    return gradient
