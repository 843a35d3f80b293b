"""SequentialRegressor."""

from __future__ import annotations

from typing import Any

from sklearn.base import RegressorMixin

from nbbn.estimators.definition import defined
from nbbn.estimators.sequential.base import BaseSequential
from nbbn.estimators.sequential.parameters import ATTRIBUTES, NOTES, PARAMETERS


@defined(
    PARAMETERS,
    ["layers"],
    "A regressor of any list of layers.",
    "n_outputs_ : int\n    Numbers of each row of y." + ATTRIBUTES,
    NOTES
    + """
Examples
--------
>>> import nbbn
>>> from sklearn.datasets import make_regression
>>> X, y = make_regression(500, 5, random_state=0)
>>> y /= y.std()
>>> L = nbbn.layers
>>> layers = [L.Dense(32), L.BatchNormalization(), L.ReLU()]
>>> model = nbbn.SequentialRegressor(layers, epochs=30, random_state=0).fit(X, y)
>>> bool(model.score(X, y) > 0.9)
True
""",
    output=": a `Dense` of one unit per output, without activation",
    empty="linear regression",
    loss='`"mean_squared_error"` (None), `"mean_absolute_error"`, `"huber"`, or an object of '
    "`nbbn.losses`.",
    stratified="",
)
class SequentialRegressor(RegressorMixin, BaseSequential):
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> SequentialRegressor:
        """Train one epoch on these rows.

        The optimiser and the running statistics go on from the last call.

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
        return self._fit(X, y, sample_weight, incremental=True)
