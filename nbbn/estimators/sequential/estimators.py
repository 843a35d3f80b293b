"""SequentialClassifier and SequentialRegressor: what each can be asked for, and its words."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import HasMethods, Interval

from nbbn.callbacks import Callback
from nbbn.estimators.base import CLASS_WEIGHT, NetworkClassifier
from nbbn.estimators.definition import COUNT, DTYPE, FROM_0, REQUIRED, SHARE, Parameter, defined
from nbbn.estimators.sequential.base import BaseSequential
from nbbn.losses import Loss
from nbbn.optimizers import Optimizer

PARAMETERS = {
    "layers": Parameter(REQUIRED, [list, tuple], "list of Layer", """
        Of `nbbn.layers`; specifications, which are copied at every fit and never changed. They
        describe everything but the output layer, which is added$output. Where they end so already,
        they are used as they are. An empty list is $empty."""),
    "loss": Parameter(None, [None, str, Loss], "str, Loss or None", "$loss"),
    "optimizer": Parameter("adam", [str, Optimizer], "str or Optimizer", """
        Of `nbbn.optimizers`; copied at every fit."""),
    "batch_size": Parameter(32, [COUNT], "int", "Rows of a batch."),
    "epochs": Parameter(10, [COUNT], "int", """
        Passes over the rows; the most where `early_stopping` is on."""),
    "validation_fraction": Parameter(0.0, [SHARE], "float", """
        Share of the rows held out of training and evaluated after every epoch$stratified."""),
    "early_stopping": Parameter(False, ["boolean"], "bool", """
        Stop when the loss of the rows held out, or of `X_val`, has not fallen by `tol` for
        `n_iter_no_change` epochs, and end with the weights of the best epoch."""),
    "n_iter_no_change": Parameter(10, [COUNT], "int", """
        Epochs without improvement that `early_stopping` puts up with."""),
    "tol": Parameter(1e-4, [FROM_0], "float", "What counts as an improvement of the loss."),
    "shuffle": Parameter(True, ["boolean"], "bool", """
        Whether every epoch takes the rows in an order of its own."""),
    "dtype": Parameter(None, [None, DTYPE], "{None, 'float32', 'float64'}", """
        What is computed in; None: what the layers say, else float32 for float32 rows and float64
        for all others."""),
    "n_jobs": Parameter(
        None, [None, Interval(Integral, None, -1, closed="right"), COUNT], "int", """
        Threads; -1 for all cores, None for as many as nbbn uses anyway. Results do not depend on
        it."""),
    "callbacks": Parameter(
        None, [None, list, tuple, Callback, HasMethods(["set_model", "on_epoch_end"])],
        "Callback or list of Callback", """
        Of `nbbn.callbacks`. Clones share them."""),
    "verbose": Parameter(False, ["verbose"], "bool or int", """
        1 and True: a bar for each epoch on a terminal, a line in a log; 2: a line."""),
    "random_state": Parameter(None, ["random_state"], "int, RandomState instance or None", """
        Initial weights, shuffles, dropout, noise and the rows held out follow from it."""),
    "warm_start": Parameter(False, ["boolean"], "bool", """
        Go on from the last fit, its optimiser included, instead of starting anew."""),
}  # fmt: skip

ATTRIBUTES = """
n_features_in_ : int
    Numbers in a row: of images, height times width times channels.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Where X has names that are all strings.
model_ : Sequential
    The trained model, output layer included.
history_ : dict of list of float
    Figures of every epoch since the first fit, as in `Sequential.fit`.
loss_curve_ : list of float
    Its `loss`.
n_iter_ : int
    Epochs so far.
"""

NOTES = """
Notes
-----
X is of shape `(n, height, width, channels)`, or `(n, features)`: where the first layer has an
`input_shape` (or is an `Input`), rows are reshaped to it, in C order. A fit that raises leaves the
estimator as it was, but for one that goes on from an earlier fit and raises in the middle of
training: `model_` then has the weights so far.
"""


@defined(
    PARAMETERS | {
        "class_weight": Parameter(None, CLASS_WEIGHT, "dict, list, 'balanced' or None", """
            Weight of each label, times `sample_weight`; "balanced": inversely to their numbers. For
            several labels a row a list, a dict from 0 and 1 for each."""),
    },
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
    "`binary_crossentropy`; of an indicator matrix of labels with one sigmoid for each)",
    empty="logistic regression",
    loss='`"sparse_categorical_crossentropy"`, `"categorical_crossentropy"`, or for two classes '
    'and for indicator matrices `"binary_crossentropy"`; None is the first, and the last for those '
    "matrices and where `layers` end with one sigmoid. "
    "Objects of `nbbn.losses` can smooth labels.",
    stratified=", in the proportions of the classes",
)
class SequentialClassifier(NetworkClassifier, BaseSequential):
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, classes: Any = None,
                    sample_weight: Any = None) -> SequentialClassifier:
        """Train one epoch on these rows.

        The optimiser and the running statistics go on from the last call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, channels)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        classes : array-like of shape (n_classes,), default=None
            All labels of all calls; required at the first. Of an indicator matrix the numbers of
            its columns.
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
