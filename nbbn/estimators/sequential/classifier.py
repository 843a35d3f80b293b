"""SequentialClassifier."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import StrOptions

from nbbn import utils
from nbbn.estimators.sequential.base import BaseSequential, Shape, keep
from nbbn.estimators.sequential.documentation import DOC
from nbbn.estimators.sequential.targets import encode, labels
from nbbn.layers import Dense, Layer
from nbbn.losses import Loss
from nbbn.models.compiled import end_of


class SequentialClassifier(ClassifierMixin, BaseSequential):
    __doc__ = DOC.format(
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
        keep(self, locals())

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
        y = labels(y)
        known = None if classes is None else np.unique(labels(classes, "classes"))
        if further:
            if known is not None and not np.array_equal(known, self.classes_):
                raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}")
            return encode(y, self.classes_)
        found = np.unique(y) if known is None else known
        if len(found) < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 classes in y, got only one class: {found[0]!r}")
        self.classes_ = found
        return encode(y, found)

    def _guarded(self, X, y, sample_weight, X_val=None, y_val=None, *, incremental: bool = False, classes=None):
        if incremental and classes is None and not hasattr(self, "classes_"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return super()._guarded(X, y, sample_weight, X_val, y_val, incremental=incremental, classes=classes)

    def _other_y(self, y) -> np.ndarray:
        return encode(labels(y, "y_val"), self.classes_)

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
