"""A fitted MLP as a transformer: the activations of any of its layers, and their names."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from nbbn.estimators import checks
from nbbn.estimators.lazy_rows import outputs_of
from nbbn.estimators.mlp.architecture import NORM_ATTRIBUTES
from nbbn.estimators.mlp.fit_state import Fitted
from nbbn.network import Network
from nbbn.predictor import Predictor


class _OfLayer:
    """An estimator as scikit-learn's `set_output` asks it, with the names of one layer."""

    def __init__(self, estimator: Activations, layer: int):
        self._estimator, self._layer = estimator, layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._estimator, name)

    def get_feature_names_out(self) -> np.ndarray:
        return self._estimator.get_feature_names_out(layer=self._layer)


class Activations(Fitted):
    """What the layers of a fitted MLP make of rows.

    Stands outside scikit-learn's transformers: they wrap the `transform` of their subclasses, and
    know the names of one layer alone.
    """

    def _outputs(self, X: Any, layer: int = -1) -> np.ndarray:
        """Activations of a layer for rows of any kind; the last one's are the network's outputs."""
        check_is_fitted(self)
        with self._own_threads():
            X = checks.check_rows(self, X, reset=False, contiguous=False)
            checks.check_range(X, self._dtype)
            return outputs_of(self._predictor(layer), X)

    def _predictor(self, layer: int) -> Any:
        """The compiled network up to a layer; anew when an attribute holds another array."""
        arrays = [a for name in NORM_ATTRIBUTES for a in getattr(self, name) if a is not None]
        arrays += [*self.coefs_, *self.intercepts_]
        held, predictor = self._predictors.get(layer, ([], None))
        if len(held) != len(arrays) or any(a is not b for a, b in zip(held, arrays)):
            network = self.network()
            if layer != -1:
                end = self._architecture.until(layer)
                layers, weights = network.layers[:end], network.weights[:end]
                network = Network(layers, network.input_shape, weights, network.dtype)
            predictor = Predictor(network) if network.layers else _copies(network.dtype)
            self._predictors[layer] = arrays, predictor
        return predictor

    def transform(self, X: Any, layer: int = -2) -> Any:
        """Activations of one layer for the rows, as they are in inference.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        layer : int, default=-2
            0 is the input, 1 the first hidden layer; -1 is the output layer, -2 the last hidden
            one.

        Returns
        -------
        activations : ndarray of shape (n_samples, units)
            Of the computing dtype; batch norm by the running statistics, no dropout. A frame after
            `set_output`.

        Raises
        ------
        ValueError
            For a layer that the network does not have.
        """
        at = self._layer_number(layer)
        activations = self._outputs(X, -1 if at == self.n_layers_ - 1 else at)
        return _wrap_data_with_container("transform", activations, X, _OfLayer(self, at))

    def get_feature_names_out(self, input_features: Any = None, layer: int = -2) -> np.ndarray:
        """Names of the columns that `transform` gives.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the input's columns; they have to be those of the fit.
        layer : int, default=-2
            As of `transform`.

        Returns
        -------
        names : ndarray of object
            The class's name in lower case with the unit's number; of layer 0 the input's names.

        Raises
        ------
        ValueError
            For a layer that the network does not have, or other names than those of the fit.
        """
        at = self._layer_number(layer)
        names = _check_feature_names_in(self, input_features)
        if at == 0:
            return names
        units = self._architecture.shapes[self._architecture.until(at)][0]
        return np.array([f"{type(self).__name__.lower()}{unit}" for unit in range(units)], object)

    def _layer_number(self, layer: Any) -> int:
        """The layer counted from the input."""
        check_is_fitted(self)
        count = self.n_layers_
        whole = isinstance(layer, Integral) and not isinstance(layer, bool)
        if not whole or not -count <= layer < count:
            raise ValueError(f"layer must be a whole number from {-count} to {count - 1}: the "
                             f"network has {count} layers, input and output included; got "
                             f"{layer!r}")
        return int(layer) % count


def _copies(dtype: np.dtype) -> Any:
    """A network without layers."""
    return lambda x: np.array(x, dtype, order="C")
