"""MLPClassifier and MLPRegressor: scikit-learn's estimators on our engine, with batch norm."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from nbbn.estimators import checks as data
from nbbn.estimators.mlp import documentation
from nbbn.estimators.mlp.base import BaseMLP
from nbbn.estimators.mlp.fitting import Given
from nbbn.estimators.mlp.parameters import keep
from nbbn.estimators.mlp.suggestions import refuses_unknown_names
from nbbn.estimators.task import REGRESSION_LOSSES, Task


class MLPClassifier(ClassifierMixin, BaseMLP):
    __doc__ = documentation.CLASSIFIER

    _parameter_constraints: dict = {
        **BaseMLP._parameter_constraints,
        "class_weight": [None, dict, StrOptions({"balanced"})],
    }
    loss = "log_loss"

    @refuses_unknown_names
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
        max_fun=15000,
        batch_norm=True,
        bn_momentum=0.9,
        bn_epsilon=1e-5,
        dropout=0.0,
        class_weight=None,
        clip_norm=None,
        dtype=None,
        n_jobs=None,
        callbacks=None,
        checkpoint=None,
    ):
        keep(self, locals())

    def _check_y(self, y, rows: int, dtype) -> np.ndarray:
        return data.check_labels(self, y, rows)

    def _task_of(self, y: np.ndarray, given) -> Task:
        return Task.of_labels(y, sparse=hasattr(given, "toarray"))

    def _fitted_task(self) -> Task | None:
        return getattr(self, "_task", None)

    def _check_same_classes(self, y: np.ndarray, warm: bool) -> None:
        """A warm start needs the classes of the last fit, all of them."""
        if not warm or not hasattr(self, "classes_"):
            return
        classes = data.classes_of(y)
        if set(classes.tolist()) != set(self.classes_.tolist()):
            raise ValueError(
                f"warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously got "
                f"{self.classes_}, `y` has {classes}"
            )

    @available_if(lambda estimator: estimator._check_solver())
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Update the model with a single iteration over the given data.

        Optimiser state, learning rate and running statistics go on from the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        y : array-like of shape (n_samples,)
            The target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        classes : array of shape (n_classes,), default=None
            Classes across all calls to partial_fit. Required at the first call, unless `y` is an indicator matrix; `y` need not
            contain all of them.

        Returns
        -------
        self : object
            The trained estimator.
        """
        given, task = Given(X, y, sample_weight), None
        if hasattr(self, "classes_"):
            if classes is not None and not np.array_equal(self.classes_, np.unique(np.asarray(classes))):
                raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}")
        elif len(shape := np.shape(y)) != 2 or shape[1] == 1:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            task = Task.of_classes(np.unique(np.asarray(classes)))
        return self._fit(given, incremental=True, task=task)

    def predict(self, X):
        """Predict using the multi-layer perceptron classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            The predicted classes; an indicator matrix of a multilabel fit.
        """
        outputs = self._outputs(X)
        return self._task.answers(outputs)

    def predict_proba(self, X):
        """Probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            The predicted probability of the sample for each class in the model, where classes are ordered as in `classes_`.
        """
        outputs = self._outputs(X)
        if self.n_outputs_ == 1:
            return np.hstack([1 - outputs, outputs])
        return outputs

    def predict_log_proba(self, X):
        """The logarithm of the probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
            Equivalent to `log(predict_proba(X))`; minus infinity for a probability of 0.
        """
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(p, out=p)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BaseMLP):
    __doc__ = documentation.REGRESSOR

    _parameter_constraints: dict = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(REGRESSION_LOSSES))],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    @refuses_unknown_names
    def __init__(
        self,
        loss="squared_error",
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
        max_fun=15000,
        batch_norm=True,
        bn_momentum=0.9,
        bn_epsilon=1e-5,
        dropout=0.0,
        huber_delta=1.0,
        quantile=0.5,
        clip_norm=None,
        dtype=None,
        n_jobs=None,
        callbacks=None,
        checkpoint=None,
    ):
        keep(self, locals())

    def _check_y(self, y, rows: int, dtype) -> np.ndarray:
        return data.check_targets(self, y, rows, dtype)

    @property
    def _level(self) -> float:
        return float({"huber": self.huber_delta, "quantile": self.quantile}.get(self.loss, 1.0))

    def _task_of(self, y: np.ndarray, given) -> Task:
        return Task("regressor", y.shape[1], loss=self.loss, level=self._level)

    def _fitted_task(self) -> Task | None:
        held = getattr(self, "_task", None)
        return held and replace(held, loss=self.loss, level=self._level)

    def _check_same_classes(self, y: np.ndarray, warm: bool) -> None:
        """Numbers have none."""

    @available_if(lambda estimator: estimator._check_solver())
    def partial_fit(self, X, y, sample_weight=None):
        """Update the model with a single iteration over the given data.

        Optimiser state, learning rate and running statistics go on from the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            The trained estimator.
        """
        return self._fit(Given(X, y, sample_weight), incremental=True)

    def predict(self, X):
        """Predict using the multi-layer perceptron model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predicted values.
        """
        outputs = self._outputs(X)
        return self._task.answers(outputs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
