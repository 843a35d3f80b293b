"""Losses, split by rows: each row's loss, and the gradient with respect to the logits over the logits themselves.

Lanes beyond the last unit hold logits of -1e30 where the activation is a softmax or a sigmoid (their bias says so) and 0 where
it is the identity: their gradient is exactly 0.
"""

from __future__ import annotations

import math

from nbbn.kernels import elementary
from nbbn.kernels.activation import softmax_row
from nbbn.kernels.registry import INDICES, READ_ROWS, WRITE_ROWS, WRITE_ROWS_F64, kernel
from nbbn.kernels.simd import lanes, load, scalar, shift, splat, store
from nbbn.kernels.team import share_rows


@kernel
def softmax_cross_entropy(z: WRITE_ROWS, z_stride, panels, labels: INDICES, order: INDICES, losses: WRITE_ROWS_F64,
                          hits: WRITE_ROWS_F64, first, rows, thread, threads):
    """`-log softmax(z)[label]` and, over `z`, `(softmax(z) - onehot) / rows`; `labels` and `order` index the whole set.

    `losses` and `hits` (is the largest logit the label's?) are indexed by the row's place in the epoch.
    """
    v = lanes(z)
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        row = shift(z, r * z_stride)
        label = labels[order[first + r]]
        logit = row[label]
        top, norm = softmax_row(row, panels)
        losses[first + r] = math.log(norm) + (top - logit)
        hits[first + r] = 1.0 if logit >= top else 0.0
        scale = splat(z, 1.0 / (norm * rows))
        for panel in range(panels):
            store(row, panel * v, load(row, panel * v) * scale)
        row[label] -= scalar(z, 1.0 / rows)


@kernel
def sigmoid_cross_entropy(z: WRITE_ROWS, z_stride, units, panels, targets: READ_ROWS, t_stride, losses: WRITE_ROWS_F64,
                          hits: WRITE_ROWS_F64, first, rows, thread, threads):
    """`sum(max(z, 0) - z * t + log(1 + exp(-|z|)))` and, over `z`, `(sigmoid(z) - t) / rows`.

    A hit is a row with every unit on the right side of 0.
    """
    v = lanes(z)
    begin, end = share_rows(rows, thread, threads)
    share_of_row = splat(z, 1.0 / rows)
    for r in range(begin, end):
        row, target = shift(z, r * z_stride), shift(targets, r * t_stride)
        loss, right = 0.0, 1.0
        for j in range(units):
            logit = float(row[j])
            loss += max(logit, 0.0) - logit * target[j] + math.log1p(math.exp(-abs(logit)))
            if (logit > 0.0) != (target[j] > 0.5):
                right = 0.0
        losses[first + r] = loss
        hits[first + r] = right
        for panel in range(panels):
            p = elementary.sigmoid(z, load(row, panel * v))
            store(row, panel * v, (p - load(target, panel * v)) * share_of_row)


@kernel
def squared_error(z: WRITE_ROWS, z_stride, units, panels, targets: READ_ROWS, t_stride, losses: WRITE_ROWS_F64, first, rows,
                  thread, threads):
    """`mean((z - t)^2) / 2` over the units and, over `z`, `(z - t) / rows`: scikit-learn's scaling of both."""
    v = lanes(z)
    begin, end = share_rows(rows, thread, threads)
    share_of_row = splat(z, 1.0 / rows)
    for r in range(begin, end):
        row, target = shift(z, r * z_stride), shift(targets, r * t_stride)
        loss = 0.0
        for j in range(units):
            slip = float(row[j]) - float(target[j])
            loss += slip * slip
        losses[first + r] = 0.5 * loss / units
        for panel in range(panels):
            store(row, panel * v, (load(row, panel * v) - load(target, panel * v)) * share_of_row)
