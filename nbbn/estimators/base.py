"""What both estimators share: parameters, the fit, and the network behind the attributes."""

from __future__ import annotations

import copy
import os
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from nbbn import optimizers
from nbbn.estimators import data, loop
from nbbn.estimators.architecture import NORM_ATTRIBUTES, Architecture, collect, initial_weights, mlp, publish
from nbbn.estimators.loop import Plan, Record
from nbbn.estimators.meaning import Meaning
from nbbn.network import Network
from nbbn.predictor import Predictor
from nbbn.runtime import num_threads
from nbbn.trainer import Trainer

_BATCH_NORM = ("pre", "post")


class BaseMLP(BaseEstimator):
    """An estimator around a `Trainer` and a `Predictor`; a subclass says what its targets mean."""

    _parameter_constraints: dict = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu"})],
        "solver": [StrOptions({"sgd", "adam", "rmsprop"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "batch_norm": ["boolean", StrOptions(set(_BATCH_NORM)), list, tuple],
        "bn_momentum": [Interval(Real, 0, 1, closed="left")],
        "bn_epsilon": [Interval(Real, 0, None, closed="neither")],
        "dtype": [None, StrOptions({"float32", "float64"})],
        "n_jobs": [None, Integral],
        "callbacks": [None, list, tuple, HasMethods("__call__")],
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        batch_norm=True,
        bn_momentum=0.9,
        bn_epsilon=1e-5,
        dtype=None,
        n_jobs=None,
        callbacks=None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.batch_norm = batch_norm
        self.bn_momentum = bn_momentum
        self.bn_epsilon = bn_epsilon
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.callbacks = callbacks

    # -- fitting

    def fit(self, X, y, *, X_val=None, y_val=None):
        """Fit to rows and targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            float32 rows are computed in float32, all others in float64, unless `dtype` says otherwise; integers are converted
            batch by batch.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels or an indicator matrix (classifier), numbers (regressor).
        X_val, y_val : array-like, optional
            Rows and targets that are evaluated after every epoch; with `early_stopping` they take the place of the split.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            For NaN or infinity, shapes that do not fit, one sample with batch norm, or weights that became infinite.
        """
        return self._fit(X, y, X_val, y_val)

    def _fit(self, X, y, X_val=None, y_val=None, **how):
        """A fit that raises leaves the estimator as it was."""
        before = self.__dict__.copy()
        try:
            return self._fit_all(X, y, X_val, y_val, **how)
        except BaseException:
            self.__dict__ = before
            raise

    def _fit_all(self, X, y, X_val, y_val, *, incremental: bool = False, meaning: Meaning | None = None):
        """Check everything, then train."""
        self._validate_params()
        hidden, norms, callbacks = self._hidden(), self._norms(), self._callbacks()
        goes_on = hasattr(self, "coefs_") and (self.warm_start or incremental)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if (X_val is None) != (y_val is None):
            raise ValueError(f"X_val and y_val go together: {'X_val' if X_val is None else 'y_val'} is missing")
        data.require_y(self, y)
        with num_threads(self._threads()):
            X = data.check_rows(self, X, reset=not goes_on)
            self._check_enough_rows(norms, len(X))
            dtype = self._dtype if goes_on and self.dtype is None else data.computing_dtype(X, self.dtype)
            y = self._check_y(y, len(X), dtype)
            meaning = meaning or (self._meaning if goes_on else self._meaning_of(y))
            y = meaning.encode(y)
            architecture = mlp(X.shape[1], hidden, meaning.outputs, self.activation, norms, self.bn_momentum,
                               self.bn_epsilon, meaning.activation)
            if goes_on:
                self._check_same(architecture)
            random_state = check_random_state(self.random_state)
            weights = (
                collect(self, architecture, dtype) if goes_on
                else initial_weights(architecture, self.activation, random_state, dtype)
            )  # fmt: skip
            validation = None
            if X_val is not None:
                X_val = data.check_rows(self, X_val, reset=False)
                validation = X_val, meaning.encode(self._check_y(y_val, len(X_val), dtype))
            elif self.early_stopping:
                X, y, validation = self._split(X, y, meaning, random_state)
                self._check_enough_rows(norms, len(X))
            record = copy.deepcopy(self._record) if goes_on else Record()
            if not incremental:
                record.epochs, record.stale, record.rate_factor = 0, 0, 1.0
            trainer = self._trainer(architecture, weights, X, meaning, record)
            if goes_on and incremental and self._training is not None and self._training["solver"] == self.solver:
                trainer.load_optimizer_state(self._training["state"])
                trainer.step = self._training["step"]

            def publish_all():
                self._finish(architecture, meaning, trainer, record)

            plan = self._plan(X, meaning.targets(y, dtype), architecture, random_state, incremental)
            plan.callbacks, plan.publish, plan.classifies = callbacks, publish_all, meaning.kind != "regressor"
            if validation is not None:
                plan.validate = lambda: meaning.loss_and_score(validation[1], trainer.outputs(validation[0]))
            loop.run(self, trainer, plan, record, self._rates(trainer, record))
            if not np.isfinite(trainer.outputs(X[:64])).all():
                raise ValueError(loop.NOT_FINITE)
            publish_all()
        return self

    def _plan(self, x, targets, architecture: Architecture, random_state, incremental: bool) -> Plan:
        """What the parameters say of the loop."""
        return Plan(
            x, targets, epochs=self.max_iter, batch_size=self._batch_size(len(x)), merge_tail=architecture.has_norm,
            shuffle=self.shuffle, tol=self.tol, patience=self.n_iter_no_change,
            adaptive=self.learning_rate == "adaptive" and self.solver == "sgd", random_state=random_state,
            stop_by_score=self.early_stopping, verbose=bool(self.verbose), incremental=incremental,
        )  # fmt: skip

    def _check_same(self, architecture: Architecture) -> None:
        """What goes on must be the network that was fitted."""
        if architecture.layers != self._architecture.layers:
            raise ValueError(
                "hidden_layer_sizes, activation, batch_norm, bn_momentum or bn_epsilon differ from the fitted network's: "
                "set them back, or call fit with warm_start=False"
            )

    def _hidden(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(isinstance(n, bool) or not isinstance(n, (Integral, np.integer)) for n in sizes) or any(n <= 0 for n in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(n) for n in sizes]

    def _norms(self) -> list:
        """`"pre"`, `"post"` or False for each hidden layer."""
        given, count = self.batch_norm, len(self._hidden())
        entries = list(given) if isinstance(given, (list, tuple)) else [given] * count
        if len(entries) != count:
            raise ValueError(
                f"batch_norm has {len(entries)} entries for {count} hidden layers; give one value, or one per hidden layer"
            )
        norms = []
        for entry in entries:
            if isinstance(entry, (bool, np.bool_)):
                norms.append("pre" if entry else False)
            elif isinstance(entry, str) and entry in _BATCH_NORM:
                norms.append(entry)
            else:
                raise ValueError(f"batch_norm entries must be True, False, 'pre' or 'post', got {entry!r}")
        if any(norms) and self.bn_momentum < 0.5:
            warnings.warn(
                f"bn_momentum={self.bn_momentum} weights the old running value; PyTorch's momentum weights the new one: its "
                f"{self.bn_momentum} is {1 - self.bn_momentum:g} here",
                stacklevel=4,
            )
        return norms

    def _threads(self) -> int | None:
        if self.n_jobs is None:
            return None
        if self.n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning; give a number of threads, -1 for all cores, or None")
        return self.n_jobs if self.n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + self.n_jobs)

    def _set_meaning(self, meaning: Meaning) -> None:
        self._meaning = meaning
        self.n_outputs_, self.out_activation_, self.n_layers_ = meaning.outputs, meaning.activation, len(self._hidden()) + 2
        if meaning.classes is not None:
            self.classes_ = meaning.classes

    def _split(self, X, y, meaning: Meaning, random_state):
        """scikit-learn's split for early stopping, stratified for two classes: rows and targets to train on, and to validate."""
        train, val = train_test_split(
            np.arange(len(X)), random_state=random_state, test_size=self.validation_fraction,
            stratify=y if meaning.kind == "classifier" and meaning.outputs == 1 else None,
        )  # fmt: skip
        if len(val) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
        return X[train], np.ascontiguousarray(y[train]), (X[val], np.ascontiguousarray(y[val]))

    def _check_enough_rows(self, norms: list, rows: int) -> None:
        if not any(norms):
            return
        if rows < 2:
            raise ValueError("batch norm needs at least 2 rows to train on, got 1 sample: its variance would be 0")
        if self.batch_size == 1:
            raise ValueError("batch_size=1 has no batch statistics: use at least 2 rows a batch, or batch_norm=False")

    def _batch_size(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5)
        return int(np.clip(self.batch_size, 1, rows))

    def _optimizer(self):
        if self.solver == "sgd":
            return optimizers.SGD(self.learning_rate_init, self.momentum, self.nesterovs_momentum)
        if self.solver == "rmsprop":
            return optimizers.RMSprop(self.learning_rate_init, 0.9, epsilon=self.epsilon)
        return optimizers.Adam(self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)

    def _rates(self, trainer: Trainer, record: Record):
        """Learning rate by step number; `invscaling` looks at the rows seen before the epoch, as scikit-learn does."""
        if self.solver == "sgd" and self.learning_rate == "invscaling":
            return lambda steps: trainer.optimizer.rates(steps) / (record.rows_seen + 1) ** self.power_t
        return trainer.optimizer.rates

    def _trainer(self, architecture, weights, x, meaning: Meaning, record: Record) -> Trainer:
        """A trainer with these weights and a fresh optimiser."""
        dtype = next(iter(weights[0].values())).dtype
        batch_size = min(self.batch_size if self.batch_size != "auto" else 200, len(x))
        largest = min(len(x), batch_size + max(1, batch_size // 4))  # with a merged tail
        trainer = Trainer(architecture.layers, architecture.shapes, dtype, x.dtype, largest, meaning.loss, self._optimizer(),
                          decay=self.alpha, debias=True)
        trainer.upload(weights)
        trainer.norm_step = record.steps
        return trainer

    def _callbacks(self) -> tuple:
        if self.callbacks is None:
            return ()
        callbacks = tuple(self.callbacks) if isinstance(self.callbacks, (list, tuple)) else (self.callbacks,)
        for callback in callbacks:
            if not callable(callback):
                raise TypeError(f"callbacks must be functions (estimator, logs), got {callback!r}")
        return callbacks

    def _finish(self, architecture: Architecture, meaning: Meaning, trainer: Trainer, record: Record) -> None:
        """Make the attributes what the trainer holds."""
        record.steps = trainer.norm_step
        self._record = record
        self._training = {"solver": self.solver, "state": trainer.optimizer_state(), "step": trainer.step}
        self._set_meaning(meaning)
        publish(self, architecture, trainer.download())
        self._publish_record(architecture, trainer.dtype)

    def _publish_record(self, architecture: Architecture, dtype: np.dtype) -> None:
        """The attributes that say how the fit went."""
        record = self._record
        self._architecture, self._dtype, self._compiled = architecture, dtype, {}
        self.n_iter_, self.t_ = record.epochs, record.rows_seen
        self.loss_curve_ = record.losses
        if record.losses:
            self.loss_ = record.losses[-1]
        self.best_loss_ = None if self.early_stopping else record.best_loss
        self.validation_scores_ = record.scores if record.scores or self.early_stopping else None
        self.validation_loss_curve_ = record.validation_losses if record.scores or self.early_stopping else None
        self.best_validation_score_ = record.best_score if self.early_stopping else None

    # -- inference

    def _outputs(self, X) -> np.ndarray:
        """The network's outputs for rows of any kind."""
        check_is_fitted(self)
        with num_threads(self._threads()):
            X = data.check_rows(self, X, reset=False)
            return self._ready()(X)

    def _ready(self) -> Predictor:
        """The compiled network; made anew when an attribute holds another array than it was made from."""
        arrays = [a for name in NORM_ATTRIBUTES for a in getattr(self, name) if a is not None]
        arrays += [*self.coefs_, *self.intercepts_]
        held, predictor = self._compiled.get("predictor", ([], None))
        if len(held) != len(arrays) or any(a is not b for a, b in zip(held, arrays)):
            predictor = Predictor(self.network())
            self._compiled["predictor"] = arrays, predictor
        return predictor

    def network(self) -> Network:
        """The fitted network: layers and weights, as folding and files take it."""
        check_is_fitted(self)
        weights = collect(self, self._architecture, self._dtype)
        return Network(self._architecture.layers, (self._architecture.features,), weights, self._dtype).check()

    def fold(self, *, strict: bool = False, check=None):
        """A `FoldedModel` with every batch norm folded into its neighbours; `nbbn.fold` says more."""
        from nbbn.saving import fold

        return fold(self, strict=strict, check=check)

    def save(self, path) -> None:
        """Write the estimator to one safetensors file; `nbbn.load` opens it. Nothing in it is executed.

        The optimiser's state is not written: training goes on with a fresh one.
        """
        from nbbn.saving import save_estimator

        check_is_fitted(self)
        save_estimator(self, path)

    def _file_meta(self) -> dict:
        """What a file keeps besides parameters and network."""
        record = self._record
        return {
            "epochs": record.epochs,
            "rows_seen": record.rows_seen,
            "steps": record.steps,
            "loss_curve": [float(v) for v in record.losses],
            "validation_loss_curve": [float(v) for v in record.validation_losses],
            "validation_scores": [float(v) for v in record.scores],
            "feature_names": [str(n) for n in getattr(self, "feature_names_in_", [])],
        }

    def _restore(self, network: Network, kind: str, classes, meta: dict):
        """Become what a file holds; `nbbn.load` calls it on a new estimator."""
        self._validate_params()
        self.n_features_in_ = network.input_shape[0]
        if meta["feature_names"]:
            self.feature_names_in_ = np.array(meta["feature_names"], dtype=object)
        self._set_meaning(Meaning(kind, network.output_shape[0], classes))
        architecture = self._described(self.n_features_in_)
        if architecture.layers != network.layers:
            raise ValueError("its layers are not those that its parameters describe")
        publish(self, architecture, network.weights)
        losses, val_losses, scores = (
            [float(v) for v in meta[name]] for name in ("loss_curve", "validation_loss_curve", "validation_scores")
        )
        self._record = Record(
            losses, val_losses, scores, min(losses, default=np.inf), max(scores, default=-np.inf),
            rows_seen=int(meta["rows_seen"]), epochs=int(meta["epochs"]), steps=int(meta["steps"]),
        )  # fmt: skip
        self._training = None
        self._publish_record(architecture, network.dtype)
        return self

    def _described(self, features: int) -> Architecture:
        """The architecture that the parameters describe at this moment."""
        return mlp(features, self._hidden(), self.n_outputs_, self.activation, self._norms(), self.bn_momentum,
                   self.bn_epsilon, self.out_activation_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")

    def __getstate__(self):
        state = super().__getstate__().copy()
        if "_compiled" in state:
            state["_compiled"] = {}
        return state
