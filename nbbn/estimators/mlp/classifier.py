"""MLPClassifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from nbbn.estimators.base import NetworkClassifier, keep
from nbbn.estimators.documentation import docstring
from nbbn.estimators.mlp.base import BaseMLP
from nbbn.estimators.mlp.documentation import ATTRIBUTES, PARAMETERS
from nbbn.estimators.mlp.fit_data import Given
from nbbn.estimators.mlp.mlp_task import MLPTask
from nbbn.estimators.mlp.suggestions import refuses_unknown_names


class MLPClassifier(NetworkClassifier, BaseMLP):
    _parameter_constraints: dict[str, list[Any]] = {
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

    __doc__ = docstring(
        __init__,
        """
        Multi-layer perceptron classifier with batch norm, trained on the log loss.

        scikit-learn's `MLPClassifier` on compiled kernels; with `batch_norm=False` it is the same
        network, number for number. Takes two or more classes, or a multilabel indicator matrix.
        """,
        PARAMETERS,
        "classes_ : ndarray of shape (n_classes,)\n    Labels of the classes.\n" + ATTRIBUTES,
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

    @available_if(lambda estimator: estimator._is_stochastic())
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
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
