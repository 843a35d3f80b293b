"""Training: a network, its compiled step and its optimiser, epoch by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nbbn.group import ALONE, Group, Order, Share
from nbbn.loss_formulas import sigmoid, softmax
from nbbn.network import Weights
from nbbn.operations import Computation
from nbbn.optimizers import Optimizer
from nbbn.runtime import get_num_threads
from nbbn.sparse_rows import SparseRows
from nbbn.thread_choice import ThreadChoice

if TYPE_CHECKING:  # these import numba: only those who train need it
    from nbbn.program.losses import Outside
    from nbbn.program.parameters import Parameters
    from nbbn.program.program import Buffer
    from nbbn.program.runnable import InferenceRun
    from nbbn.program.tensors import Tensor
    from nbbn.program.training import Loss

# From targets and outputs of some rows to the rows' losses (n,) and the gradients of these.
InNumPy = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def batches(rows: int, batch_size: int, *, merge_tail: bool) -> np.ndarray:
    """First row of each batch and, at the end, `rows`.

    With `merge_tail` a tail of one row, or shorter than a quarter of a batch, joins the batch
    before: batch statistics of a few rows are noise, of one row they do not exist.
    """
    edges = np.arange(0, rows, batch_size)
    tail = rows - edges[-1]
    if merge_tail and len(edges) > 1 and (tail == 1 or 4 * tail < batch_size):
        edges = edges[:-1]
    return np.append(edges, rows)


# Multiply-adds of a batch on its way forward below which a step is on one thread, since all of its
# barriers take longer (it lasts about 15 us), and below which steps begin on one thread.
_WORTH_A_TEAM, _STARTS_A_TEAM = 1 << 16, 1 << 20
# The activations that losses of logits begin before.
_ENDS = {"softmax": softmax, "sigmoid": sigmoid}
# Rows that a trainer has room for at least, and the numbers of an activation that may take.
_LEAST_ROWS, _LEAST_NUMBERS = 32, 1 << 16


def _room(rows: int, computation: Computation) -> int:
    """Rows to make room for, so that other numbers of rows need no other trainer: up to a quarter
    more than asked, and a default batch at least where that is little memory."""
    widths = [math.prod(step.output_shape) for step in computation.steps]
    widest = max(math.prod(computation.input_shape), *widths, 1)
    rows = max(rows, min(_LEAST_ROWS, _LEAST_NUMBERS // widest))
    step = 1 << max(0, (rows - 1).bit_length() - 3)
    return -(-rows // step) * step


@dataclass(frozen=True)
class Kept:
    """What a network in training gave for some rows, before each step's update.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Their numbers, of the process's own.
    outputs : ndarray, shape (n, outputs)
    sizes : ndarray of int
        Rows of each batch.
    targets : ndarray, shape (n, ...), or None
        As metrics take them, where somebody has looked them up.
    """

    rows: np.ndarray
    outputs: np.ndarray
    sizes: np.ndarray
    targets: np.ndarray | None = None


@dataclass
class Epoch:
    """What one epoch came to: sums over its rows, before each step's update."""

    rows: int
    loss: float
    hits: float
    seconds: float
    # Of each of several outputs its own losses and hits.
    outputs: tuple[tuple[float, float], ...] = ()
    # Each row's, of what was trained on at once.
    losses: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    # Their outputs, where the trainer keeps them.
    kept: Kept | None = field(default=None, repr=False, compare=False)

    def __add__(self, other: Epoch) -> Epoch:
        """Both together."""
        pairs = zip(self.outputs or ((0.0, 0.0),) * len(other.outputs), other.outputs)
        outputs = tuple((a + c, b + d) for (a, b), (c, d) in pairs)
        return Epoch(self.rows + other.rows, self.loss + other.loss, self.hits + other.hits,
                     self.seconds + other.seconds, outputs)

    @property
    def mean_loss(self) -> float:
        """Loss per row, penalty included."""
        return self.loss / self.rows

    @property
    def accuracy(self) -> float:
        """Share of rows whose largest output was the label's."""
        return self.hits / self.rows


class Trainer:
    """A network under training: its compiled step, its parameters and the optimiser's state.

    Parameters
    ----------
    computation : Computation
        Of the network in training.
    dtype : numpy.dtype
        float32 or float64: what is computed in.
    source : numpy.dtype
        Dtype of the rows that `epoch` gets; converted batch by batch.
    rows : int
        The largest batch; `self.rows` is what there is room for, as many or some more.
    loss : str or tuple of Head
        Name of a record of `nbbn.losses`; of several outputs a loss of each.
    optimizer : Optimizer
    decay : float
        L2 penalty of the kernels: adds `decay * sum(kernel**2) / 2 / rows` to each batch's loss.
    debias : bool
        Whether running averages forget their start.
    seed : int
        Of dropout and noise.
    loss_parameter : float
        Read by losses that have one, such as Huber's `delta`.
    weighted : bool or "mean"
        Whether `epoch` gets weights of rows. True: a batch's loss is the sum of its weighted losses
        over its rows, as Keras does. "mean": over the sum of its weights, and batch norms'
        statistics are weighted, as if rows were repeated.
    sparse : bool
        Whether `epoch` gets rows of stored elements; the network begins with a dense layer then.
    group : Group
        The processes that share each batch. `epoch` gets the process's own rows, and orders that
        count the rows of all.
    outside : sequence of callables
        Of each output's loss that NumPy computes, in the place of the others anything: from targets
        and outputs of some rows to the rows' losses and gradients.
    keeps : bool
        Whether `epoch` gives the outputs of its rows.
    """

    def __init__(self, computation: Computation, dtype: np.dtype, source: np.dtype, rows: int,
                 loss: Loss, optimizer: Optimizer, *, decay: float = 0.0, debias: bool = False,
                 seed: int = 0, loss_parameter: float = 0.0, weighted: bool | str = False,
                 sparse: bool = False, group: Group = ALONE,
                 outside: Sequence[InNumPy | None] = (), keeps: bool = False):
        # These import numba: here and below, so that only those who train need it.
        from nbbn.program.kept import training_program
        from nbbn.program.runnable import TrainingRun

        self.computation, self.dtype = computation, np.dtype(dtype)
        self.optimizer, self.decay, self._weighted = optimizer, decay, weighted
        self.rows, self._group, self._functions = _room(rows, computation), group, outside
        self.lowered = training_program(computation, self.dtype, self.rows, loss, optimizer,
                                        decay=decay, debias=debias, seed=seed,
                                        loss_parameter=loss_parameter, weighted=weighted,
                                        sparse=sparse, world=group.world, keeps=keeps)
        self.params = self.lowered.parameters.memory()
        source = self.dtype if sparse else np.dtype(source)
        self._steps = TrainingRun(self.lowered.program, source, self.params,
                                  -(-self.rows // group.ranks))
        self._constraints = [(layer, name, array.constraint)
                             for layer, arrays in enumerate(computation.arrays)
                             for name, array in arrays.items() if array.constraint is not None]
        self._predictor: InferenceRun | None = None
        self._own: Parameters | None = None  # of the predictor, where the trained ones do not do
        self._choice = ThreadChoice(alone=self._work(self.rows) < _STARTS_A_TEAM)
        self.step = 0  # of the optimiser
        self.norm_step = 0  # of the running statistics
        if group.world is not None:
            group.compiled(self._steps.compile)

    # -- state

    def upload(self, weights: Weights) -> None:
        """Take the network's arrays."""
        self.lowered.parameters.upload(self.params, weights)

    def download(self) -> Weights:
        """New arrays of the network's weights."""
        return self.lowered.parameters.download(self.params)

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """New arrays of the optimiser's state, by `layer.name.slot`."""
        return {
            f"{i}.{name}.{s}": b.read(self.params, self.dtype)
            for (i, name, s), b in self.lowered.slots.items()
        }

    def load_optimizer_state(self, state: dict[str, np.ndarray]) -> None:
        """Take what `optimizer_state` gave."""
        for (i, name, s), block in self.lowered.slots.items():
            block.write(self.params, self.dtype, state[f"{i}.{name}.{s}"])

    def is_finite(self) -> bool:
        """Whether all weights and running statistics are."""
        return all(
            np.isfinite(block.view(self.params, self.dtype)).all()
            for block in self.lowered.parameters.blocks.values()
        )

    def snapshot(self) -> np.ndarray:
        """All parameters, running statistics and optimiser state, as they are."""
        return self.params.copy()

    def restore(self, snapshot: np.ndarray) -> None:
        """Back to a snapshot of this trainer."""
        self.params[:] = snapshot

    # -- work

    def epoch(self, x: np.ndarray | SparseRows, y: np.ndarray, order: Order, edges: np.ndarray,
              rates: np.ndarray, weights: np.ndarray | None = None,
              shrink: np.ndarray | None = None) -> Epoch:
        """Train on the rows `order` of `x` and `y`, batch by batch.

        Parameters
        ----------
        x : ndarray, shape (n, ...), or SparseRows
            C-contiguous, of the source dtype.
        y : ndarray
            int64 labels `(n,)`, or targets of the computing dtype `(n, outputs)`; C-contiguous.
        order : ndarray of int64, or OwnOrder
            Numbers of rows, of the whole group's.
        edges : ndarray
            Of `batches`.
        rates : ndarray of float64
            Learning rate of each batch, corrections included.
        weights : ndarray of float64, shape (n,)
            Of the rows, where the trainer is weighted.
        shrink : ndarray of float64
            Decoupled weight decay of each batch, the learning rate included.
        """
        from nbbn.kernels.executor import STEP_WORDS
        from nbbn.program.program import Segment

        start, group = time.perf_counter(), self._group
        share = group.share(order, edges)
        sizes = np.diff(share.edges)
        steps = np.empty((len(edges) - 1, STEP_WORDS), np.int64)
        steps[:, 0], steps[:, 1] = sizes, share.edges[:-1]
        steps[:, 2] = np.arange(self.norm_step, self.norm_step + len(steps))
        steps[:, 3] = np.asarray(rates, np.float64).view(np.int64)
        steps[:, 4] = 0 if shrink is None else np.asarray(shrink, np.float64).view(np.int64)
        steps[:, 5] = self._masses(weights, order, edges, share).view(np.int64)
        steps[:, 6] = share.rows
        losses, hits = np.empty(len(share.order)), np.zeros(len(share.order))
        arrays = {
            Segment.Y: y, Segment.ORDER: share.order, Segment.LOSSES: losses, Segment.HITS: hits,
        }
        if share.places is not None:
            arrays[Segment.PLACES] = share.places
        if share.shards is not None:
            arrays[Segment.SHARDS] = np.append(self.norm_step, share.shards)
        if isinstance(x, SparseRows):
            x, most = x.astype(self.dtype), x.most_stored(share.order, share.edges)
            arrays |= {Segment.X: x.values, Segment.X_COLUMNS: x.columns,
                       Segment.X_STARTS: x.starts, Segment.ENTRY_ROWS: np.empty(most, np.int32),
                       Segment.ENTRIES: np.empty(most, self.dtype)}
        else:
            arrays[Segment.X] = x
        if weights is not None:
            arrays[Segment.WEIGHTS] = weights
        if self.lowered.kept:
            width = self.lowered.kept[-1].columns.stop
            arrays[Segment.OUT] = np.empty((len(share.order), width), self.dtype)
        squares, penalties = self._sums(self.lowered.squares), self._sums(self.lowered.penalties)
        rows = [(b, self.lowered.rows_of_outputs) for pair in self.lowered.outputs for b in pair]
        of_outputs = self._sums(rows)
        for sums in (*squares, *penalties, *of_outputs):
            sums[:] = 0
        outside = self._outside(y, share, losses)
        done, limit = 0, self._steps.worth(get_num_threads())
        if self._work(int(sizes.max(initial=0))) < _WORTH_A_TEAM:
            limit = 1
        while done < len(steps):
            threads, chunk = self._choice.next(limit, len(steps) - done)
            chunk = group.steps(chunk)
            began = time.perf_counter()
            self._steps.run(steps[done : done + chunk], arrays, threads, outside)
            self._choice.note(threads, chunk, time.perf_counter() - began)
            done += chunk
            self.step += chunk
            self.norm_step += chunk
        if group.world is not None:
            blocks = [*self.lowered.parameters.blocks.values(), *self.lowered.slots.values()]
            group.check_same([block.view(self.params, self.dtype) for block in blocks])
        penalty = 0.5 * self.decay * float(sum(s.sum() for s in squares))
        penalty += float(sum(s.sum() for s in penalties))
        each = [sum(group.gathered(float(sums.sum()))) for sums in of_outputs]
        return Epoch(len(order), group.total(losses, share) + penalty, group.total(hits, share),
                     time.perf_counter() - start, tuple(zip(each[::2], each[1::2])), losses,
                     self._kept(arrays.get(Segment.OUT), share.order, sizes))

    def _kept(self, outputs: np.ndarray | None, order: np.ndarray,
              sizes: np.ndarray) -> Kept | None:
        """What steps have left of their outputs, the last activations included."""
        if outputs is None:
            return None
        for place in self.lowered.kept:
            if place.end in _ENDS:
                own = outputs[:, place.columns].reshape(-1, *place.shape)
                done = _ENDS[place.end](own)
                outputs[:, place.columns] = done.reshape(len(outputs), -1)
        return Kept(order, outputs, sizes)

    def _outside(self, y: np.ndarray, share: Share,
                 losses: np.ndarray) -> list[tuple[int, Callable[[np.ndarray], None]]]:
        """At which operations a step is left, and what is done there: the losses of NumPy, and at
        its end the constraints."""
        if self.lowered.outside and self._group.world is not None:
            raise ValueError("a loss that NumPy computes cannot be shared by several processes; "
                             "fit in one, or use a loss such as 'mse' or a cross-entropy behind "
                             "its activation")
        stops: list[tuple[int, Callable[[np.ndarray], None]]] = [
            (place.operation, partial(self._in_numpy, place, y, share.order, losses))
            for place in self.lowered.outside
        ]
        if self._constraints:
            stops.append((len(self.lowered.program.operations), self._constrain))
        return stops

    def _constrain(self, step: np.ndarray) -> None:
        """Bring the weights back to where their constraints want them, after a step."""
        for layer, name, constraint in self._constraints:
            self.lowered.parameters.constrain(self.params, layer, name, constraint)

    def _in_numpy(self, place: Outside, y: np.ndarray, order: np.ndarray, losses: np.ndarray,
                  step: np.ndarray) -> None:
        """A step's losses, and the gradient of their mean over the batch."""
        function = self._functions[place.number]
        assert function is not None
        rows, first, batch_rows = int(step[0]), int(step[1]), int(step[6])
        outputs = self._rows_of(place.read, rows)
        outputs.flags.writeable = False
        targets = y[order[first : first + rows]]
        values, gradient = function(targets, outputs)
        losses[first : first + rows] = values
        if place.shares is not None and place.own_shares is not None:
            shares, own = self._vector(place.shares, rows), self._vector(place.own_shares, rows)
            # One number for all rows counts by the mean of their weights, as in Keras.
            own[:] = shares if np.ndim(values) else shares.mean(dtype=np.float64)
        share = batch_rows if np.ndim(values) else 1
        np.divide(gradient, share, out=self._rows_of(place.written, rows), casting="same_kind")

    def _rows_of(self, x: Tensor, rows: int) -> np.ndarray:
        """The rows of a tensor in working memory, as an array."""
        size, strides = self.dtype.itemsize, [x.stride]
        inner = [x.pixel * math.prod(x.shape[k + 1 : -1]) for k in range(len(x.shape) - 1)]
        strides += [*inner, 1]
        return np.ndarray((rows, *x.shape), self.dtype, self._steps.work, x.buffer.offset,
                          tuple(size * step for step in strides))

    def _vector(self, buffer: Buffer, rows: int) -> np.ndarray:
        """A number a row in working memory."""
        size = rows * self.dtype.itemsize
        return self._steps.work[buffer.offset : buffer.offset + size].view(self.dtype)

    def _work(self, rows: int) -> int:
        """Multiply-adds of so many rows on their way forward."""
        return rows * self.lowered.work_per_row

    def _masses(self, weights: np.ndarray | None, order: Order, edges: np.ndarray,
                share: Share) -> np.ndarray:
        """What each batch's losses are divided by: its rows, or the sum of their weights."""
        if weights is None or self._weighted != "mean":
            return share.rows.astype(np.float64)
        masses = self._group.masses(weights, order, edges)
        return np.where(masses > 0, masses, 1.0)

    def _sums(self, buffers: list[tuple[Buffer, int]]) -> list[np.ndarray]:
        work = self._steps.work
        return [work[b.offset : b.offset + 8 * count].view(np.float64) for b, count in buffers]

    def outputs(self, x: np.ndarray | SparseRows) -> np.ndarray:
        """Inference with the parameters as they are now and the running statistics."""
        if self._predictor is None:
            self._predictor = self._group.compiled(self._inference)
        if self._own is not None:
            self._own.upload(self._predictor.params, self.download())
        return self._predictor.run(x)

    def _inference(self) -> InferenceRun:
        """The network in inference.

        On the trained parameters, or on a copy with constants of its own.
        """
        from nbbn.program.runnable import InferenceRun

        lowered = self.lowered.inference
        if lowered.parameters is self.lowered.parameters:
            return InferenceRun(lowered, self.params)
        self._own = lowered.parameters
        return InferenceRun(lowered, lowered.parameters.memory())
