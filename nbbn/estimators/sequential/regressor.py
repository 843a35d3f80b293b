"""SequentialRegressor."""

from __future__ import annotations

import numpy as np
from sklearn.base import RegressorMixin

from nbbn.estimators.sequential.base import BaseSequential, Shape, keep
from nbbn.estimators.sequential.documentation import DOC
from nbbn.estimators.sequential.targets import numbers
from nbbn.layers import Activation, Dense, Dropout, Flatten, GaussianNoise, Layer, Reshape
from nbbn.losses import Loss
from nbbn.models.compiled import end_of


class SequentialRegressor(RegressorMixin, BaseSequential):
    __doc__ = DOC.format(
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
        keep(self, locals())

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
        y = numbers(y)
        if further and y.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {y.shape[1]} outputs, but the model was fitted with {self.n_outputs_}")
        self.n_outputs_ = y.shape[1]
        return y

    def _other_y(self, y) -> np.ndarray:
        y = numbers(y, "y_val")
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
