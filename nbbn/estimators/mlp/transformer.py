"""A fitted network as a transformer: the activations of any of its layers, and their names."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted


class _OfLayer:
    """An estimator as scikit-learn's `set_output` asks it, with the names of one layer."""

    def __init__(self, estimator, layer: int):
        self._estimator, self._layer = estimator, layer

    def __getattr__(self, name):
        return getattr(self._estimator, name)

    def get_feature_names_out(self) -> np.ndarray:
        return self._estimator.get_feature_names_out(layer=self._layer)


class _Activations:
    """Stands outside scikit-learn's transformers: they wrap the `transform` of their subclasses, and know one layer's names."""

    def transform(self, X, layer=-2):
        """Activations of one layer for the rows, as they are in inference.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        layer : int, default=-2
            0 is the input, 1 the first hidden layer; -1 is the output layer, -2 the last hidden one.

        Returns
        -------
        activations : ndarray of shape (n_samples, units)
            Of the computing dtype; batch norm by the running statistics, no dropout. A frame after `set_output`.

        Raises
        ------
        ValueError
            For a layer that the network does not have.
        """
        at = self._layer_number(layer)
        activations = self._outputs(X, -1 if at == self.n_layers_ - 1 else at)
        return _wrap_data_with_container("transform", activations, X, _OfLayer(self, at))


class HiddenActivations(_Activations, TransformerMixin):
    """`transform`, `fit_transform` and `set_output` of an estimator."""

    def get_feature_names_out(self, input_features=None, layer=-2):
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
        return np.array([f"{type(self).__name__.lower()}{unit}" for unit in range(units)], dtype=object)

    def _layer_number(self, layer) -> int:
        """The layer counted from the input."""
        check_is_fitted(self)
        if isinstance(layer, bool) or not isinstance(layer, Integral) or not -self.n_layers_ <= layer < self.n_layers_:
            raise ValueError(
                f"layer must be a whole number from {-self.n_layers_} to {self.n_layers_ - 1}: the network has {self.n_layers_} "
                f"layers, input and output included; got {layer!r}"
            )
        return int(layer) % self.n_layers_
