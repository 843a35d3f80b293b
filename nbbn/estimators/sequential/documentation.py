"""The texts of the docstrings that both estimators have; what differs stands for the `$words`."""

PARAMETERS = """
layers : list of Layer
    Of `nbbn.layers`; specifications, which are copied at every fit and never changed. They describe
    everything but the output layer, which is added$output. Where they end so already, they are used
    as they are. An empty list is $empty.
loss : str, Loss or None
    $loss
optimizer : str or Optimizer
    Of `nbbn.optimizers`; copied at every fit.
batch_size : int
    Rows of a batch.
epochs : int
    Passes over the rows; the most where `early_stopping` is on.
validation_fraction : float
    Share of the rows held out of training and evaluated after every epoch$stratified.
early_stopping : bool
    Stop when the loss of the rows held out, or of `X_val`, has not fallen by `tol` for
    `n_iter_no_change` epochs, and end with the weights of the best epoch.
n_iter_no_change : int
tol : float
shuffle : bool
    Whether every epoch takes the rows in an order of its own.
dtype : {None, "float32", "float64"}
    What is computed in; None: what the layers say, else float32 for float32 rows and float64 for
    all others.
n_jobs : int
    Threads; -1 for all cores, None for as many as nbbn uses anyway. Results do not depend on it.
callbacks : Callback or list of Callback
    Of `nbbn.callbacks`. Clones share them.
verbose : bool or int
    1 and True: a bar for each epoch on a terminal, a line in a log; 2: a line.
random_state : int, RandomState instance or None
    Initial weights, shuffles, dropout, noise and the rows held out follow from it.
warm_start : bool
    Go on from the last fit, its optimiser included, instead of starting anew.
class_weight : dict, "balanced" or None
    Weight of each label, times `sample_weight`; "balanced": inversely to their numbers.
"""

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
