"""MLPClassifier and MLPRegressor: what each has for itself."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from nbbn.estimators.base import CLASS_WEIGHT, NetworkClassifier
from nbbn.estimators.definition import ABOVE_0, Parameter, defined
from nbbn.estimators.mlp.base import BaseMLP
from nbbn.estimators.mlp.fit_data import Given
from nbbn.estimators.mlp.mlp_task import REGRESSION_LOSSES, MLPTask
from nbbn.estimators.mlp.parameters import ATTRIBUTES, PARAMETERS, POSITIONAL
from nbbn.estimators.partitions import answers_and_targets, hold_targets
from nbbn.partitions.partitions import Partitions


@defined(
    PARAMETERS | {
        "class_weight": Parameter(None, CLASS_WEIGHT, "dict, list, 'balanced' or None", """
            Weights of the classes, by label; 'balanced': `n_samples / (n_classes *
            np.bincount(y))`. For several labels a row a list, a dict from 0 and 1 for each, whose
            weights multiply. They multiply `sample_weight` in training, and leave the validation
            rows alone."""),
    },
    POSITIONAL,
    """
    Multi-layer perceptron classifier with batch norm, trained on the log loss.

    scikit-learn's `MLPClassifier` on compiled kernels; with `batch_norm=False` it is the same
    network, number for number. Takes two or more classes, or a multilabel indicator matrix.

    With batch norm three things are other than scikit-learn's where nothing is said: the rate is
    0.002, the penalty `alpha` 0.05, and batch norm starts with the scale and the bias that
    scikit-learn's layer would have had (`gammas_` at the standard deviation that Glorot's kernel
    gives to standardised columns, `betas_` at the draws for the bias).
    """,
    "classes_ : ndarray of shape (n_classes,)\n    Labels of the classes." + ATTRIBUTES,
    """
    See Also
    --------
    MLPRegressor : The same for numbers.
    nbbn.Sequential : Networks of any layers.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from nbbn import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = MLPClassifier((64, 32), max_iter=100, random_state=0, tol=0.01)
    >>> classifier.fit(X / 16, y).score(X / 16, y) > 0.95
    True
    >>> folded = classifier.fold()  # the same answers without batch norm
    """,
    accuracy=", `accuracy` (of the batches)",
    score="Accuracy",
)
class MLPClassifier(NetworkClassifier, BaseMLP):
    loss = "log_loss"

    @available_if(lambda estimator: estimator._is_stochastic())
    @hold_targets
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None,
                    classes: Any = None) -> MLPClassifier:
        """Update the model with a single iteration over the given data.

        Optimiser state, learning rate and running statistics go on from the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or Partitions
            The input data; partitions hold targets and weights, too.
        y : array-like of shape (n_samples,)
            The target values; None with partitions.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        classes : array of shape (n_classes,), default=None
            Classes across all calls to partial_fit. Required at the first call, unless `y` is an
            indicator matrix; `y` need not contain all of them.

        Returns
        -------
        self : object
            The trained estimator.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> rng = np.random.default_rng(0)
        >>> clf = nbbn.MLPClassifier((8,), random_state=0)
        >>> for _ in range(3):
        ...     X = rng.normal(size=(200, 4))
        ...     clf = clf.partial_fit(X, X[:, 0] > 0, classes=[False, True])
        ...
        >>> clf.t_, clf.classes_
        (600, array([False,  True]))
        """
        known, task = self._check_classes(classes), None
        if not hasattr(self, "classes_") and (len(shape := np.shape(y)) != 2 or shape[1] == 1):
            if known is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            task = MLPTask.of_classes(known)
        return self._fit(Given(X, y, sample_weight), incremental=True, task=task)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@defined(
    PARAMETERS | {
        "loss": Parameter(
            "squared_error", [StrOptions(set(REGRESSION_LOSSES))],
            "{'squared_error', 'absolute_error', 'huber', 'poisson', 'quantile'}", """
            What is minimised: half the squared error, the absolute error, Huber's (1964) loss, half
            the Poisson deviance (the output activation is then the exponential, and targets must
            not be below 0), or the pinball loss of `quantile`."""),
        "huber_delta": Parameter(1.0, [ABOVE_0], "float", """
            The residual at which the loss 'huber' turns linear."""),
        "quantile": Parameter(0.5, [Interval(Real, 0, 1, closed="neither")], "float", """
            The quantile that the loss 'quantile' estimates, between 0 and 1."""),
        "normalize_y": Parameter(None, [None, "boolean"], "bool or None", """
            Whether the network is trained on targets of mean 0 and variance 1, column by column (of
            'huber' with one factor for all columns), and its output layer then brought to their
            units, so that answers, attributes and files are in those; losses and `tol` are those of
            the standardised targets. The first fit says of all rows, by their weights (the first
            `partial_fit` of its own), what mean and variance are; a warm start and further calls
            keep it. None: with batch norm in any layer. Never for counts, the loss 'poisson'."""),
    },
    ["loss", *POSITIONAL],
    """
    Multi-layer perceptron regressor with batch norm.

    scikit-learn's `MLPRegressor` on compiled kernels; with `batch_norm=False` it is the same
    network, number for number.

    With batch norm four things are other than scikit-learn's where nothing is said: the rate is
    0.002, the penalty `alpha` 0.05, batch norm starts with the scale and the bias that
    scikit-learn's layer would have had (see `MLPClassifier`), and the network is trained on
    standardised targets from their mean on, the output layer at 0 (see `normalize_y`).
    """,
    ATTRIBUTES,
    """
    See Also
    --------
    MLPClassifier : The same for classes.
    nbbn.Sequential : Networks of any layers.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from nbbn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MLPRegressor(
    ...     hidden_layer_sizes=(32,), batch_size=32, learning_rate_init=0.01, max_iter=100,
    ...     random_state=0, tol=1.0,
    ... )
    >>> regressor.fit(X, y).score(X, y) > 0.4
    True
    """,
    accuracy="",
    score="R^2",
)
class MLPRegressor(RegressorMixin, BaseMLP):
    @available_if(lambda estimator: estimator._is_stochastic())
    @hold_targets
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Update the model with a single iteration over the given data.

        Optimiser state, learning rate and running statistics go on from the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or Partitions
            The input data; partitions hold targets and weights, too.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values; None with partitions.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            The trained estimator.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> rng = np.random.default_rng(0)
        >>> model = nbbn.MLPRegressor(hidden_layer_sizes=(8,), random_state=0)
        >>> for _ in range(3):
        ...     X = rng.normal(size=(200, 4))
        ...     model = model.partial_fit(X, X.sum(1))
        ...
        >>> model.t_
        600
        """
        return self._fit(Given(X, y, sample_weight), incremental=True)

    @hold_targets
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination R^2 of what `predict` gives.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or Partitions
            The input data; partitions hold targets and weights, too.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The true values; None with partitions.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        score : float
        """
        if not isinstance(X, Partitions):
            return super().score(X, y, sample_weight)
        Given(X, y, sample_weight).check()
        answers, y, sample_weight = answers_and_targets(self, X)
        return float(r2_score(y, answers, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
