"""What SequentialClassifier and SequentialRegressor share: rows in, a `Sequential` trained, outputs out."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from nbbn import losses
from nbbn.callbacks import Callback, EarlyStopping
from nbbn.layers import BatchNormalization, Layer, Reshape
from nbbn.losses import Loss
from nbbn.models.compiled import end_of
from nbbn.models.sequential import Sequential
from nbbn.network import Network
from nbbn.optimizers import Optimizer
from nbbn.predictor import FoldedModel
from nbbn.runtime import num_threads

Shape = tuple[int, ...]


class BaseSequential(BaseEstimator):
    """What both estimators share; a subclass says what its targets mean."""

    _parameter_constraints: dict = {
        "layers": [list, tuple],
        "loss": [None, str, Loss],
        "optimizer": [str, Optimizer],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "early_stopping": ["boolean"],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "shuffle": ["boolean"],
        "dtype": [None, StrOptions({"float32", "float64"})],
        "n_jobs": [None, Interval(Integral, None, -1, closed="right"), Interval(Integral, 1, None, closed="left")],
        "callbacks": [None, list, tuple, Callback, HasMethods(["set_model", "on_epoch_end"])],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
    }
    _metrics: tuple[str, ...] = ()

    # -- training

    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Train from the start, or go on where `warm_start` says so.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)
            Numeric and finite. Integers are converted batch by batch.
        y : array-like of shape (n_samples,), or (n_samples, n_outputs) in regression
            Labels of any kind, or numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of 0 or more. A batch's loss is the weighted mean over its rows, and the statistics of batch norms are
            weighted, as if rows were repeated. With batch norms of images those statistics stay unweighted, and a batch's loss
            is the sum of weight times loss over its number of rows, where weights are scaled to a mean of 1.
        X_val, y_val : array-like, default=None
            Rows to evaluate after every epoch, in place of those that `validation_fraction` holds out.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            For NaN or infinity, shapes that do not fit, a single class, parameters that do not go together, one sample with batch
            norm, and weights that became infinite.
        TypeError
            For sparse rows, and for layers that are none.
        """
        return self._guarded(X, y, sample_weight, X_val, y_val)

    def _guarded(self, X, y, sample_weight, X_val=None, y_val=None, *, incremental: bool = False, classes=None):
        """A fit that raises leaves the estimator as it was."""
        before = self.__dict__.copy()
        try:
            self._validate_params()
            with num_threads(_threads(self.n_jobs)):
                self._fit(X, y, sample_weight, X_val, y_val, incremental, classes)
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def _fit(self, X, y, sample_weight, X_val, y_val, incremental: bool, classes) -> None:
        self._check_together(X_val, y_val, incremental)
        specs = _specifications(self.layers)
        further = (incremental or self.warm_start) and hasattr(self, "model_")
        if further and specs != self._specs:
            raise ValueError("layers differ from those that were fitted: set them back, or call fit with warm_start=False")
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = self._fit_rows(X, specs, further)
        check_consistent_length(X, y)
        y = self._fit_y(y, further, classes)
        weights = self._weights(sample_weight, X, y, incremental)
        rng = check_random_state(self.random_state)
        seed, split_seed = (int(rng.randint(2**31 - 1)) for _ in range(2))
        if not further:
            self.adopt(self._new_model(specs, X, seed))
            self._specs, self.history_ = specs, {}
        if weights is not None and self.model_._weighting != "mean":
            weights = weights / weights.mean()
        self._run(X, y, weights, X_val, y_val, split_seed, incremental)

    def _check_together(self, X_val, y_val, incremental: bool) -> None:
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together")
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.early_stopping and X_val is None and not self.validation_fraction:
            raise ValueError(
                "early_stopping=True needs rows to validate on: set validation_fraction above 0, or give fit X_val and y_val"
            )

    def _run(self, X, y, weights, X_val, y_val, seed: int, incremental: bool) -> None:
        validation = None
        if X_val is not None:
            X_val, y_val = self._rows(X_val), self._other_y(y_val)
            check_consistent_length(X_val, y_val)
            validation = X_val, self._targets(y_val)
        elif self.validation_fraction and not incremental:
            X, y, weights, validation = self._split(X, y, weights, seed)
        callbacks = self.callbacks
        callbacks = [] if callbacks is None else list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        if self.early_stopping:
            callbacks.append(
                EarlyStopping("val_loss", self.tol, self.n_iter_no_change, mode="min", restore_best_weights=True)
            )
        found = self.model_.fit(
            X, self._targets(y), batch_size=int(self.batch_size), epochs=1 if incremental else int(self.epochs),
            verbose=min(int(self.verbose), 2), callbacks=callbacks, validation_data=validation, shuffle=bool(self.shuffle),
            sample_weight=weights,
        ).history  # fmt: skip
        if not all(np.isfinite(array).all() for array in self.model_.get_weights()):
            raise ValueError("training gave weights that are not finite: lower the learning rate, or scale X")
        names = dict.fromkeys([*self.history_, *found])
        self.history_ = {name: self.history_.get(name, []) + found.get(name, []) for name in names}
        self.loss_curve_ = list(self.history_["loss"])
        self.n_iter_ = len(self.loss_curve_)

    def _split(self, X, y, weights, seed: int) -> tuple:
        """The rows to train on, and those held out to validate on."""
        train, held = train_test_split(
            np.arange(len(X)), test_size=self.validation_fraction, random_state=seed, stratify=self._strata(y)
        )
        train.sort()
        validation = (X[held], self._targets(y[held])) + (() if weights is None else (weights[held],))
        return X[train], y[train], None if weights is None else weights[train], validation

    def _strata(self, y):
        return None

    def _weights(self, sample_weight, X, y, incremental: bool) -> np.ndarray | None:
        if sample_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("sample_weight is zero for every row: at least one weight must be above zero")
        return weights

    def _new_model(self, specs: tuple[Layer, ...], X: np.ndarray, seed: int) -> Sequential:
        """A model of these layers and the output layer, compiled."""
        dtype = self._computing_dtype(specs, X)
        if dtype is not None:
            specs = tuple(replace(layer, dtype=dtype) for layer in specs)
        model = Sequential()
        model._layers.seed = seed
        for layer in specs:
            model.add(layer)
        layers, shape = model._layers.layers, X.shape[1:]
        if layers:
            model.build((None, *shape))
            shape = model.output_shape[1:]
        if len(shape) != 1:
            raise ValueError(
                f"layers end with rows of shape {shape}, but the output layer needs rows of one axis: end them with Flatten() or "
                f"GlobalAveragePooling2D()"
            )
        loss = losses.get(self._default_loss(shape, end_of(layers)) if self.loss is None else self.loss)
        if loss.from_logits:
            raise ValueError("loss has from_logits=True, but the output layer has its activation: use from_logits=False")
        output = self._output_layer(layers, shape, loss)
        if output is not None:
            model.add(output if dtype is None else replace(output, dtype=dtype))
        model.build((None, *X.shape[1:]))
        model.compile(copy.deepcopy(self.optimizer), loss, metrics=list(self._metrics))
        return model

    def adopt(self, model: Sequential) -> None:
        """Take a compiled model for one's own."""
        model._weighting = "mean" if _norms_are_of_rows(model) else True
        self.model_, self._loss = model, model.loss

    def _computing_dtype(self, specs: tuple[Layer, ...], X: np.ndarray) -> str | None:
        """What all layers shall compute in; None where they say so themselves."""
        own = {layer.dtype for layer in specs if layer.dtype is not None}
        if self.dtype is not None and own - {self.dtype}:
            raise ValueError(f"dtype={self.dtype!r}, but the layers say dtype={own.pop()!r}: give one of them")
        if own and self.dtype is None:
            return own.pop() if len(own) == 1 else None  # layers that disagree: the model says which
        return self.dtype or ("float32" if X.dtype == np.float32 else "float64")

    # -- rows

    def _fit_rows(self, X, specs: tuple[Layer, ...], further: bool) -> np.ndarray:
        """Checked rows in the shape that the layers take, which the first fit learns."""
        X, shape = self._checked(X, reset=not further)
        if not further:
            declared = specs[0].input_shape if specs else None
            if declared is not None and math.prod(declared) != X.shape[1]:
                raise ValueError(
                    f"X has rows of shape {shape}, {X.shape[1]} numbers, but the first layer has input_shape={declared}"
                )
            self._given_flat = len(shape) == 1
            self._row_shape = declared or shape
        return self._shaped(X, shape)

    def _rows(self, X) -> np.ndarray:
        """Checked rows of a fitted estimator."""
        return self._shaped(*self._checked(X, reset=False))

    def _checked(self, X, *, reset: bool) -> tuple[np.ndarray, Shape]:
        """Finite numeric rows as a matrix, and the shape they came in."""
        shape, ndim = None, X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        if ndim > 2:
            X = check_array(X, dtype="numeric", allow_nd=True, order="C", estimator=self, input_name="X")
            shape, X = X.shape[1:], X.reshape(len(X), -1)
        X = validate_data(self, X, reset=reset, dtype="numeric", order="C", ensure_all_finite=shape is None)
        return X, shape or X.shape[1:]

    def _shaped(self, X: np.ndarray, shape: Shape) -> np.ndarray:
        if len(shape) > 1 and _bare(shape) != _bare(self._row_shape):
            raise ValueError(f"X has rows of shape {shape}, but {type(self).__name__} expects rows of shape {self._row_shape}")
        return X.reshape(len(X), *self._row_shape)

    def _outputs(self, X) -> np.ndarray:
        check_is_fitted(self)
        with num_threads(_threads(self.n_jobs)):
            return self.model_.predict(self._rows(X))

    # -- after the fit

    def recalibrate(self, X):
        """Replace the running statistics of every batch norm by the exact ones of the rows `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)
            Usually the training rows.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        with num_threads(_threads(self.n_jobs)):
            self.model_.recalibrate(self._rows(X))
        return self

    def network(self) -> Network:
        """The fitted network, for rows in the shape of the `X` that was fitted."""
        check_is_fitted(self)
        network = self.model_.network()
        if not self._given_flat or len(self._row_shape) == 1:
            return network
        layers, weights = (Reshape(self._row_shape), *network.layers), [{}, *network.weights]
        return Network(layers, (self.n_features_in_,), weights, network.dtype)

    def network_and_meaning(self) -> tuple:
        """The fitted network, the kind of its outputs as `FoldedModel` has it, and the labels or None."""
        return self.network(), self._kind, getattr(self, "classes_", None)

    def fold(self, *, strict: bool = False, check=None) -> FoldedModel:
        """The same function with every batch norm folded into its neighbours, as a `FoldedModel`.

        Parameters
        ----------
        strict : bool, default=False
            Raise `nbbn.FoldRefused` where a batch norm cannot be folded.
        check : array-like, default=None
            Rows like `X` to compare both networks on, besides the random ones always used.

        Returns
        -------
        folded : FoldedModel
            Takes rows of the shape that was fitted; its `predict` gives labels, or numbers.
        """
        from nbbn.saving import fold

        return fold(
            FoldedModel(self.network(), kind=self._kind, classes=getattr(self, "classes_", None)), strict=strict, check=check
        )

    def save(self, path) -> None:
        """Write the estimator to one file without pickle; `nbbn.load` opens it.

        Layers, weights, parameters, labels, history and the optimiser's state are in it, `callbacks` and `random_state` are not.

        Raises
        ------
        NotFittedError
            Before the fit.
        FileError
            Where the file cannot be written.
        ValueError
            For an optimiser whose learning rate is a function.
        """
        from nbbn.saving import save_sequential_estimator

        check_is_fitted(self)
        save_sequential_estimator(self, path)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "loss_curve_")

    def __sklearn_clone__(self):
        """A clone has the same callbacks, not copies."""
        bare = copy.copy(self)
        bare.callbacks = None
        clone = super(BaseSequential, bare).__sklearn_clone__()
        clone.callbacks = self.callbacks
        return clone


def keep(estimator, arguments: dict) -> None:
    """Every argument of a constructor becomes the attribute of its name."""
    vars(estimator).update({name: value for name, value in arguments.items() if name != "self"})


def _threads(n_jobs: int | None) -> int | None:
    if n_jobs is None or n_jobs > 0:
        return n_jobs
    return max(1, (os.cpu_count() or 1) + 1 + n_jobs)


def _specifications(layers) -> tuple[Layer, ...]:
    """The layers, those of another model without its weights."""
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must hold layers of nbbn.layers, got {layer!r}")
    return tuple(getattr(layer, "specification", layer) for layer in layers)


def _norms_are_of_rows(model: Sequential) -> bool:
    """Whether no batch norm is of images."""
    layers = model._layers
    norms = (shape for layer, shape in zip(layers.layers, layers.shapes) if isinstance(layer, BatchNormalization))
    return all(len(shape) == 1 for shape in norms)


def _bare(shape: Shape) -> Shape:
    """A row's shape; a last axis of length 1 may be there or not."""
    return shape[:-1] if shape[-1:] == (1,) else shape
