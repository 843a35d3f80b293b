"""MLPClassifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from nbbn.estimators.base import NetworkClassifier
from nbbn.estimators.definition import Parameter, defined
from nbbn.estimators.mlp.base import BaseMLP
from nbbn.estimators.mlp.fit_data import Given
from nbbn.estimators.mlp.mlp_task import MLPTask
from nbbn.estimators.mlp.parameters import ATTRIBUTES, PARAMETERS, POSITIONAL

_PARAMETERS = {
    **PARAMETERS,
    "class_weight": Parameter(
        None, [None, dict, list, StrOptions({"balanced"})], "dict, list, 'balanced' or None", """
        Weights of the classes, by label; 'balanced': `n_samples / (n_classes * np.bincount(y))`.
        For several labels a row a list, a dict from 0 and 1 for each, whose weights multiply.
        They multiply `sample_weight` in training, and leave the validation rows alone."""),
}


@defined(
    _PARAMETERS,
    POSITIONAL,
    """
    Multi-layer perceptron classifier with batch norm, trained on the log loss.

    scikit-learn's `MLPClassifier` on compiled kernels; with `batch_norm=False` it is the same
    network, number for number. Takes two or more classes, or a multilabel indicator matrix.
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None,
                    classes: Any = None) -> MLPClassifier:
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
            Classes across all calls to partial_fit. Required at the first call, unless `y` is an
            indicator matrix; `y` need not contain all of them.

        Returns
        -------
        self : object
            The trained estimator.
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
