"""Training: a network, its compiled step and its optimiser, epoch by epoch."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from nbbn.layers import Layer
from nbbn.network import Weights
from nbbn.optimizers import Optimizer
from nbbn.program.nodes import has_windows
from nbbn.runtime import get_num_threads

# Most seconds between two returns to Python within an epoch (Ctrl-C and progress), and seconds of the first run.
CHUNK_SECONDS, FIRST_SECONDS = 0.3, 0.01
# Seconds of a trial of the other way, and how much faster it must be to be taken.
TRIAL_SECONDS, TRIAL_MARGIN = 1e-3, 0.9


def batches(rows: int, batch_size: int, *, merge_tail: bool) -> np.ndarray:
    """First row of each batch and, at the end, `rows`.

    With `merge_tail` a tail of one row, or shorter than a quarter of a batch, joins the batch before: batch statistics of a few
    rows are noise, of one row they do not exist.
    """
    edges = np.arange(0, rows, batch_size)
    tail = rows - edges[-1]
    if merge_tail and len(edges) > 1 and (tail == 1 or 4 * tail < batch_size):
        edges = edges[:-1]
    return np.append(edges, rows)


@dataclass
class Epoch:
    """What one epoch came to: sums over its rows, before each step's update."""

    rows: int
    loss: float
    hits: float
    seconds: float

    @property
    def mean_loss(self) -> float:
        """Loss per row, penalty included."""
        return self.loss / self.rows

    @property
    def accuracy(self) -> float:
        """Share of rows whose largest output was the label's."""
        return self.hits / self.rows


class Pace:
    """How many steps to run next, and on how many threads: on all, or on one where that was faster lately.

    One is faster for a small network, and beside other programs that keep the cores busy: a team waits at every barrier for the
    thread that has no core (three times slower beside one busy process on two cores). The bits do not depend on it.

    Runs of one way alternate with short trials of the other; they grow longer while no trial wins, and begin short again when
    one does, since a machine may be busy for a moment only.
    """

    def __init__(self):
        self._seconds: dict[int, float] = {}  # of a step, by number of threads; none until a second run
        self._started: set[int] = set()
        self._best: int | None = None
        self._span = FIRST_SECONDS
        self._since = 0.0  # seconds of the best way since the last trial
        self._trial_is_due = False

    def next(self, threads: int, left: int) -> tuple[int, int]:
        """Threads and steps of the next run."""
        if self._best not in (1, threads):
            self._best, self._trial_is_due = threads, False
        way = self._best
        if threads > 1 and self._trial_is_due:
            way = threads if way == 1 else 1
        if way not in self._seconds:
            return way, 1 if way not in self._started else min(left, self._steps(TRIAL_SECONDS, self._best))
        span = TRIAL_SECONDS if way != self._best else CHUNK_SECONDS if threads == 1 else self._span
        return way, min(left, self._steps(span, way))

    def _steps(self, span: float, way: int) -> int:
        return max(1, int(span / self._seconds[way])) if way in self._seconds else 1

    def note(self, threads: int, steps: int, seconds: float) -> None:
        """Take the time of a run. The first of each way does not count: it compiles, wakes threads and fills caches."""
        if threads not in self._started:
            self._started.add(threads)
            return
        self._seconds[threads] = seconds / steps
        if threads == self._best:  # where steps come one by one, many make a run
            self._since += seconds
            self._trial_is_due = 2 * self._since >= self._span
            return
        self._since, self._trial_is_due = 0.0, False
        if seconds / steps < TRIAL_MARGIN * self._seconds[self._best]:
            self._best, self._span = threads, FIRST_SECONDS
        else:
            self._span = min(2 * self._span, CHUNK_SECONDS)


class Trainer:
    """A network under training: its compiled step, its parameters and the optimiser's state.

    Parameters
    ----------
    layers, shapes
        The layers and the row shape before each and after the last.
    dtype : numpy.dtype
        float32 or float64: what is computed in.
    source : numpy.dtype
        Dtype of the rows that `epoch` gets; converted batch by batch.
    rows : int
        The largest batch.
    loss : str
        `softmax_cross_entropy`, `sigmoid_cross_entropy` or `squared_error`.
    optimizer : Optimizer
    decay : float
        L2 penalty of the kernels: adds `decay * sum(kernel**2) / 2 / rows` to each batch's loss.
    debias : bool
        Whether running averages forget their start.
    seed : int
        Of dropout and noise.
    delta : float
        Where the Huber loss turns linear.
    weighted : bool or "mean"
        Whether `epoch` gets weights of rows. True: a batch's loss is the sum of its weighted losses over its rows, as Keras does.
        "mean": over the sum of its weights, and batch norms' statistics are weighted, as if rows were repeated.
    """

    def __init__(self, layers: tuple[Layer, ...], shapes, dtype, source, rows: int, loss: str, optimizer: Optimizer, *,
                 decay: float = 0.0, debias: bool = False, seed: int = 0, delta: float = 1.0,
                 weighted: bool | str = False):
        # These import numba: here and below, so that only those who train need it.
        from nbbn.program.run import Steps
        from nbbn.program.training import lower_training

        self.layers, self.shapes, self.dtype = layers, shapes, np.dtype(dtype)
        self.optimizer, self.decay, self._weighted = optimizer, decay, weighted
        self.lowered = lower_training(
            layers, shapes, self.dtype, rows, loss, optimizer, decay=decay, debias=debias, seed=seed, delta=delta,
            weighted=weighted,
        )
        self.params = self.lowered.parameters.memory()
        self._steps = Steps(self.lowered.program, np.dtype(source), self.params)
        self._predictor = None
        self._pace = Pace()
        self.step = 0  # of the optimiser
        self.norm_step = 0  # of the running statistics

    # -- state

    def upload(self, weights: Weights) -> None:
        """Take the network's arrays."""
        self.lowered.parameters.upload(self.params, weights)

    def download(self) -> Weights:
        """New arrays of the network's weights."""
        return self.lowered.parameters.download(self.params)

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """New arrays of the optimiser's state, by `layer.name.slot`."""
        return {f"{i}.{name}.{s}": b.read(self.params, self.dtype) for (i, name, s), b in self.lowered.slots.items()}

    def load_optimizer_state(self, state: dict[str, np.ndarray]) -> None:
        """Take what `optimizer_state` gave."""
        for (i, name, s), block in self.lowered.slots.items():
            block.write(self.params, self.dtype, state[f"{i}.{name}.{s}"])

    def is_finite(self) -> bool:
        """Whether all weights and running statistics are."""
        return all(np.isfinite(block.view(self.params, self.dtype)).all() for block in self.lowered.parameters.blocks.values())

    def snapshot(self) -> np.ndarray:
        """All parameters, running statistics and optimiser state, as they are."""
        return self.params.copy()

    def restore(self, snapshot: np.ndarray) -> None:
        """Back to a snapshot of this trainer."""
        self.params[:] = snapshot

    # -- work

    def epoch(self, x: np.ndarray, y: np.ndarray, order: np.ndarray, edges: np.ndarray, rates: np.ndarray,
              weights: np.ndarray | None = None, shrink: np.ndarray | None = None) -> Epoch:
        """Train on the rows `order` of `x` and `y`, batch by batch.

        Parameters
        ----------
        x : ndarray, shape (n, ...)
            C-contiguous, of the source dtype.
        y : ndarray
            int64 labels `(n,)`, or targets of the computing dtype `(n, outputs)`; C-contiguous.
        order : ndarray of int64
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

        start = time.perf_counter()
        steps = np.empty((len(edges) - 1, STEP_WORDS), np.int64)
        steps[:, 0], steps[:, 1] = np.diff(edges), edges[:-1]
        steps[:, 2] = np.arange(self.norm_step, self.norm_step + len(steps))
        steps[:, 3] = np.asarray(rates, np.float64).view(np.int64)
        steps[:, 4] = 0 if shrink is None else np.asarray(shrink, np.float64).view(np.int64)
        steps[:, 5] = self._masses(weights, order, edges).view(np.int64)
        losses, hits = np.empty(len(order)), np.zeros(len(order))
        arrays = {Segment.X: x, Segment.Y: y, Segment.ORDER: order, Segment.LOSSES: losses, Segment.HITS: hits}
        if weights is not None:
            arrays[Segment.WEIGHTS] = weights
        squares, penalties = self._sums(self.lowered.squares), self._sums(self.lowered.penalties)
        for sums in (*squares, *penalties):
            sums[:] = 0
        done, limit = 0, min(get_num_threads(), self._steps.parallelism)
        while done < len(steps):
            threads, chunk = self._pace.next(limit, len(steps) - done)
            began = time.perf_counter()
            self._steps.run(steps[done : done + chunk], arrays, threads)
            self._pace.note(threads, chunk, time.perf_counter() - began)
            done += chunk
            self.step += chunk
            self.norm_step += chunk
        penalty = 0.5 * self.decay * float(sum(s.sum() for s in squares))
        penalty += float(sum(s.sum() for s in penalties))
        return Epoch(len(order), float(losses.sum()) + penalty, float(hits.sum()), time.perf_counter() - start)

    def _masses(self, weights: np.ndarray | None, order: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """What each batch's losses are divided by: its rows, or the sum of their weights."""
        if self._weighted != "mean":
            return np.diff(edges).astype(np.float64)
        masses = np.add.reduceat(weights[order], edges[:-1])
        return np.where(masses > 0, masses, 1.0)

    def _sums(self, buffers) -> list[np.ndarray]:
        work = self._steps.work
        return [work[b.offset : b.offset + 8 * count].view(np.float64) for b, count in buffers]

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Inference with the parameters as they are now and the running statistics."""
        from nbbn.program.inference import InferenceProgram
        from nbbn.program.run import blocks_of

        if self._predictor is None:
            self._own = None
            if has_windows(self.lowered.nodes):  # constants of its own, so parameters of its own
                lowered = InferenceProgram(self.layers, self.shapes, self.dtype)
                self._own = lowered.parameters, lowered.parameters.memory()
            else:
                lowered = InferenceProgram(self.layers, self.shapes, self.dtype, self.lowered.parameters)
            self._predictor = blocks_of(lowered, self._own[1] if self._own else self.params)
        if self._own:
            self._own[0].upload(self._own[1], self.download())
        return self._predictor.run(x)
