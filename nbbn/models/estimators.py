"""SequentialClassifier and SequentialRegressor: scikit-learn's contract around any list of layers."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    check_random_state,
    column_or_1d,
    compute_sample_weight,
)
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from nbbn import losses, utils
from nbbn.callbacks import Callback, EarlyStopping
from nbbn.layers import Activation, Dense, Dropout, Flatten, GaussianNoise, Layer, Reshape
from nbbn.losses import Loss
from nbbn.models.sequential import Sequential
from nbbn.models.session import end_of
from nbbn.network import Network
from nbbn.optimizers import Optimizer
from nbbn.predictor import FoldedModel
from nbbn.runtime import num_threads

Shape = tuple[int, ...]

_DOC = """{summary}

    Parameters
    ----------
    layers : list of Layer
        Of `nbbn.layers`; specifications, which are copied at every fit and never changed. They describe everything but the output
        layer, which is added{output}.
        Where they end so already, they are used as they are. An empty list is {empty}.
    loss : str, Loss or None, default=None
        {loss}
    optimizer : str or Optimizer, default="adam"
        Of `nbbn.optimizers`; copied at every fit.
    batch_size : int, default=32
        Rows of a batch.
    epochs : int, default=10
        Passes over the rows; the most where `early_stopping` is on.
    validation_fraction : float, default=0.0
        Share of the rows held out of training and evaluated after every epoch{stratified}.
    early_stopping : bool, default=False
        Stop when the loss of the rows held out, or of `X_val`, has not fallen by `tol` for `n_iter_no_change` epochs, and end
        with the weights of the best epoch.
    n_iter_no_change : int, default=10
    tol : float, default=1e-4
    shuffle : bool, default=True
        Whether every epoch takes the rows in an order of its own.{class_weight}
    dtype : {{None, "float32", "float64"}}, default=None
        What is computed in; None: what the layers say, else float32 for float32 rows and float64 for all others.
    n_jobs : int, default=None
        Threads; -1 for all cores, None for as many as nbbn uses anyway. Results do not depend on it.
    callbacks : Callback or list of Callback, default=None
        Of `nbbn.callbacks`. Clones share them.
    verbose : bool or int, default=False
        1 and True: a bar for each epoch on a terminal, a line in a log; 2: a line.
    random_state : int, RandomState instance or None, default=None
        Initial weights, shuffles, dropout, noise and the rows held out follow from it.
    warm_start : bool, default=False
        Go on from the last fit, its optimiser included, instead of starting anew.

    Attributes
    ----------
    {fitted}
    n_features_in_ : int
        Numbers in a row: of images, height times width times channels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where X has names that are all strings.
    model_ : Sequential
        The trained model, output layer included.
    history_ : dict of list of float
        Figures of every epoch since the first fit, as in `Sequential.fit`.
    loss_curve_ : list of float
        Its `loss`.
    n_iter_ : int
        Epochs so far.

    Notes
    -----
    X is of shape `(n, height, width, channels)`, or `(n, features)`: where the first layer has an `input_shape` (or is an
    `Input`), rows are reshaped to it, in C order. A fit that raises leaves the estimator as it was, but for one that goes on from
    an earlier fit and raises in the middle of training: `model_` then has the weights so far.

    Examples
    --------
    {example}
    """


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
            Weights of 0 or more: a batch's loss is the sum of weight times loss, over its number of rows.
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
            self.model_, self._loss = self._new_model(specs, X, seed)
            self._specs, self.history_ = specs, {}
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

    def _new_model(self, specs: tuple[Layer, ...], X: np.ndarray, seed: int) -> tuple[Sequential, Loss]:
        """A model of these layers and the output layer, compiled; and its loss."""
        dtype = self._computing_dtype(specs, X)
        if dtype is not None:
            specs = tuple(replace(layer, dtype=dtype) for layer in specs)
        model = Sequential()
        model._chain.seed = seed
        for layer in specs:
            model.add(layer)
        layers, shape = model._chain.layers, X.shape[1:]
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
        return model, loss

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

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "loss_curve_")

    def __sklearn_clone__(self):
        """A clone has the same callbacks, not copies."""
        bare = copy.copy(self)
        bare.callbacks = None
        clone = super(BaseSequential, bare).__sklearn_clone__()
        clone.callbacks = self.callbacks
        return clone


class SequentialClassifier(ClassifierMixin, BaseSequential):
    __doc__ = _DOC.format(
        summary="A classifier of any list of layers.",
        output=": a `Dense` of one unit per class with softmax (of one unit with sigmoid for\n        `binary_crossentropy`)",
        empty="logistic regression",
        loss='`"sparse_categorical_crossentropy"`, `"categorical_crossentropy"`, or for two classes\n'
        '        `"binary_crossentropy"`; None is the first, and the last where `layers` end with one sigmoid.\n'
        '        Objects of `nbbn.losses` can smooth labels.',
        stratified=", in the proportions of the classes",
        class_weight='\n    class_weight : dict, "balanced" or None, default=None\n'
        '        Weight of each label, times `sample_weight`; "balanced": inversely to their numbers.',
        fitted="classes_ : ndarray of shape (n_classes,)\n        The labels, sorted.",
        example=""">>> import nbbn
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> L = nbbn.layers
    >>> layers = [
    ...     L.Conv2D(8, 3, input_shape=(8, 8, 1)), L.BatchNormalization(), L.ReLU(), L.Flatten(),
    ... ]
    >>> model = nbbn.SequentialClassifier(layers, epochs=5, random_state=0).fit(X / 16, y)
    >>> bool(model.score(X / 16, y) > 0.9)
    True""",
    )  # fmt: skip

    _parameter_constraints: dict = {
        **BaseSequential._parameter_constraints,
        "class_weight": [None, dict, StrOptions({"balanced"})],
    }
    _kind = "classifier"
    _metrics = ("accuracy",)

    def __init__(
        self,
        layers,
        *,
        loss=None,
        optimizer="adam",
        batch_size=32,
        epochs=10,
        validation_fraction=0.0,
        early_stopping=False,
        n_iter_no_change=10,
        tol=1e-4,
        shuffle=True,
        class_weight=None,
        dtype=None,
        n_jobs=None,
        callbacks=None,
        verbose=False,
        random_state=None,
        warm_start=False,
    ):
        _keep(self, locals())

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train one epoch on these rows; the optimiser and the running statistics go on from the last call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,), default=None
            All labels of all calls; required at the first.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            As `fit`, and for classes that are missing or differ from the first call's.
        """
        return self._guarded(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X) -> np.ndarray:
        """The most probable label of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).astype(np.int64)]

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities of the labels, in the order of `classes_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
        """
        outputs = self._outputs(X)
        return outputs if outputs.shape[1] > 1 else np.hstack([1 - outputs, outputs])

    def predict_log_proba(self, X) -> np.ndarray:
        """Logarithm of `predict_proba`; minus infinity for a probability of 0."""
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(p, out=p)

    def _fit_y(self, y, further: bool, classes) -> np.ndarray:
        """Each label's index in `classes_`, which the first fit learns."""
        y = _labels(y)
        known = None if classes is None else np.unique(_labels(classes, "classes"))
        if further:
            if known is not None and not np.array_equal(known, self.classes_):
                raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}")
            return _encode(y, self.classes_)
        found = np.unique(y) if known is None else known
        if len(found) < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 classes in y, got only one class: {found[0]!r}")
        self.classes_ = found
        return _encode(y, found)

    def _guarded(self, X, y, sample_weight, X_val=None, y_val=None, *, incremental: bool = False, classes=None):
        if incremental and classes is None and not hasattr(self, "classes_"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return super()._guarded(X, y, sample_weight, X_val, y_val, incremental=incremental, classes=classes)

    def _other_y(self, y) -> np.ndarray:
        return _encode(_labels(y, "y_val"), self.classes_)

    def _strata(self, y):
        return y

    def _weights(self, sample_weight, X, y, incremental):
        weights = super()._weights(sample_weight, X, y, incremental)
        if self.class_weight is None:
            return weights
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which does not know all rows; give a dict from label "
                "to weight"
            )
        by_label = compute_sample_weight(self.class_weight, self.classes_[y])
        return by_label if weights is None else weights * by_label

    def _default_loss(self, shape: Shape, end: str) -> str:
        one_sigmoid = shape == (1,) and end == "sigmoid"
        return "binary_crossentropy" if one_sigmoid and len(self.classes_) == 2 else "sparse_categorical_crossentropy"

    def _output_layer(self, layers: tuple[Layer, ...], shape: Shape, loss: Loss) -> Layer | None:
        """What is missing at the end; None where nothing is."""
        count, end = len(self.classes_), end_of(layers)
        if loss.end is None:
            raise ValueError(f"loss {loss.shown!r} is for regression; use None, or a cross-entropy")
        if loss.end == "sigmoid" and count != 2:
            raise ValueError(f"loss {loss.shown!r} is for 2 classes, y has {count}; use None, or 'categorical_crossentropy'")
        units = 1 if loss.end == "sigmoid" else count
        if end == loss.end and shape == (units,):
            return None
        if end == "softmax" or (end == "sigmoid" and shape == (1,)):
            raise ValueError(
                f"layers end with {end} of {shape[0]} outputs, but y has {count} classes, which with the loss {loss.shown!r} "
                f"need {loss.end} of {units}: end them so, or leave the output layer out"
            )
        return Dense(units, activation=loss.end)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if self._loss.takes_labels or self._loss.end == "sigmoid":
            return y
        return utils.to_categorical(y, len(self.classes_))


class SequentialRegressor(RegressorMixin, BaseSequential):
    __doc__ = _DOC.format(
        summary="A regressor of any list of layers.",
        output=": a `Dense` of one unit per output, without activation",
        empty="linear regression",
        loss='`"mean_squared_error"` (None), `"mean_absolute_error"`, `"huber"`, or an object of `nbbn.losses`.',
        stratified="",
        class_weight="",
        fitted="n_outputs_ : int\n        Numbers of each row of y.",
        example=""">>> import nbbn
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(500, 5, random_state=0)
    >>> y /= y.std()
    >>> L = nbbn.layers
    >>> layers = [L.Dense(32), L.BatchNormalization(), L.ReLU()]
    >>> model = nbbn.SequentialRegressor(layers, epochs=30, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True""",
    )  # fmt: skip

    _kind = "regressor"

    def __init__(
        self,
        layers,
        *,
        loss=None,
        optimizer="adam",
        batch_size=32,
        epochs=10,
        validation_fraction=0.0,
        early_stopping=False,
        n_iter_no_change=10,
        tol=1e-4,
        shuffle=True,
        dtype=None,
        n_jobs=None,
        callbacks=None,
        verbose=False,
        random_state=None,
        warm_start=False,
    ):
        _keep(self, locals())

    def partial_fit(self, X, y, sample_weight=None):
        """Train one epoch on these rows; the optimiser and the running statistics go on from the last call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            As `fit`.
        """
        return self._guarded(X, y, sample_weight, incremental=True)

    def predict(self, X) -> np.ndarray:
        """The outputs for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One axis where there is one output.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def _fit_y(self, y, further: bool, classes) -> np.ndarray:
        y = _numbers(y)
        if further and y.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {y.shape[1]} outputs, but the model was fitted with {self.n_outputs_}")
        self.n_outputs_ = y.shape[1]
        return y

    def _other_y(self, y) -> np.ndarray:
        y = _numbers(y, "y_val")
        if y.shape[1] != self.n_outputs_:
            raise ValueError(f"y_val has {y.shape[1]} outputs, but y has {self.n_outputs_}")
        return y

    def _default_loss(self, shape: Shape, end: str) -> str:
        return "mean_squared_error"

    def _output_layer(self, layers: tuple[Layer, ...], shape: Shape, loss: Loss) -> Layer | None:
        """What is missing at the end; None where nothing is."""
        if loss.end is not None:
            raise ValueError(f"loss {loss.shown!r} is for classification; use None, 'mean_absolute_error' or 'huber'")
        passing = (Flatten, Reshape, Dropout, GaussianNoise)
        last = next((layer for layer in reversed(layers) if not isinstance(layer, passing)), None)
        ready = isinstance(last, (Dense, Activation)) and end_of(layers) == "linear" and shape == (self.n_outputs_,)
        return None if ready else Dense(self.n_outputs_)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        return y


def _keep(estimator, arguments: dict) -> None:
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


def _bare(shape: Shape) -> Shape:
    """A row's shape; a last axis of length 1 may be there or not."""
    return shape[:-1] if shape[-1:] == (1,) else shape


def _labels(y, name: str = "y") -> np.ndarray:
    """Class labels `(n,)`."""
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name=name)
    check_classification_targets(y)
    return y


def _encode(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Each label's index in `classes`."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y holds labels that are not among the classes {classes}: {unknown}")
    return np.searchsorted(classes, y).astype(np.int64)


def _numbers(y, name: str = "y") -> np.ndarray:
    """Targets `(n, outputs)`, float64."""
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name=name)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return y.reshape(len(y), -1)
