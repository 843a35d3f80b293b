"""SequentialRegressor."""

from __future__ import annotations

from typing import Any

from sklearn.base import RegressorMixin

from nbbn.estimators.base import keep
from nbbn.estimators.documentation import docstring
from nbbn.estimators.sequential.base import BaseSequential
from nbbn.estimators.sequential.documentation import ATTRIBUTES, NOTES, PARAMETERS


class SequentialRegressor(RegressorMixin, BaseSequential):
    _classifies = False

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
        keep(self, locals())

    __doc__ = docstring(
        __init__,
        "A regressor of any list of layers.",
        PARAMETERS,
        "n_outputs_ : int\n    Numbers of each row of y.\n" + ATTRIBUTES,
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
        loss='`"mean_squared_error"` (None), `"mean_absolute_error"`, `"huber"`, or an object '
        "of `nbbn.losses`.",
        stratified="",
    )

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
