"""What SequentialClassifier and SequentialRegressor share: a `Sequential` behind scikit-learn."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from nbbn import losses, optimizers
from nbbn.callbacks import EarlyStopping
from nbbn.estimators import checks, of_group
from nbbn.estimators.base import NetworkEstimator
from nbbn.estimators.partitions import hold_targets
from nbbn.estimators.sequential.layers_task import LayersTask
from nbbn.estimators.stored_parameters import from_json, to_json
from nbbn.formats import Content
from nbbn.formats.content import labels_to_json
from nbbn.group import ALONE, Group
from nbbn.layers import BatchNormalization, Layer, Reshape, layer_from_config
from nbbn.losses import Loss
from nbbn.metrics import BinaryAccuracy
from nbbn.models.sequential import Sequential
from nbbn.names import argument_hint
from nbbn.network import Network, computation
from nbbn.optimizers import Optimizer
from nbbn.partitions.partitions import Partitions
from nbbn.training_loop import Samples, diverged
from nbbn.warning import warn

Shape = tuple[int, ...]

_FLOAT = np.dtype("float64")
_OF_OPTIMIZER = "optimizer__"
# Attributes of a fit that a file keeps as they are.
_KEPT = ("n_features_in_", "n_outputs_", "history_", "loss_curve_", "n_iter_", "_given_flat")


class BaseSequential(NetworkEstimator):
    """What both estimators share."""

    layers: Iterable[Any]
    loss: str | Loss | None
    optimizer: str | Optimizer
    batch_size: int
    epochs: int
    validation_fraction: float
    early_stopping: bool
    n_iter_no_change: int
    tol: float
    shuffle: bool
    dtype: str | None
    verbose: bool | int
    random_state: Any
    warm_start: bool

    model_: Sequential
    history_: dict[str, list[float]]
    n_features_in_: int
    _specs: tuple[Layer, ...]
    _task: LayersTask
    _given_flat: bool
    _row_shape: Shape

    # -- parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            With those of the optimiser, such as `optimizer__learning_rate`.

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep)
        if deep:
            try:
                optimizer: Any = optimizers.get(self.optimizer)
            except (TypeError, ValueError):  # which fit says in words
                return params
            found = {f.name: getattr(optimizer, f.name) for f in fields(optimizer)}
            params |= {_OF_OPTIMIZER + name: float(value) if isinstance(value, float) else value
                       for name, value in found.items()}
        return params

    def set_params(self, **params: Any) -> Any:
        """Set parameters by name; `optimizer__learning_rate` and so on make another optimiser.

        Parameters
        ----------
        **params
            Values by parameter.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a name that is no parameter, with the one that may be meant.
        """
        of_optimizer = {name.removeprefix(_OF_OPTIMIZER): params.pop(name)
                        for name in list(params) if name.startswith(_OF_OPTIMIZER)}
        super().set_params(**params)
        if of_optimizer:
            optimizer: Any = optimizers.get(self.optimizer)
            known = [f.name for f in fields(optimizer)]
            for name in of_optimizer:
                if name not in known:
                    raise ValueError(f"Invalid parameter {_OF_OPTIMIZER + name!r} for estimator "
                                     f"{type(self).__name__}; {argument_hint(name, known)}")
            self.optimizer = replace(optimizer, **of_optimizer)
        return self

    # -- training

    @hold_targets
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None,
            y_val: Any = None) -> Any:
        """Train from the start, or go on where `warm_start` says so.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)
            Numeric and finite. Integers are converted batch by batch.
        y : array-like of shape (n_samples,), or (n_samples, n_outputs)
            Labels of any kind, an indicator matrix (sparse or not) of several labels a row, or
            numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of 0 or more. A batch's loss is the weighted mean over its rows, and the
            statistics of batch norms are weighted, as if rows were repeated. With batch norms of
            images those statistics stay unweighted, and a batch's loss is the sum of weight times
            loss over its number of rows, where weights are scaled to a mean of 1.
        X_val, y_val : array-like, default=None
            Rows to evaluate after every epoch, in place of those that `validation_fraction` holds
            out.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            For NaN or infinity, shapes that do not fit, a single class, parameters that do not go
            together, one sample with batch norm, and weights that became infinite.
        TypeError
            For sparse rows, partitions, and for layers that are none.
        """
        return self._fit(X, y, sample_weight, X_val, y_val)

    def fit_in_group(self, group: Group, X: Any, y: Any, sample_weight: Any, X_val: Any,
                     y_val: Any) -> Any:
        """`fit` on the rows of all processes of a group; `nbbn.distributed.fit` calls it."""
        return self._fit(X, y, sample_weight, X_val, y_val, group=group)

    def _fit(self, X: Any, y: Any, sample_weight: Any, X_val: Any = None, y_val: Any = None, *,
             incremental: bool = False, classes: np.ndarray | None = None,
             group: Group = ALONE) -> Any:
        validates = group.any_true(X_val is not None)
        with self._unchanged_on_error():
            with group.together():
                if isinstance(X, Partitions) or isinstance(X_val, Partitions):
                    raise TypeError(f"Partitions are not supported by {type(self).__name__}'s fit; "
                                    "use nbbn.Sequential, or an MLPClassifier or MLPRegressor")
                self._validate_params()
                self._check_together(X_val, y_val, incremental, validates)
            with self._own_threads():
                self._fit_checked(X, y, sample_weight, X_val, y_val, incremental, classes, group,
                                  validates)
        return self

    def _check_together(self, X_val: Any, y_val: Any, incremental: bool, validates: bool) -> None:
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together")
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.early_stopping and not validates and not self.validation_fraction:
            raise ValueError("early_stopping=True needs rows to validate on: "
                             "set validation_fraction above 0, or give fit X_val and y_val")

    def _fit_checked(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any,
                     incremental: bool, classes: np.ndarray | None, group: Group,
                     validates: bool) -> None:
        specs = _specifications(self.layers)
        further = (incremental or self.warm_start) and hasattr(self, "model_")
        if further and specs != self._specs:
            raise ValueError("layers differ from those that were fitted: set them back, "
                             "or call fit with warm_start=False")
        X = self._rows_to_fit(X, specs, further, group)
        sparse = group.any_true(hasattr(y, "toarray"))
        y = self._targets_of(y, len(X), group)
        if not further:
            self._take_task(self._task_of(y, classes, group, sparse))
        with group.together():
            encoded = self._task.encode(y)
        _, weights = self._row_weights(sample_weight, y, positive=True, incremental=incremental,
                                       group=group)
        rng = group.from_first(check_random_state(self.random_state))
        seed, split_seed = (int(rng.randint(2**31 - 1)) for _ in range(2))
        if not further:
            single = group.all_true(X.dtype == np.float32)
            with group.together():
                self._take_model(self._new_model(specs, X, seed, single))
            self._specs, self.history_ = specs, {}
        if weights is not None and self.model_._weighting != "mean":
            weights = weights / _mean(weights, group)
        samples, held = Samples(X, encoded, weights), None
        if validates:
            held = self._held(X_val, y_val, group)
        elif self.validation_fraction and not incremental:
            samples, held, group = self._split(samples, split_seed, group)
        self._train(samples, held, 1 if incremental else int(self.epochs), group)

    def _targets_of(self, y: Any, rows: int, group: Group) -> np.ndarray:
        """Checked targets of this process's rows."""
        found = None
        with group.together():
            if rows or group.world is None:
                found = self._checked_y(y, rows, _FLOAT, multilabel=True)
        return of_group.targets_of(group, found)

    def _held(self, X_val: Any, y_val: Any, group: Group) -> Samples:
        """The rows to validate on that the user gave."""
        x = np.empty((0, *self._row_shape))
        with group.together():
            if X_val is not None:
                x = self._rows(X_val)
        with checks.named("y_val"):
            y = self._targets_of(y_val, len(x), group)
        with group.together():
            return Samples(x, self._task.encode(y, "y_val"))

    def _train(self, samples: Samples, held: Samples | None, epochs: int, group: Group) -> None:
        validation, loss = None, self.model_.loss
        assert isinstance(loss, Loss)  # a Sequential has one output
        if held is not None:
            validation = (held.x, self._task.targets(loss, held.y), held.row_weights)
        callbacks = [] if self.callbacks is None else self.callbacks
        callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        if self.early_stopping:
            callbacks.append(EarlyStopping("val_loss", self.tol, self.n_iter_no_change, mode="min",
                                           restore_best_weights=True))
        found = self.model_.train_in_group(
            group, samples, self._task.targets(loss, samples.y), validation,
            batch_size=int(self.batch_size), epochs=epochs, verbose=min(int(self.verbose), 2),
            callbacks=callbacks, shuffle=bool(self.shuffle)).history
        if not all(np.isfinite(array).all() for array in self.model_.get_weights()):
            raise ValueError("training gave weights that are not finite: lower the learning rate, "
                             "or scale X")
        if not self.early_stopping and (what := diverged(found.get("loss", []))):
            warn(f"Training diverged: {what}; lower the learning rate, or scale X.",
                 ConvergenceWarning)
        before = self.history_
        names = dict.fromkeys([*before, *found])
        self.history_ = {name: before.get(name, []) + found.get(name, []) for name in names}
        self.loss_curve_ = list(self.history_["loss"])
        self.n_iter_ = len(self.loss_curve_)

    def _split(self, samples: Samples, seed: int,
               group: Group) -> tuple[Samples, Samples, Group]:
        """The rows to train on, with the group of them alone, and those held out to validate on."""
        rows, strata = group.count(len(samples)), None
        if self._task.kind == "classifier":
            strata = group.whole(samples.y)
        train, held = train_test_split(np.arange(rows), test_size=self.validation_fraction,
                                       random_state=seed, stratify=strata)
        train.sort()
        if group.world is not None:
            held.sort()
        return samples[group.own(train)], samples[group.own(held)], group.narrowed(train)

    # -- targets

    def _task_of(self, y: np.ndarray, classes: np.ndarray | None, group: Group,
                 sparse: bool) -> LayersTask:
        """What targets mean; `classes` are all of them, where they are known."""
        if not self._classifies:
            return LayersTask("regressor", y.shape[1])
        if y.ndim == 2:
            labels = checks.classes_of(y)
            if classes is not None and not np.array_equal(classes, labels):
                raise ValueError("classes must be the numbers of the labels, "
                                 f"np.arange({len(labels)}), for an indicator matrix of "
                                 f"{len(labels)} columns, got {classes!r}")
            return LayersTask("multilabel", y.shape[1], labels, sparse)
        found = classes
        if found is None:
            found = np.unique(y) if group.world is None else of_group.classes_of(group, y)
        if len(found) < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 classes in y, "
                             f"got only one class: {found[0]!r}")
        return LayersTask("classifier", len(found), found)

    def _take_task(self, task: LayersTask) -> None:
        self._task = task
        if task.classes is None:
            self.n_outputs_ = task.outputs
        else:
            self.classes_ = task.classes

    # -- the model

    def _new_model(self, specs: tuple[Layer, ...], X: np.ndarray, seed: int,
                   single: bool) -> Sequential:
        """A model of these layers and the output layer, compiled; for `single` precision rows."""
        dtype = self._computing_dtype(specs, single)
        model = Sequential()
        model._layers.seed = seed
        for layer in specs:
            model.add(layer if dtype is None else replace(layer, dtype=dtype))
        if model.layers:
            model.build((None, *X.shape[1:]))
        layers = computation(model._layers.layers, X.shape[1:])
        if len(layers.output_shape) != 1:
            raise ValueError(f"layers end with rows of shape {layers.output_shape}, but the output "
                             "layer needs rows of one axis: end them with Flatten() or "
                             "GlobalAveragePooling2D()")
        loss = losses.get(self._task.default_loss(layers) if self.loss is None else self.loss)
        if loss.from_logits:
            raise ValueError("loss has from_logits=True, but the output layer has its activation: "
                             "use from_logits=False")
        output = self._task.output_layer(layers, loss)
        if output is not None:
            model.add(output if dtype is None else replace(output, dtype=dtype))
        model.build((None, *X.shape[1:]))
        metrics: list[Any] = ["accuracy"] if self._task.kind == "classifier" else []
        if self._task.kind == "multilabel":
            metrics = [BinaryAccuracy(name="accuracy")]  # of labels, each on its own
        model.compile(copy.deepcopy(self.optimizer), loss, metrics=metrics)
        return model

    def _take_model(self, model: Sequential) -> None:
        """Take a compiled model for one's own."""
        pairs = zip(model._layers.layers, model._layers.shapes)
        norms = [shape for layer, shape in pairs if isinstance(layer, BatchNormalization)]
        of_rows = all(len(shape) == 1 for shape in norms)
        model._weighting = "mean" if of_rows else True
        self.model_ = model

    def _computing_dtype(self, specs: tuple[Layer, ...], single: bool) -> str | None:
        """What all layers shall compute in; None where they say so themselves."""
        own = {layer.dtype for layer in specs if layer.dtype is not None}
        if self.dtype is not None and own - {self.dtype}:
            raise ValueError(f"dtype={self.dtype!r}, but the layers say dtype={own.pop()!r}: "
                             "give one of them")
        if own and self.dtype is None:
            # Of layers that disagree the model says which.
            return own.pop() if len(own) == 1 else None
        return self.dtype or ("float32" if single else "float64")

    # -- rows

    def _rows_to_fit(self, X: Any, specs: tuple[Layer, ...], further: bool,
                     group: Group) -> np.ndarray:
        """Checked rows in the shape that the layers take, which the first fit learns."""
        found = None
        with group.together():
            if X is not None or group.world is None:
                found = self._checked(X, reset=not further)
        if group.world is not None:
            own, shape = found or (None, None)
            rows = of_group.rows_of(group, self, own)
            assert isinstance(rows, np.ndarray)
            found = rows, group.agreed("X with rows of shape", shape)
        assert found is not None
        X, shape = found
        with group.together():
            if not further:
                declared = specs[0].input_shape if specs else None
                if declared is not None and math.prod(declared) != X.shape[1]:
                    raise ValueError(f"X has rows of shape {shape}, {X.shape[1]} numbers, "
                                     f"but the first layer has input_shape={declared}")
                self._given_flat = len(shape) == 1
                self._row_shape = declared or shape
            X = self._shaped(X, shape)
        return X

    def _rows(self, X: Any) -> np.ndarray:
        """Checked rows of a fitted estimator."""
        return self._shaped(*self._checked(X, reset=False))

    def _checked(self, X: Any, *, reset: bool) -> tuple[np.ndarray, Shape]:
        """Finite numeric rows as a matrix, and the shape they came in."""
        shape, ndim = None, X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        if ndim > 2:
            X = check_array(X, dtype="numeric", allow_nd=True, order="C", ensure_all_finite=False,
                            estimator=self, input_name="X")
            shape, X = X.shape[1:], X.reshape(len(X), -1)
        rows = checks.check_rows(self, X, reset=reset, lazy=False)
        assert isinstance(rows, np.ndarray)
        return rows, shape or rows.shape[1:]

    def _shaped(self, X: np.ndarray, shape: Shape) -> np.ndarray:
        if len(shape) > 1 and _bare(shape) != _bare(self._row_shape):
            raise ValueError(f"X has rows of shape {shape}, "
                             f"but {type(self).__name__} expects rows of shape {self._row_shape}")
        return X.reshape(len(X), *self._row_shape)

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        with self._own_threads():
            return self.model_.predict(self._rows(X))

    # -- after the fit

    def recalibrate(self, X: Any) -> Any:
        """Replace the running statistics of every batch norm by the exact ones of the rows `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)
            Usually the training rows.

        Returns
        -------
        self : object
        """
        return self.recalibrate_in_group(ALONE, X)

    def recalibrate_in_group(self, group: Group, X: Any) -> Any:
        """`recalibrate` on the rows of all processes of a group; None for `X`: it has none."""
        check_is_fitted(self)
        with self._own_threads():
            with group.together():
                x = self._rows(X) if X is not None or group.world is None else None
            self.model_.recalibrate_in_group(group, x)
        return self

    def network(self) -> Network:
        """The fitted network, for rows in the shape of the `X` that was fitted."""
        check_is_fitted(self)
        network = self.model_.network()
        if not self._given_flat or len(self._row_shape) == 1:
            return network
        layers, weights = (Reshape(self._row_shape), *network.layers), [{}, *network.weights]
        return Network(layers, (self.n_features_in_,), weights, network.dtype)

    def _content(self) -> Content:
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        training, slots = self.model_.training_state()
        meta = {"model": type(self).__name__, "classes": labels_to_json(self._task.classes),
                "kind": self._task.kind, "sparse": self._task.sparse,
                "params": to_json(self.get_params(deep=False)),
                "layers": [layer.config() for layer in self._specs],
                "attributes": {name: getattr(self, name) for name in _KEPT if hasattr(self, name)},
                "row_shape": list(self._row_shape),
                "feature_names": None if names is None else [str(name) for name in names],
                "training": training}
        return Content(self.model_.network(), meta, slots)

    @classmethod
    def from_content(cls, content: Content, classes: np.ndarray | None) -> BaseSequential:
        """What a file holds; `nbbn.load` calls it."""
        network, meta, slots = content
        specs = tuple(layer_from_config(config) for config in meta["layers"])
        self = cls(layers=list(specs), **from_json(meta["params"]))
        self._validate_params()
        kept = meta["attributes"]
        self.__dict__.update({name: kept[name] for name in _KEPT if name in kept})
        outputs = int(kept["n_outputs_"]) if classes is None else len(classes)
        kind = meta.get("kind", "regressor" if classes is None else "classifier")
        self._take_task(LayersTask(kind, outputs, classes, bool(meta.get("sparse", False))))
        model = Sequential()
        model.restore(network, meta["training"], slots)
        self._specs, self._row_shape = specs, tuple(int(n) for n in meta["row_shape"])
        self._take_model(model)
        if meta["feature_names"] is not None:
            self.feature_names_in_ = np.array(meta["feature_names"], object)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "loss_curve_")


def _mean(weights: np.ndarray, group: Group) -> float:
    """The mean weight of all processes' rows."""
    if group.world is None:
        return weights.mean()
    rows = group.count(len(weights))
    return group.masses(weights, group.in_order(0, rows), np.array([0, rows]))[0] / rows


def _specifications(layers: Iterable[Any]) -> tuple[Layer, ...]:
    """The layers, those of another model without its weights."""
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must hold layers of nbbn.layers, got {layer!r}")
    return tuple(getattr(layer, "specification", layer) for layer in layers)


def _bare(shape: Shape) -> Shape:
    """A row's shape; a last axis of length 1 may be there or not."""
    return shape[:-1] if shape[-1:] == (1,) else shape
