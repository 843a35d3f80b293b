"""What an estimator around layers can be asked for: each parameter's default, rules and text."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from sklearn.utils._param_validation import HasMethods, Interval

from nbbn.callbacks import Callback
from nbbn.estimators.base import NetworkEstimator
from nbbn.estimators.definition import COUNT, DTYPE, FROM_0, REQUIRED, SHARE, Parameter
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


class Parameters(NetworkEstimator):
    """What both estimators can be asked for."""

    layers: Iterable[Any]
    loss: str | Loss | None
    optimizer: str | Optimizer
    batch_size: int
    epochs: int
    validation_fraction: float
    early_stopping: bool
    n_iter_no_change: int
    tol: float
    shuffle: bool
    dtype: str | None
    verbose: bool | int
    random_state: Any
    warm_start: bool
