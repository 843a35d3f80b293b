"""What a model is given to train on or to be measured on, checked."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from nbbn import inputs
from nbbn.group import ALONE, KEY_BYTES, Group, Order
from nbbn.models.compiled import needs_batches
from nbbn.models.fit_data import InMemory, Rules, Streamed, many_rows, targets_of
from nbbn.models.joint_loss import JointLoss
from nbbn.models.pieces import InPieces
from nbbn.models.saved_model import SavedModel
from nbbn.partitions.partitions import Partitions
from nbbn.partitions.sources import Header
from nbbn.trainer import batches
from nbbn.training_loop import Samples

Data = InMemory | Streamed | InPieces


class CheckingModel(SavedModel):
    """A model that checks what it is given: by its layers' shapes and its loss."""

    def _samples(self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None,
                 prefix: str = "", *, finite: bool = True) -> Samples:
        """Checked data; builds the model where the rows tell its shape.

        `finite`: whether to look for NaN and infinity in the rows.
        """
        compiled, layers = self._require_compiled("fit"), self._layers
        name_x, name_y = f"{prefix}x", f"{prefix}y"
        if not self.built:
            layers.build(inputs.row_shape(x, name_x))
        compiled.tail(layers)
        after = layers.shapes[-1]
        x = self._checked_rows(x, name_x, finite=finite)
        y = self._targets(y, after, len(x), name_y, name_x)
        units, name = int(np.prod(after)), f"{prefix}sample_weight"
        softmax = compiled.loss.end == "softmax"
        return Samples(x, y, inputs.check_weights(sample_weight, class_weight, y, units, name,
                                                  softmax=softmax))

    def _targets(self, y: Any, shape: tuple[int, ...], rows: int, name: str,
                 x: str) -> np.ndarray:
        """Checked targets."""
        compiled, dtype = self._require_compiled("fit"), self._layers.dtype
        if isinstance(compiled.loss, JointLoss):
            return compiled.loss.targets(y, rows, dtype, name)
        return inputs.check_targets(y, compiled.loss, shape, rows, dtype, name, x)

    def _rules(self, header: Header, class_weight: Any = None) -> Rules:
        """How partitions are checked; builds the model where it has no weights yet."""
        compiled, layers = self._require_compiled("fit"), self._layers
        if not self.built:
            layers.build(header.shape or (1,))
        compiled.tail(layers)
        self._takes_partitions()
        if isinstance(compiled.loss, JointLoss):
            raise TypeError("x is Partitions, which a model of several outputs does not take: give "
                            "arrays")
        return Rules(compiled.loss, layers.shapes[0], layers.shapes[-1], layers.dtype, class_weight,
                     layers.computation.indices)

    def _many_samples(self, given: Partitions) -> Samples:
        """Partitions whose targets and weights are in memory, and whose rows are read anew."""
        first = next(given.with_headers())[1]
        rules = self._rules(first)
        headers, y, weights = targets_of(given, rules)
        many: Any = many_rows(given, headers, rules.shape, rules.dtype, indices=rules.indices)
        return Samples(many, y, weights)

    def _edges(self, data: Data, batch_size: int) -> np.ndarray:
        """First row of each batch of an epoch and, at the end, the rows; of pieces of one batch."""
        if isinstance(data, InPieces):
            return np.array([0, data.largest])
        rows = data.rows
        accumulated = self._require_compiled("fit").optimizer.gradient_accumulation_steps or 1
        batch_size = min(batch_size * accumulated, rows)
        single = needs_batches(self._layers.layers)
        if single and batch_size == 1:
            inputs.check_enough(rows, single)
            raise ValueError("batch_size=1 has no batch statistics: use at least 2 rows a batch")
        edges = batches(rows, batch_size, merge_tail=False)
        if single and len(edges) > 2 and edges[-1] - edges[-2] == 1:
            return np.delete(edges, -2)  # no last batch has one row
        return edges

    def _plans(self, edges: np.ndarray, shuffle: bool,
               group: Group = ALONE) -> Iterator[tuple[Order, np.ndarray]]:
        """The order of the rows in each epoch, and the edges of its batches.

        An order follows from the model's seed and the number of shuffles so far, so that a resumed
        fit goes on as if it had never stopped.
        """
        rows = int(edges[-1])
        as_array = group.has_orders_of(rows)
        while True:
            if not shuffle:
                yield group.in_order(0, rows), edges
                continue
            self._shuffles += 1
            rng = np.random.default_rng([self._layers.seed, self._shuffles, 1])
            if as_array:
                yield rng.permutation(rows), edges
            else:
                yield group.keyed_order(rows, rng.bytes(KEY_BYTES)), edges


def refuse_beside(what: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            is_what = "is Partitions" if what == "Partitions" else "gives batches"
            raise ValueError(f"{name} is given beside x, which {is_what}: targets and weights "
                             "are inside; leave it out")


def first_rows(samples: Samples, steps: int | None, batch_size: int) -> Samples:
    """The rows of so many batches."""
    return samples if steps is None else samples[: steps * batch_size]


def split(data: Data, share: float) -> tuple[InMemory, Samples]:
    """The rows to train on, and the last ones, to validate on."""
    if isinstance(data, InPieces):
        raise ValueError("validation_split is only supported for arrays, and x gives batches: give "
                         "validation_data")
    if isinstance(data, Streamed):
        raise ValueError("validation_split is only supported for arrays, and for partitions that "
                         "fit into one window: give validation_data")
    samples, rows, group = data.samples, data.rows, data.group
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(f"validation_split must be a number between 0 and 1, got {share!r}")
    at = int(rows * (1 - share))
    if not 0 < at < rows:
        raise ValueError(f"validation_split={share} of {rows} rows leaves {at} to train on, "
                         f"{rows - at} to validate on")
    cut = len(group.own(np.arange(at)))
    return InMemory(samples[:cut], at, group, data.steps), samples[cut:]
