"""One fit of an estimator: from what the user gave to the estimator's attributes."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_random_state

from nbbn.estimators import checks as data
from nbbn.estimators.lazy_rows import Rows, outputs_of, select
from nbbn.estimators.mlp import architecture as networks
from nbbn.estimators.mlp import fit_state as records
from nbbn.estimators.mlp import lbfgs, loop
from nbbn.estimators.mlp.callbacks import FitCallbacks
from nbbn.estimators.mlp.checkpoint import Checkpoint, fingerprint
from nbbn.estimators.mlp.fit_state import FitState
from nbbn.estimators.mlp.loop import Loop, Plan, Samples
from nbbn.estimators.mlp.parameters import Hidden
from nbbn.estimators.mlp.progress import reporter
from nbbn.estimators.mlp.rates import Rates, optimizer_of
from nbbn.estimators.task import Task
from nbbn.network import Weights
from nbbn.trainer import Trainer, batches


@dataclass(frozen=True)
class Given:
    """The arguments of `fit`."""

    X: object
    y: object
    sample_weight: object = None
    X_val: object = None
    y_val: object = None
    sample_weight_val: object = None

    def check(self) -> None:
        """ValueError where one comes without another."""
        if (self.X_val is None) != (self.y_val is None):
            missing = "X_val" if self.X_val is None else "y_val"
            raise ValueError(f"X_val and y_val go together: {missing} is missing")
        if self.sample_weight_val is not None and self.X_val is None:
            raise ValueError("sample_weight_val goes with X_val and y_val, which are missing")


@dataclass(frozen=True)
class Validation:
    """Rows that are measured after every epoch; targets encoded."""

    x: Rows
    y: np.ndarray
    weights: np.ndarray | None = None


class Fitting:
    """A fit in the making.

    Parameters
    ----------
    estimator
    hidden : tuple of Hidden
    functions : list of callable
        Callbacks of ours.
    given : Given
    incremental : bool
        One epoch that goes on from the last call.
    task : Task or None
        What targets mean, where that is known before they are seen.
    """

    def __init__(self, estimator, hidden: tuple[Hidden, ...], functions: list, given: Given, *, incremental: bool,
                 task: Task | None):
        self.estimator, self.hidden, self.functions, self.given = estimator, hidden, functions, given
        self.incremental = incremental
        self.goes_on = hasattr(estimator, "coefs_") and (estimator.warm_start or incremental)
        self.task = task if task is not None or not self.goes_on else estimator._fitted_task()
        self.validation: Validation | None = None
        self.trainer: Trainer | None = None
        self.rates: Rates | None = None
        self.compiled: dict = {}  # what the estimator keeps for its next call

    def run(self) -> None:
        """Fit."""
        self._take_rows()
        self._take_validation_rows()
        self._begin_record()
        estimator, given = self.estimator, self.given
        weights = None if given.sample_weight is None else {"sample_weight": given.sample_weight}
        # Not an attribute: they hold methods of this object, and a cycle would keep the rows alive after the fit.
        hooks = FitCallbacks(estimator, self.functions, self._publish, self._attributes,
                      {"X": given.X, "y": given.y, "metadata": weights})
        if not self.incremental:
            hooks.begin(estimator.max_iter)
        if estimator.solver == "lbfgs":
            self._minimize(hooks)
        else:
            self._descend(hooks)
        self._publish()
        hooks.end()

    # -- data

    def _take_rows(self) -> None:
        estimator, given = self.estimator, self.given
        self.x = data.check_rows(estimator, given.X, reset=not self.goes_on)
        self._check_enough_rows(len(self.x))
        self.dtype = data.computing_dtype(self.x, estimator.dtype)
        if self.goes_on and estimator.dtype is None:
            self.dtype = np.dtype("float32" if estimator.coefs_[0].dtype == np.float32 else "float64")
        data.check_range(self.x, self.dtype)
        y = estimator._check_y(given.y, len(self.x), self.dtype)
        if self.task is None:
            self.task = estimator._task_of(y, given.y)
        estimator._check_same_classes(y, self.goes_on and not self.incremental)
        self.own_weights = data.check_weights(given.sample_weight, self.x, positive=self._has_norm)
        by_class = data.class_weights(getattr(estimator, "class_weight", None), y, incremental=self.incremental)
        self.row_weights = data.product(self.own_weights, by_class)
        self.y = self.task.encode(y)
        self.architecture = networks.mlp(self.x.shape[1], self.hidden, self.task.outputs, estimator.bn_momentum,
                                         estimator.bn_epsilon, self.task.activation)
        if self.goes_on:
            estimator._check_same(self.architecture)

    def _take_validation_rows(self) -> None:
        given = self.given
        if given.X_val is None:
            return
        with data.named("X_val"):
            x = data.check_rows(self.estimator, given.X_val, reset=False)
            data.check_range(x, self.dtype)
        with data.named("y_val"):
            y = self.task.encode(self.estimator._check_y(given.y_val, len(x), self.dtype))
        with data.named("sample_weight_val"):
            weights = data.check_weights(given.sample_weight_val, x, positive=False)
        self.validation = Validation(x, y, weights)

    @property
    def _has_norm(self) -> bool:
        return any(layer.norm for layer in self.hidden)

    def _check_enough_rows(self, rows: int) -> None:
        if self._has_norm and rows < 2:
            raise ValueError("batch norm needs at least 2 rows to train on, got 1 sample: its variance would be 0")

    # -- state

    def _begin_record(self) -> None:
        self.record = FitState.of(self.estimator) if self.goes_on else FitState()
        self.record.epochs, self.record.converged = 0, False
        held = getattr(self.estimator, "_training", None)
        self.resumed = held if self.goes_on and self.incremental and held and held["solver"] == self.estimator.solver else None
        if self.resumed is None:
            self.record.rate = None

    def _start(self, random_state) -> Weights:
        """The weights to start from."""
        if self.goes_on:
            weights = networks.collect(self.estimator, self.architecture, self.dtype)
            return self.architecture.network(weights, self.dtype).weights
        names = [layer.activation for layer in self.hidden]
        given = self.estimator.activation
        names.append(names[-1] if names else given if isinstance(given, str) else "identity")
        return networks.initial_weights(self.architecture, names, random_state, self.dtype)

    def _attributes(self) -> dict:
        """The estimator's attributes at this moment."""
        estimator, task, trainer = self.estimator, self.task, self.trainer
        self.record.steps = trainer.norm_step
        weights = [{n: a.astype(self.dtype, copy=False) for n, a in arrays.items()} for arrays in trainer.download()]
        stochastic = estimator.solver != "lbfgs"
        found = {
            **networks.attributes(self.architecture, weights),
            **records.attributes(self.record, stochastic and estimator.early_stopping),
            **estimator._task_attributes(task),
            "_record": self.record, "_architecture": self.architecture, "_dtype": self.dtype,
            "_compiled": dict(self.compiled), "_training": None,
        }  # fmt: skip
        if stochastic:
            found["_training"] = {"solver": estimator.solver, "state": trainer.optimizer_state(), "step": trainer.step}
            found["_optimizer"] = self.rates.view(trainer.step)
        else:
            found["loss_"] = self.objective.loss
        return found

    def _publish(self) -> None:
        vars(self.estimator).update(self._attributes())

    def _measure(self) -> tuple[float, float]:
        rows = self.validation
        return self.task.loss_and_score(rows.y, outputs_of(self.trainer.outputs, rows.x), rows.weights)

    # -- stochastic solvers

    def _descend(self, hooks: FitCallbacks) -> None:
        estimator, random_state = self.estimator, self._random_state()
        checkpoint = None
        if estimator.checkpoint is not None:
            checkpoint = self._checkpoint(random_state)
        start = self._start(random_state)
        chosen = self._split(random_state) if estimator.early_stopping and self.validation is None else None
        targets = self.task.targets(self.y, self.dtype)
        samples = Samples(self.x, targets, self.row_weights, chosen)
        plan = self._plan(len(samples), random_state)
        self._make_trainer(start, plan, len(samples), random_state)
        best = None if checkpoint is None else checkpoint.resume(self.trainer, self.record)
        report = reporter(estimator.verbose, plan.epochs, len(samples), self.steps, lambda: self.trainer.step)
        run = Loop(
            self.trainer, samples, plan, self.record, self.rates, report,
            validate=None if self.validation is None else self._measure, best=best, epoch_begins=hooks.epoch_begins,
            epoch_ends=hooks.epoch_ends,
        )  # fmt: skip
        if checkpoint is not None:
            run.save = lambda best: checkpoint.save(self.trainer, self.record, best)
        run.run()
        if not np.isfinite(self.trainer.outputs(self.x[:64])).all():
            raise ValueError(loop.NOT_FINITE)

    def _random_state(self) -> np.random.RandomState:
        given = self.estimator.random_state
        if given is None and self.estimator.checkpoint is not None:  # one whose state can be kept
            return np.random.RandomState(check_random_state(None).randint(2**31 - 1))
        return check_random_state(given)

    def _checkpoint(self, random_state) -> Checkpoint:
        found = {"X": self.x, "y": self.y, "sample_weight": self.own_weights}
        if self.validation is not None:
            found |= {"X_val": self.validation.x, "y_val": self.validation.y, "sample_weight_val": self.validation.weights}
        start = networks.collect(self.estimator, self.architecture, self.dtype) if self.goes_on else None
        return Checkpoint(self.estimator.checkpoint, fingerprint(self.estimator, random_state, found, start), random_state)

    def _split(self, random_state) -> np.ndarray:
        """scikit-learn's split for early stopping, stratified for two classes: the rows to train on."""
        if self.estimator.validation_fraction == 0:
            raise ValueError(
                "validation_fraction=0 leaves no rows to decide by with early_stopping: give a share above 0, or X_val and y_val"
            )
        stratify = None
        if self.task.kind == "classifier" and self.task.outputs == 1:
            stratify = np.where(self.y == 1, "True", "False")
        from sklearn.model_selection import train_test_split  # a twentieth of a second that most fits do not need

        train, held = train_test_split(np.arange(len(self.x)), random_state=random_state, stratify=stratify,
                                       test_size=self.estimator.validation_fraction)
        if len(held) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
        weights = None if self.own_weights is None else self.own_weights[held]
        if weights is not None and not weights.any():
            raise ValueError("The sample weights for validation set are all zero, consider using a different random state.")
        self.validation = Validation(select(self.x, held), np.ascontiguousarray(self.y[held]), weights)
        self._check_enough_rows(len(train))
        return train

    def _plan(self, rows: int, random_state) -> Plan:
        estimator = self.estimator
        stop_by = {False: "loss", "loss": "val_loss"}.get(estimator.early_stopping, "val_score")
        return Plan(
            estimator.max_iter, self._batch_size(rows), self._has_norm, estimator.shuffle, estimator.tol,
            estimator.n_iter_no_change, random_state, stop_by, self.task.kind != "regressor", self.incremental,
        )  # fmt: skip

    def _batch_size(self, rows: int) -> int:
        given = self.estimator.batch_size
        if given == "auto":
            return min(200, rows)
        if given > rows:
            warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=7)
        return int(np.clip(given, 1, rows))

    def _make_trainer(self, start: Weights, plan: Plan, rows: int, random_state) -> None:
        """A trainer with these weights, and a fresh optimiser or the last call's."""
        estimator, record = self.estimator, self.record
        if self.architecture.has_dropout and not (self.goes_on and record.steps):
            record.seed = int(random_state.randint(2**31 - 1))
        edges = batches(rows, plan.batch_size, merge_tail=plan.merge_tail)
        self.steps = len(edges) - 1
        optimizer = optimizer_of(estimator, plan.epochs * self.steps)
        self.rates = Rates(estimator, optimizer, record)
        options = {
            "decay": 0.0 if estimator.solver == "adamw" else estimator.alpha, "debias": True, "seed": record.seed,
            "delta": self.task.level, "weighted": False if self.row_weights is None else "mean",
        }  # fmt: skip
        kind = (self.architecture, self.dtype, self.x.dtype, int(np.diff(edges).max()), self.task.engine_loss, options,
                type(optimizer), optimizer.constants(), optimizer.global_clipnorm)  # fmt: skip
        held = estimator._compiled.get("trainer") if self.resumed is not None else None
        if held is not None and held[0] == kind:  # another call of partial_fit: lowering anew would take most of its time
            self.trainer = held[1]
            self.trainer.optimizer = optimizer
        else:
            self.trainer = Trainer(self.architecture.layers, self.architecture.shapes, *kind[1:5], optimizer, **options)
        self.compiled = {"trainer": (kind, self.trainer)} if self.incremental else {}
        self.trainer.upload(start)
        self.trainer.norm_step = record.steps
        if self.resumed is not None:
            self.trainer.load_optimizer_state(self.resumed["state"])
            self.trainer.step = self.resumed["step"]

    # -- lbfgs

    def _minimize(self, hooks: FitCallbacks) -> None:
        estimator, record = self.estimator, self.record
        start = self._start(check_random_state(estimator.random_state))
        task, row_weights = self.task, self.row_weights
        targets = task.targets(self.y, np.dtype("float64"))
        self.objective = objective = lbfgs.Objective(
            self.architecture, estimator.alpha, self.x, targets, row_weights, start,
            (lambda outputs: task.mean_loss(targets, outputs, row_weights)) if task.engine_differs else None,
        )  # fmt: skip
        self.trainer = objective.trainer(task.engine_loss, task.level)
        report = reporter(estimator.verbose, estimator.max_iter, len(self.x))
        began = time.perf_counter()

        def iteration_ends() -> bool:
            nonlocal began
            record.epochs += 1
            record.losses.append(objective.loss)
            record.best_loss = min(record.best_loss, objective.loss)
            logs = {"epoch": record.epochs, "epochs": estimator.max_iter, "loss": objective.loss,
                    "seconds": time.perf_counter() - began}
            if self.validation is not None:
                logs["val_loss"], logs["val_score"] = self._measure()
                record.validation_losses.append(logs["val_loss"])
                record.scores.append(logs["val_score"])
            report.epoch(logs)
            hooks.epoch_begins()
            began = time.perf_counter()
            return hooks.epoch_ends(logs)

        try:
            record.epochs = lbfgs.minimize(objective, max_iter=estimator.max_iter, max_fun=estimator.max_fun, tol=estimator.tol,
                                           iteration_ends=iteration_ends)
        finally:
            report.close()
        if not self.trainer.is_finite():
            raise ValueError(loop.NOT_FINITE)

