"""SequentialClassifier."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import StrOptions

from nbbn.estimators.base import NetworkClassifier
from nbbn.estimators.definition import Parameter, defined
from nbbn.estimators.sequential.base import BaseSequential
from nbbn.estimators.sequential.parameters import ATTRIBUTES, NOTES, PARAMETERS

_PARAMETERS = {
    **PARAMETERS,
    "class_weight": Parameter(
        None, [None, dict, list, StrOptions({"balanced"})], "dict, list, 'balanced' or None", """
        Weight of each label, times `sample_weight`; "balanced": inversely to their numbers. For
        several labels a row a list, a dict from 0 and 1 for each."""),
}


@defined(
    _PARAMETERS,
    ["layers"],
    "A classifier of any list of layers.",
    "classes_ : ndarray of shape (n_classes,)\n    The labels, sorted." + ATTRIBUTES,
    NOTES
    + """
Examples
--------
>>> import nbbn
>>> from sklearn.datasets import load_digits
>>> X, y = load_digits(return_X_y=True)
>>> L = nbbn.layers
>>> layers = [
...     L.Conv2D(8, 3, input_shape=(8, 8, 1)), L.BatchNormalization(), L.ReLU(), L.Flatten(),
... ]
>>> model = nbbn.SequentialClassifier(layers, epochs=5, random_state=0).fit(X / 16, y)
>>> bool(model.score(X / 16, y) > 0.9)
True
""",
    output=": a `Dense` of one unit per class with softmax (of one unit with sigmoid for "
    "`binary_crossentropy`)",
    empty="logistic regression",
    loss='`"sparse_categorical_crossentropy"`, `"categorical_crossentropy"`, or for two classes '
    '`"binary_crossentropy"`; None is the first, and the last where `layers` end with one sigmoid. '
    "Objects of `nbbn.losses` can smooth labels.",
    stratified=", in the proportions of the classes",
)
class SequentialClassifier(NetworkClassifier, BaseSequential):
    def partial_fit(self, X: Any, y: Any, classes: Any = None,
                    sample_weight: Any = None) -> SequentialClassifier:
        """Train one epoch on these rows.

        The optimiser and the running statistics go on from the last call.

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
        known = self._check_classes(classes)
        if known is None and not hasattr(self, "classes_"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._fit(X, y, sample_weight, incremental=True, classes=known)
