"""What an MLP can be asked for: each parameter's default, rules and text."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions

from nbbn.estimators.base import NetworkEstimator
from nbbn.estimators.definition import ABOVE_0, COUNT, DTYPE, FROM_0, SHARE, Parameter

STOCHASTIC = ("sgd", "adam", "adamw", "rmsprop")
ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu",
               "softplus")
# Schedules that know how many steps there will be.
PLANNED_RATES = ("cosine", "one_cycle")
RATES = ("constant", "invscaling", "adaptive", *PLANNED_RATES)
# Those that may come without a name.
POSITIONAL = ("hidden_layer_sizes", "activation")
# What an object of scikit-learn's callbacks has.
PROTOCOL = ["setup", "teardown", "on_fit_task_end"]

PARAMETERS = {
    "hidden_layer_sizes": Parameter(
        (100,), ["array-like", COUNT], "array-like of shape (n_layers - 2,)", """
        The ith element is the number of units of the ith hidden layer."""),
    "activation": Parameter(
        "relu", [StrOptions(set(ACTIVATIONS)), list, tuple, np.ndarray], "str or list of str", """
        Activation of the hidden layers: 'identity', 'logistic', 'tanh', 'relu', 'leaky_relu' (slope
        0.2), 'elu', 'selu', 'gelu' (by the error function), 'silu' or 'softplus'; a list has one
        entry per hidden layer."""),
    "solver": Parameter(
        "adam", [StrOptions({"lbfgs", *STOCHASTIC})],
        "{'lbfgs', 'sgd', 'adam', 'adamw', 'rmsprop'}", """
        How the weights are found: a quasi-Newton method on all rows at once (scipy's L-BFGS-B; with
        batch norm it needs memory for all of them as float64), or by stochastic gradients: gradient
        descent, Adam (Kingma and Ba, 2015), Adam with decoupled weight decay (Loshchilov and
        Hutter, 2019), RMSprop (rho 0.9; Tieleman and Hinton, 2012)."""),
    "alpha": Parameter(None, [None, FROM_0], "float or None", """
        L2 penalty: `alpha * sum(kernel**2) / 2` over the rows of a batch (the sum of their weights)
        joins the batch's loss. With 'adamw' it is the decoupled decay instead: every trained array
        shrinks by `alpha` times the learning rate before each step, and the loss is left alone.
        None: 0.05 with batch norm in any layer, else 0.0001."""),
    "batch_size": Parameter("auto", [StrOptions({"auto"}), COUNT], "int or 'auto'", """
        Rows of a batch; 'auto' is `min(200, n_samples)`. With batch norm a last batch of one row,
        or of less than a quarter of a batch, joins the one before it. Without effect on
        'lbfgs'."""),
    "learning_rate": Parameter(
        "constant", [StrOptions(set(RATES)), callable], "str or callable", """
        The learning rate of the stochastic solvers, all of them. 'constant': `learning_rate_init`;
        'invscaling': `learning_rate_init / (n + 1)**power_t` with n the rows seen before the epoch;
        'adaptive': divided by 5 whenever the loss (or score) has not improved for
        `n_iter_no_change` epochs; 'cosine': half a cosine from `learning_rate_init` to 0 over
        `max_iter` epochs; 'one_cycle': up to `learning_rate_init` and down to almost nothing over
        `max_iter` epochs (Smith and Topin, 2018). A function, or an object of `nbbn.schedules`,
        takes the number of the step, counted from 0, and gives the rate."""),
    "learning_rate_init": Parameter(None, [None, ABOVE_0], "float or None", """
        The initial learning rate, or the largest of 'one_cycle'. None: 0.002 with batch norm in any
        layer, else 0.001."""),
    "power_t": Parameter(0.5, [FROM_0], "float", "Exponent of 'invscaling'."),
    "max_iter": Parameter(200, [COUNT], "int", """
        Largest number of epochs; of iterations with 'lbfgs'."""),
    "shuffle": Parameter(True, ["boolean"], "bool", """
        Whether the rows are shuffled before each epoch."""),
    "random_state": Parameter(None, ["random_state"], "int, RandomState instance or None", """
        Draws the initial weights, the rows held out, the shuffles and dropout. The same seed and
        data give the same bits at any number of threads."""),
    "tol": Parameter(1e-4, [FROM_0], "float", """
        Training stops when the loss (or score) has not improved by `tol` for `n_iter_no_change`
        epochs; with 'lbfgs', when the largest entry of the gradient is below it."""),
    "verbose": Parameter(False, ["verbose"], "bool", """
        Whether progress is shown: a bar on a terminal, lines elsewhere."""),
    "warm_start": Parameter(False, ["boolean"], "bool", """
        Whether `fit` goes on from the weights and running statistics of the last one, with a fresh
        optimiser."""),
    "momentum": Parameter(0.9, [Interval(Real, 0, 1, closed="both")], "float", """
        Momentum of 'sgd', from 0 to 1."""),
    "nesterovs_momentum": Parameter(True, ["boolean"], "bool", """
        Whether 'sgd' uses Nesterov's momentum."""),
    "early_stopping": Parameter(
        False, ["boolean", StrOptions({"loss", "score"})], "bool, 'score' or 'loss'", """
        Whether a share of the rows is held out (or `X_val` given), its score (True, 'score') or its
        loss ('loss') decides when to stop, and the best epoch's weights and running statistics are
        kept. Without effect on 'lbfgs'; not for `partial_fit`."""),
    "validation_fraction": Parameter(0.1, [SHARE], "float", "The share held out."),
    "beta_1": Parameter(0.9, [SHARE], "float", """
        Weight of the old first moment in 'adam' and 'adamw', in [0, 1)."""),
    "beta_2": Parameter(0.999, [SHARE], "float", """
        Weight of the old second moment in 'adam' and 'adamw', in [0, 1)."""),
    "epsilon": Parameter(1e-8, [ABOVE_0], "float", """
        Added to the root in 'adam' and 'adamw', within the root in 'rmsprop'."""),
    "n_iter_no_change": Parameter(10, [COUNT, Options(Real, {np.inf})], "int or inf", """
        Epochs without improvement before training stops."""),
    "max_fun": Parameter(15000, [COUNT], "int", """
        Largest number of evaluations of the loss with 'lbfgs'."""),
    "batch_norm": Parameter(
        True, ["boolean", StrOptions({"pre", "post"}), list, tuple, np.ndarray],
        "bool, 'pre', 'post' or a list of these", """
        Batch norm (Ioffe and Szegedy, 2015) between the affine map and the activation (True,
        'pre'), after the activation ('post'), or none (False: scikit-learn's network, number for
        number); a list has one entry per hidden layer. A layer with batch norm has no bias: beta
        does its work."""),
    "bn_momentum": Parameter(0.9, [SHARE], "float", """
        Weight of the old running statistics. They forget their start (the first batch counts in
        full), so they are right after a few batches too. With 'lbfgs' they are those of all
        rows."""),
    "bn_epsilon": Parameter(1e-5, [ABOVE_0], "float", "Added to the variance inside the root."),
    "dropout": Parameter(0.0, [SHARE, list, tuple, np.ndarray], "float or list of float", """
        Share of each hidden layer's values that are set to 0 in training, the others scaled up
        (Srivastava et al., 2014); a list has one entry per hidden layer."""),
    "residual": Parameter(False, ["boolean"], "bool", """
        Whether each hidden layer but the first adds what it reads to what it gives:
        `h + dropout(activation(batch_norm(h @ W)))`, one-layer blocks of He et al. (2016) whose
        activation stands within the block, so that all batch norms fold. All hidden layers have one
        width then. Beside a shortcut gamma and beta start at a tenth of what they are elsewhere.
        Networks of four and more hidden layers train better so."""),
    "clip_norm": Parameter(None, [None, ABOVE_0], "float or None", """
        Bound of the Euclidean norm of all gradients of a step together; a longer one is scaled down
        to it."""),
    "dtype": Parameter(None, [None, DTYPE], "{None, 'float32', 'float64'}", """
        What is computed in; None follows X: float32 stays, all else is float64. 'lbfgs' computes in
        float64 and rounds its result."""),
    "n_jobs": Parameter(None, [None, Integral], "int or None", """
        Threads; -1 for all cores, None for `nbbn.get_num_threads()`."""),
    "callbacks": Parameter(
        None, [None, list, tuple, HasMethods("__call__"), HasMethods(PROTOCOL)],
        "callback, list of callbacks or None", """
        Functions, called as `callback(estimator, logs)` after every epoch; training stops if one
        returns True. `logs` holds `epoch` (from 1), `epochs`, `loss`, `seconds`$accuracy, and,
        where there are validation rows, `val_loss` and `val_score`. Or objects of scikit-learn's
        protocol (from 1.9 on), as `set_callbacks` takes them."""),
    "checkpoint": Parameter(None, [None, str, os.PathLike], "path-like or None", """
        A file that holds the state of the fit after every epoch. A fit with the same parameters and
        data that finds it goes on from there, and ends with the bits that it would have ended with;
        `max_iter` may be larger. Delete it to begin anew."""),
}  # fmt: skip

ATTRIBUTES = """
coefs_ : list of ndarray of shape (in, out)
    Kernel of each layer, the output layer last.
intercepts_ : list of ndarray of shape (out,)
    Bias of each layer; zeros for a layer with batch norm.
gammas_, betas_ : list of (ndarray or None)
    Scale and shift of each hidden layer's batch norm.
running_means_, running_vars_ : list of (ndarray or None)
    Running mean and (biased) variance of each hidden layer's batch norm.
loss_ : float
    The last training loss.
best_loss_ : float or None
    The smallest training loss; None with early stopping.
loss_curve_ : list of float
    Training loss of each epoch, penalty included.
validation_scores_ : list of float or None
    $score of the validation rows after each epoch.
validation_loss_curve_ : list of float or None
    Loss of the validation rows after each epoch, without the penalty.
best_validation_score_ : float or None
    With early stopping, the score of the epoch that was kept.
n_iter_ : int
    Epochs (iterations) of the last fit.
learning_rate_init_, alpha_ : float
    The parameters of these names, or what stands for None.
t_ : int
    Rows seen in training by the stochastic solvers.
n_layers_, n_outputs_ : int
    Layers, input and output included; outputs.
out_activation_ : str
    Activation of the output layer.
n_features_in_ : int
    Features seen at the fit.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Their names, where X had names that are all strings.
"""


class Parameters(NetworkEstimator):
    """What an MLP can be asked for; what one class alone has is asked of that class."""

    loss: str
    hidden_layer_sizes: Any
    activation: Any
    solver: str
    alpha: float | None
    batch_size: int | str
    learning_rate: str | Callable[[int], float]
    learning_rate_init: float | None
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: bool | int
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool | str
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    batch_norm: Any
    bn_momentum: float
    bn_epsilon: float
    dropout: Any
    residual: bool
    class_weight: Any
    huber_delta: float
    quantile: float
    normalize_y: bool | None
    clip_norm: float | None
    dtype: str | None
    checkpoint: str | os.PathLike[str] | None
