"""One fit of an MLP: from checked data to the estimator's attributes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from nbbn.estimators.lazy_rows import outputs_of
from nbbn.estimators.mlp import architecture as networks
from nbbn.estimators.mlp import lbfgs
from nbbn.estimators.mlp.callbacks import FitCallbacks
from nbbn.estimators.mlp.checkpoint import Checkpoint, fingerprint
from nbbn.estimators.mlp.defaults import value_of
from nbbn.estimators.mlp.fit_data import FitData, Given
from nbbn.estimators.mlp.fit_state import FitState, Fitted
from nbbn.estimators.mlp.judgement import Course, Judgement, check_finite
from nbbn.estimators.mlp.mlp_task import MLPTask
from nbbn.estimators.mlp.rates import Rates, optimizer_of
from nbbn.estimators.mlp.rules import hidden_sizes
from nbbn.estimators.mlp.streamed_data import StreamedData
from nbbn.estimators.mlp.target_scale import Arrays, TargetScale
from nbbn.network import Weights
from nbbn.progress import fit_reporter
from nbbn.trainer import Trainer, batches
from nbbn.training_loop import Loop
from nbbn.warning import warn


def task_attributes(estimator: Fitted, task: MLPTask) -> dict[str, Any]:
    """The attributes that say what the outputs are."""
    found = {"_task": task, "n_outputs_": task.outputs, "out_activation_": task.activation,
             "learning_rate_init_": value_of(estimator, "learning_rate_init"),
             "alpha_": value_of(estimator, "alpha"),
             "n_layers_": len(hidden_sizes(estimator.hidden_layer_sizes)) + 2}
    return found if task.classes is None else {**found, "classes_": task.classes}


class Fitting:
    """A fit in the making; `incremental`: one epoch that goes on from the last call."""

    def __init__(self, estimator: Fitted, data: FitData | StreamedData, *, incremental: bool):
        self.estimator, self.data, self.incremental = estimator, data, incremental
        self.group = data.group
        self.state = FitState.going_on(estimator) if data.goes_on else FitState()
        self.state.epochs, self.state.converged = 0, False
        held = getattr(estimator, "_training", None) if data.goes_on and incremental else None
        self.resumed = held if held and held["solver"] == estimator.solver else None
        if self.resumed is None:
            self.state.rate = None
        self.trainer: Trainer
        self.rates: Rates | None = None
        self.objective: lbfgs.Objective | None = None
        self.kept: tuple[Any, Trainer] | None = None  # for the estimator's next call

    def run(self, given: Given, functions: list[Callable[..., Any]]) -> None:
        """Fit, calling functions of ours and scikit-learn's callbacks."""
        weights = given.sample_weight
        metadata = None if weights is None else {"sample_weight": weights}
        seen = {"X": given.X, "y": given.y, "metadata": metadata}
        # Not an attribute: they hold methods of this object, and a cycle would keep the rows alive.
        callbacks = FitCallbacks(self.estimator, functions, self._publish, self._attributes, seen,
                                 self.group)
        if not self.incremental:
            callbacks.begin(self.estimator.max_iter)
        if self.estimator.solver == "lbfgs":
            self._minimize(callbacks)
        else:
            self._descend(callbacks)
        self._publish()
        callbacks.end()

    # -- state

    def _start(self, random_state: np.random.RandomState) -> Weights:
        """The weights to start from."""
        architecture, dtype, scale = self.data.architecture, self.data.dtype, self.data.task.scale
        if self.data.goes_on:
            weights = architecture.network(networks.collect(self.estimator, architecture, dtype),
                                           dtype).weights
            if scale is not None:
                weights[architecture.dense[-1]] = self._output_inside(scale)
            return self.group.from_first(weights)
        names, given = [layer.activation for layer in self.data.hidden], self.estimator.activation
        names.append(names[-1] if names else given if isinstance(given, str) else "identity")
        return networks.initial_weights(architecture, names, random_state, dtype,
                                        at_mean=scale is not None and architecture.has_norm)

    def _output_inside(self, scale: TargetScale) -> Arrays:
        """The output layer on standardised targets: as it was trained, if it is still that."""
        estimator, held = self.estimator, getattr(self.estimator, "_output", None)
        outside = {"kernel": estimator.coefs_[-1], "bias": estimator.intercepts_[-1]}
        if held is not None and all(np.array_equal(held[0][name], array)
                                    for name, array in outside.items()):
            return held[1]
        outside = {name: np.asarray(array, np.float64) for name, array in outside.items()}
        return {name: array.astype(self.data.dtype)
                for name, array in scale.inside(outside).items()}

    def _attributes(self) -> dict[str, Any]:
        """The estimator's attributes at this moment."""
        estimator, data, trainer = self.estimator, self.data, self.trainer
        self.state.steps = trainer.norm_step
        weights, output, inside = trainer.download(), data.architecture.dense[-1], None
        if data.task.scale is not None:
            inside = weights[output]
            weights[output] = data.task.scale.outside(inside)
        weights = [{name: array.astype(data.dtype, copy=False) for name, array in arrays.items()}
                   for arrays in weights]
        early_stopping = estimator.solver != "lbfgs" and estimator.early_stopping
        found = {**networks.attributes(data.architecture, weights),
                 **self.state.attributes(early_stopping), **task_attributes(estimator, data.task),
                 "_fit_state": self.state, "_architecture": data.architecture, "_dtype": data.dtype,
                 "_predictors": {}, "_trainer": self.kept, "_training": None,
                 "_output": None if inside is None else (weights[output], inside)}
        if self.objective is not None:
            found["loss_"] = self.objective.loss
        if self.rates is not None:
            state = trainer.optimizer_state()
            found["_training"] = {"solver": estimator.solver, "state": state, "step": trainer.step}
            found["_optimizer"] = self.rates.view(trainer.step)
        return found

    def _publish(self) -> None:
        self.estimator.__dict__.update(self._attributes())

    def _course(self, callbacks: FitCallbacks, steps: int, step: Callable[[], int]) -> Course:
        estimator, held, task = self.estimator, self.data.validation, self.data.task

        def validate() -> tuple[float, float]:
            assert held is not None
            outputs = outputs_of(self.trainer.outputs, held.x)
            return self.group.measured(task.loss_and_score, held.y, outputs, held.row_weights)

        most, verbose = estimator.max_iter, self.group.rank == 0 and estimator.verbose
        report = fit_reporter(verbose, most, self.data.rows, steps, step)
        return Course(self.state, most, report, callbacks, None if held is None else validate)

    # -- stochastic solvers

    def _descend(self, callbacks: FitCallbacks) -> None:
        estimator, state, random_state = self.estimator, self.state, self._random_state()
        checkpoint = None if estimator.checkpoint is None else self._checkpoint(random_state)
        start = self._start(random_state)
        if estimator.early_stopping and self.data.validation is None:
            self.data = self.data.split(estimator.validation_fraction, random_state)
        data = self.data
        batch_size = self._batch_size(data.rows)
        edges = batches(data.rows, batch_size, merge_tail=data.architecture.has_norm)
        trainer = self._make_trainer(start, edges, random_state)
        assert self.rates is not None
        best = None if checkpoint is None else checkpoint.resume(trainer, state)
        shuffled = random_state if estimator.shuffle else None
        last = 1 if self.incremental else estimator.max_iter
        stop_by = {False: "loss", "loss": "val_loss"}.get(estimator.early_stopping, "val_score")
        judgement = Judgement(
            self._course(callbacks, len(edges) - 1, lambda: trainer.step), trainer, self.rates,
            data.rows, estimator.tol, estimator.n_iter_no_change, stop_by,
            data.task.kind != "regressor", self.incremental, checkpoint, best)
        with data.plans(edges, shuffled, range(state.epochs, last)) as plans:
            judgement.run(Loop(trainer, plans, self.rates.of))
        finite = bool(np.isfinite(trainer.outputs(data.some_rows())).all())
        check_finite(self.group.all_true(finite))

    def _random_state(self) -> np.random.RandomState:
        given = self.estimator.random_state
        if given is None and self.estimator.checkpoint is not None:  # one whose state can be kept
            seed = self.group.from_first(check_random_state(None).randint(2**31 - 1))
            return np.random.RandomState(seed)
        return self.group.from_first(check_random_state(given))

    def _checkpoint(self, random_state: np.random.RandomState) -> Checkpoint:
        estimator, data, start = self.estimator, self.data, None
        if data.goes_on:
            start = networks.collect(estimator, data.architecture, data.dtype)
        assert estimator.checkpoint is not None
        wanted = fingerprint(estimator, random_state, data.told(), start)
        return Checkpoint(estimator.checkpoint, wanted, random_state, self.group)

    def _batch_size(self, rows: int) -> int:
        given = self.estimator.batch_size
        if isinstance(given, str):
            return min(200, rows)
        if given > rows:
            rule = "less than 1 or larger than sample size"
            warn(f"Got `batch_size` {rule}. It is going to be clipped")
        return int(np.clip(given, 1, rows))

    def _make_trainer(self, start: Weights, edges: np.ndarray,
                      random_state: np.random.RandomState) -> Trainer:
        """A trainer with these weights, and a fresh optimiser or the last call's."""
        estimator, state, data = self.estimator, self.state, self.data
        architecture, task = data.architecture, data.task
        if any(x.dropout for x in data.hidden) and not (data.goes_on and state.steps):
            state.seed = int(random_state.randint(2**31 - 1))
        optimizer = optimizer_of(estimator, estimator.max_iter * (len(edges) - 1))
        self.rates = Rates(estimator, optimizer, state)
        rows, source = int(np.diff(edges).max()), data.source
        decay = 0.0 if estimator.solver == "adamw" else value_of(estimator, "alpha")
        weighted: bool | str = "mean" if data.weighted else False
        sparse = data.sparse
        kind = (architecture, data.dtype, source, sparse, task.engine_loss, decay, state.seed,
                task.engine_level, weighted, type(optimizer), optimizer.constants(),
                optimizer.global_clipnorm)
        held = getattr(estimator, "_trainer", None) if self.resumed is not None else None
        if held is not None and held[0] == kind and rows <= held[1].rows:
            self.trainer = held[1]
            self.trainer.optimizer = optimizer
        else:
            self.trainer = Trainer(architecture.computation, data.dtype, source, rows,
                                   task.engine_loss, optimizer, decay=decay, debias=True,
                                   seed=state.seed, loss_parameter=task.engine_level,
                                   weighted=weighted,
                                   sparse=sparse, group=self.group)
        self.kept = (kind, self.trainer) if self.incremental else None
        self.trainer.upload(start)
        self.trainer.norm_step = state.steps
        if self.resumed is not None:
            self.trainer.load_optimizer_state(self.resumed["state"])
            self.trainer.step = self.resumed["step"]
        return self.trainer

    # -- lbfgs

    def _minimize(self, callbacks: FitCallbacks) -> None:
        estimator, state, task = self.estimator, self.state, self.data.task
        start = self._start(self.group.from_first(check_random_state(estimator.random_state)))
        assert isinstance(self.data, FitData)
        samples = self.data.samples
        targets = task.targets(samples.y, np.dtype("float64"))
        measure = partial(task.losses, targets)
        self.objective = objective = lbfgs.Objective(
            self.data.architecture, value_of(estimator, "alpha"), replace(samples, y=targets),
            start, measure if task.engine_differs else None, self.group)
        self.trainer = objective.trainer(task.engine_loss, task.engine_level)
        course, began = self._course(callbacks, 1, lambda: 0), time.perf_counter()

        def iteration_ends() -> bool:
            nonlocal began
            state.best_loss = min(state.best_loss, objective.loss)
            logs = course.note(objective.loss, time.perf_counter() - began)
            callbacks.epoch_begins()
            began = time.perf_counter()
            return callbacks.epoch_ends(logs)

        try:
            state.epochs = lbfgs.minimize(objective, max_iter=estimator.max_iter,
                                          max_fun=estimator.max_fun, tol=estimator.tol,
                                          iteration_ends=iteration_ends)
        finally:
            course.report.close()
        check_finite(self.trainer.is_finite())
