"""Losses, split by rows: each row's loss, and the gradient by the logits over the logits.

The gradient is that of the mean over the whole batch, of which `rows` are here.

The gradient of lanes beyond the last unit is exactly 0.
"""

from __future__ import annotations

import math

from nbbn.kernels import elementary
from nbbn.kernels.activation import softmax_row
from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, scalar, shift, splat, store
from nbbn.kernels.team import share_rows


@inline
def clear_padding(row, units, panels):
    """0 beyond the last unit."""
    for j in range(units, panels * lanes(row)):
        row[j] = scalar(row, 0.0)


@inline
def labelled(row, label, units, panels, count):
    """`-log softmax(row)[label]` and whether it is a hit; over the row the gradient by `count`."""
    v = lanes(row)
    logit = row[label]
    top, denominator = softmax_row(row, units, panels)
    scale = splat(row, 1.0 / (denominator * count))
    for panel in range(panels):
        store(row, panel * v, load(row, panel * v) * scale)
    row[label] -= scalar(row, 1.0 / count)
    return math.log(denominator) + (top - logit), 1.0 if logit >= top else 0.0


@kernel
def softmax_cross_entropy(z: Write.ROWS, z_stride, units, panels, labels: INDICES, order: INDICES,
                          losses: Write.ROWS_F64, hits: Write.ROWS_F64, first, rows, batch_rows,
                          thread, threads):
    """`-log softmax(z)[label]` and, over `z`, `(softmax(z) - onehot) / batch_rows`.

    `labels` and `order` index the whole set; `losses` and `hits` (is the largest logit the
    label's?) are indexed by the row's place in the epoch.
    """
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        row = shift(z, r * z_stride)
        losses[first + r], hits[first + r] = labelled(row, labels[order[first + r]], units, panels,
                                                      batch_rows)


@kernel
def pixel_softmax_cross_entropy(z: Write.ROWS, z_stride, z_pixel, pixels, units, panels,
                                labels: INDICES, order: INDICES, losses: Write.ROWS_F64,
                                hits: Write.ROWS_F64, first, rows, batch_rows, thread, threads):
    """The same of rows of pixels, each with a label: the mean over the pixels."""
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        loss, right = 0.0, 0.0
        for p in range(pixels):
            row = shift(z, r * z_stride + p * z_pixel)
            own, hit = labelled(row, labels[order[first + r] * pixels + p], units, panels,
                                batch_rows * pixels)
            loss += own
            right += hit
        losses[first + r], hits[first + r] = loss / pixels, right / pixels


def _binary(name: str, mean: bool) -> None:
    """Register the cross-entropy of `sigmoid(z)`: a row's loss is the units' sum, or their mean.

    A hit is a row with every unit on the right side of 0, or the share of such units.
    """
    @kernel(name=name)
    def cross_entropy(z: Write.ROWS, z_stride, units, panels, targets: Read.ROWS, t_stride,
                      losses: Write.ROWS_F64, hits: Write.ROWS_F64, first, rows, batch_rows, thread,
                      threads):
        """`max(z, 0) - z * t + log(1 + exp(-|z|))`; over `z`, `(sigmoid(z) - t) / batch_rows`."""
        v = lanes(z)
        begin, end = share_rows(rows, thread, threads)
        part = splat(z, 1.0 / (batch_rows * units if mean else batch_rows))
        for r in range(begin, end):
            row, target = shift(z, r * z_stride), shift(targets, r * t_stride)
            loss, right = 0.0, 0.0
            for j in range(units):
                logit = float(row[j])
                loss += max(logit, 0.0) - logit * target[j] + math.log1p(math.exp(-abs(logit)))
                if (logit > 0.0) == (target[j] > 0.5):
                    right += 1.0
            losses[first + r] = loss / units if mean else loss
            all_right = 1.0 if right == units else 0.0
            hits[first + r] = right / units if mean else all_right
            for panel in range(panels):
                p = elementary.sigmoid(z, load(row, panel * v))
                store(row, panel * v, (p - load(target, panel * v)) * part)
            clear_padding(row, units, panels)


_binary("sigmoid_cross_entropy", mean=False)
_binary("binary_cross_entropy", mean=True)


@kernel
def squared_error(z: Write.ROWS, z_stride, units, panels, targets: Read.ROWS, t_stride,
                  losses: Write.ROWS_F64, first, rows, batch_rows, thread, threads):
    """`mean((z - t)^2) / 2` and, over `z`, `(z - t) / batch_rows`: scikit-learn's scaling."""
    v = lanes(z)
    begin, end = share_rows(rows, thread, threads)
    share_of_row = splat(z, 1.0 / batch_rows)
    for r in range(begin, end):
        row, target = shift(z, r * z_stride), shift(targets, r * t_stride)
        loss = 0.0
        for j in range(units):
            slip = float(row[j]) - float(target[j])
            loss += slip * slip
        losses[first + r] = 0.5 * loss / units
        for panel in range(panels):
            store(row, panel * v, (load(row, panel * v) - load(target, panel * v)) * share_of_row)


@inline
def distributed(row, target, units, panels, count):
    """`-sum(t * log softmax(row))` and whether it is a hit; over the row the gradient by `count`.
    """
    v = lanes(row)
    mass, cross, best, wanted = 0.0, 0.0, 0, 0
    for j in range(units):
        t = float(target[j])
        mass += t
        if t != 0.0:
            cross += t * float(row[j])
        if row[j] > row[best]:
            best = j
        if target[j] > target[wanted]:
            wanted = j
    top, denominator = softmax_row(row, units, panels)
    scale, part = splat(row, mass / (denominator * count)), splat(row, 1.0 / count)
    for panel in range(panels):
        at = panel * v
        store(row, at, load(row, at) * scale - load(target, at) * part)
    return mass * (math.log(denominator) + top) - cross, 1.0 if best == wanted else 0.0


@kernel
def categorical_cross_entropy(z: Write.ROWS, z_stride, units, panels, targets: Read.ROWS, t_stride,
                              losses: Write.ROWS_F64, hits: Write.ROWS_F64, first, rows, batch_rows,
                              thread, threads):
    """`-sum(t * log softmax(z))` and, over `z`, the mean loss's gradient.

    A hit is a row whose largest target and largest logit stand in one place.
    """
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        row, target = shift(z, r * z_stride), shift(targets, r * t_stride)
        losses[first + r], hits[first + r] = distributed(row, target, units, panels, batch_rows)


@kernel
def pixel_categorical_cross_entropy(z: Write.ROWS, z_stride, z_pixel, pixels, units, panels,
                                    targets: Read.ROWS, losses: Write.ROWS_F64,
                                    hits: Write.ROWS_F64, first, rows, batch_rows, thread, threads):
    """The same of rows of pixels, each with targets, laid out alike: the mean over the pixels."""
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        loss, right = 0.0, 0.0
        for p in range(pixels):
            at = r * z_stride + p * z_pixel
            own, hit = distributed(shift(z, at), shift(targets, at), units, panels,
                                   batch_rows * pixels)
            loss += own
            right += hit
        losses[first + r], hits[first + r] = loss / pixels, right / pixels


@inline
def squared(slip, parameter):
    """`slip**2` and its slope."""
    return slip * slip, 2.0 * slip


@inline
def absolute(slip, parameter):
    """`|slip|` and its slope, 0 at 0."""
    return abs(slip), 1.0 if slip > 0.0 else -1.0 if slip < 0.0 else 0.0


@inline
def huber(slip, delta):
    """Huber (1964): quadratic up to `delta`, linear beyond."""
    if abs(slip) <= delta:
        return 0.5 * slip * slip, slip
    return delta * (abs(slip) - 0.5 * delta), delta if slip > 0.0 else -delta


@inline
def log_cosh(slip, parameter):
    """`log(cosh(slip))`, which cannot overflow."""
    size = abs(slip)
    return size + math.log1p(math.exp(-2.0 * size)) - 0.6931471805599453, math.tanh(slip)


@inline
def quantile(slip, level):
    """The pinball loss (Koenker and Bassett, 1978): `level` below the target, `1 - level` above."""
    if slip < 0.0:
        return -level * slip, -level
    return (1.0 - level) * slip, 1.0 - level if slip > 0.0 else 0.0


def _regression(name: str, function) -> None:
    """Register a loss that is a mean over the units of a function of `y - t`."""
    @kernel(name=name)
    def loss(y: Read.ROWS, y_stride, units, targets: Read.ROWS, t_stride, parameter: Real,
             dy: Write.ROWS, dy_stride, losses: Write.ROWS_F64, first, rows, batch_rows, thread,
             threads):
        """Each row's loss, and the gradient of the batch's mean by the outputs."""
        begin, end = share_rows(rows, thread, threads)
        for r in range(begin, end):
            row, target = shift(y, r * y_stride), shift(targets, r * t_stride)
            grad = shift(dy, r * dy_stride)
            mean = 0.0
            for j in range(units):
                value, slope = function(float(row[j]) - float(target[j]), parameter)
                mean += value
                grad[j] = scalar(dy, slope / (units * batch_rows))
            losses[first + r] = mean / units


for _name, _function in (("mean_squared_error", squared), ("mean_absolute_error", absolute),
                         ("huber", huber), ("log_cosh", log_cosh), ("quantile", quantile)):
    _regression(_name, _function)


@kernel
def poisson(z: Write.ROWS, z_stride, units, panels, targets: Read.ROWS, t_stride,
            losses: Write.ROWS_F64, first, rows, batch_rows, thread, threads):
    """Half the mean Poisson deviance of `exp(z)` and, over `z`, `(exp(z) - t) / batch_rows`."""
    v = lanes(z)
    begin, end = share_rows(rows, thread, threads)
    part = splat(z, 1.0 / batch_rows)
    for r in range(begin, end):
        row, target = shift(z, r * z_stride), shift(targets, r * t_stride)
        loss = 0.0
        for j in range(units):
            t, logit = float(target[j]), float(row[j])
            loss += math.exp(logit) - t
            if t > 0.0:
                loss += t * (math.log(t) - logit)
        losses[first + r] = loss / units
        for panel in range(panels):
            store(row, panel * v,
                  (elementary.exp(z, load(row, panel * v)) - load(target, panel * v)) * part)
        clear_padding(row, units, panels)


@kernel
def gather_shares(weights: Read.ALL_F64, order: INDICES, shares: Write.ROWS, first, rows, mass,
                  thread, threads):
    """Each row's part of the batch's mass."""
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        shares[r] = scalar(shares, weights[order[first + r]] / mass)


@kernel
def weigh_rows(dz: Write.ROWS, dz_stride, panels, shares: Read.ROWS, losses: Write.ROWS_F64, first,
               rows, batch_rows, thread, threads):
    """Each row's loss and gradient times its part of the mass, relative to an equal part."""
    v = lanes(dz)
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        weight = float(shares[r]) * batch_rows
        losses[first + r] *= weight
        for panel in range(panels):
            at = r * dz_stride + panel * v
            store(dz, at, load(dz, at) * splat(dz, weight))


@kernel
def outside(read: Write.ALONE, written: Write.ALONE):
    """Nothing: the step is left here, NumPy reads and writes, and the step goes on behind it."""


# -- several outputs


@kernel
def collect_losses(losses: Write.ROWS_F64, hits: Write.ROWS_F64, whole: Write.ROWS_F64,
                   own_losses: Write.ROWS_F64, own_hits: Write.ROWS_F64, weight: Real, begins,
                   first, rows, thread, threads):
    """Add an output's losses, weighted, to those of the outputs before, which `losses` is then.

    `own_losses` and `own_hits` go on from step to step; `begins` is 1 at the first output.
    """
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        own_losses[r] += losses[first + r]
        own_hits[r] += hits[first + r]
        whole[r] = weight * losses[first + r] + (0.0 if begins else whole[r])
        losses[first + r] = whole[r]
        hits[first + r] = 0.0
