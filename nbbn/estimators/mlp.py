"""MLPClassifier and MLPRegressor: scikit-learn's estimators on our engine, with batch norm."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin

from nbbn.estimators import data
from nbbn.estimators.base import BaseMLP
from nbbn.estimators.meaning import Meaning


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier with batch norm, trained on the log loss.

    scikit-learn's `MLPClassifier` on compiled kernels; with `batch_norm=False` it is the same network, number for number. Takes
    two or more classes, or a multilabel indicator matrix.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer.
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
        Activation of the hidden layers.
    solver : {'adam', 'sgd', 'rmsprop'}, default='adam'
        How the weights are updated: Adam (Kingma and Ba, 2015), stochastic gradient descent, RMSprop (rho 0.9).
    alpha : float, default=0.0001
        L2 penalty: `alpha * sum(kernel**2) / 2` over the rows of a batch joins the batch's loss.
    batch_size : int or 'auto', default='auto'
        Rows of a batch; 'auto' is `min(200, n_samples)`. With batch norm a last batch of one row, or of less than a quarter of a
        batch, joins the one before it.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        For 'sgd': constant; `learning_rate_init / n**power_t` with n the rows seen; or divided by 5 whenever the loss (or score)
        has not improved for `n_iter_no_change` epochs.
    learning_rate_init : float, default=0.001
        The initial learning rate.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Largest number of epochs.
    shuffle : bool, default=True
        Whether the rows are shuffled before each epoch.
    random_state : int, RandomState or None, default=None
        Draws the initial weights, the validation split and the shuffles. The same seed and data give the same bits at any
        number of threads.
    tol : float, default=1e-4
        Training stops when the loss (or score) has not improved by `tol` for `n_iter_no_change` epochs.
    verbose : bool, default=False
        Whether each epoch's loss is printed.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last one.
    momentum : float, default=0.9
        Momentum of 'sgd', in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether 'sgd' uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether a share of the rows is held out, its score decides when to stop, and the best epoch's weights and running
        statistics are kept.
    validation_fraction : float, default=0.1
        The share held out.
    beta_1, beta_2 : float, default=0.9, 0.999
        Weights of the old moments in 'adam'.
    epsilon : float, default=1e-8
        Added to the root in 'adam' and 'rmsprop'.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement before training stops.
    batch_norm : bool, 'pre', 'post' or a list of these, default=True
        Batch norm (Ioffe and Szegedy, 2015) between the affine map and the activation (True, 'pre'), after the activation
        ('post'), or none (False: scikit-learn's network, number for number); a list has one entry per hidden layer.
    bn_momentum : float, default=0.9
        Weight of the old running statistics. They forget their start (the first batch counts in full), so they are right after a
        few batches too.
    bn_epsilon : float, default=1e-5
        Added to the variance inside the root.
    dtype : {None, 'float32', 'float64'}, default=None
        What is computed in; None follows X: float32 stays, all else is float64.
    n_jobs : int or None, default=None
        Threads; -1 for all cores, None for `nbbn.get_num_threads()`.
    callbacks : list of callables or None, default=None
        Each is called as `callback(estimator, logs)` after every epoch; `logs` holds `epoch` (from 1), `epochs`, `loss`,
        `seconds`, `accuracy` (of the training batches), and `val_loss` and `val_score` where there are validation rows.
        Training stops if one returns True.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes.
    coefs_ : list of ndarray of shape (in, out)
        Kernel of each layer, the output layer last.
    intercepts_ : list of ndarray of shape (out,)
        Bias of each layer; zeros for a layer with batch norm, whose beta does its work.
    gammas_, betas_ : list of (ndarray or None)
        Scale and shift of each hidden layer's batch norm.
    running_means_, running_vars_ : list of (ndarray or None)
        Its running statistics; the variance is the biased one.
    loss_, best_loss_ : float
        Last and best training loss; `best_loss_` is None with early stopping.
    loss_curve_ : list of float
        Training loss of each epoch, penalty included.
    validation_scores_, validation_loss_curve_ : list of float or None
        Accuracy and loss of the validation rows after each epoch.
    best_validation_score_ : float or None
        With early stopping, the score of the epoch that was kept.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Rows seen in training.
    n_layers_, n_outputs_ : int
        Layers, input and output included; outputs.
    out_activation_ : str
        Activation of the output layer.
    n_features_in_ : int
        Features seen at the fit.
    feature_names_in_ : ndarray of str
        Their names, where X had names.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from nbbn import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = MLPClassifier((64, 32), max_iter=100, random_state=0, tol=0.01).fit(X / 16, y)
    >>> classifier.score(X / 16, y) > 0.95
    True
    >>> folded = classifier.fold()  # the same answers without batch norm
    """

    def _check_y(self, y, rows: int, dtype) -> np.ndarray:
        return data.check_labels(y, rows)

    def _meaning_of(self, y: np.ndarray) -> Meaning:
        return Meaning.of_labels(y)

    def partial_fit(self, X, y, classes=None):
        """One more epoch over the rows given; optimiser state and running statistics go on from the last call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,), optional
            All classes of all calls; required at the first call unless `y` is an indicator matrix.

        Returns
        -------
        self : object
        """
        if hasattr(self, "classes_"):
            if classes is not None and not np.array_equal(self.classes_, np.unique(np.asarray(classes))):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
                )
            return self._fit(X, y, incremental=True)
        if getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
            return self._fit(X, y, incremental=True)
        if classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._fit(X, y, incremental=True, meaning=Meaning.of_classes(np.unique(np.asarray(classes))))

    def predict(self, X):
        """Classes of the rows `X`: `(n_samples,)`, or an indicator matrix of a multilabel fit."""
        outputs = self._outputs(X)
        answers = self._meaning.decide(outputs)
        return answers if self._meaning.kind == "multilabel" else self.classes_[answers]

    def predict_proba(self, X):
        """Probabilities `(n_samples, n_classes)`, in the order of `classes_`."""
        outputs = self._outputs(X)
        if self._meaning.kind == "classifier" and outputs.shape[1] == 1:
            return np.hstack([1 - outputs, outputs])
        return outputs

    def predict_log_proba(self, X):
        """The logarithm of `predict_proba`; minus infinity for a probability of 0."""
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(p, out=p)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron regressor with batch norm, trained on the squared error.

    scikit-learn's `MLPRegressor` on compiled kernels; with `batch_norm=False` it is the same network, number for number.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer.
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
        Activation of the hidden layers.
    solver : {'adam', 'sgd', 'rmsprop'}, default='adam'
        How the weights are updated: Adam (Kingma and Ba, 2015), stochastic gradient descent, RMSprop (rho 0.9).
    alpha : float, default=0.0001
        L2 penalty: `alpha * sum(kernel**2) / 2` over the rows of a batch joins the batch's loss.
    batch_size : int or 'auto', default='auto'
        Rows of a batch; 'auto' is `min(200, n_samples)`. With batch norm a last batch of one row, or of less than a quarter of a
        batch, joins the one before it.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        For 'sgd': constant; `learning_rate_init / n**power_t` with n the rows seen; or divided by 5 whenever the loss (or score)
        has not improved for `n_iter_no_change` epochs.
    learning_rate_init : float, default=0.001
        The initial learning rate.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Largest number of epochs.
    shuffle : bool, default=True
        Whether the rows are shuffled before each epoch.
    random_state : int, RandomState or None, default=None
        Draws the initial weights, the validation split and the shuffles. The same seed and data give the same bits at any
        number of threads.
    tol : float, default=1e-4
        Training stops when the loss (or score) has not improved by `tol` for `n_iter_no_change` epochs.
    verbose : bool, default=False
        Whether each epoch's loss is printed.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last one.
    momentum : float, default=0.9
        Momentum of 'sgd', in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether 'sgd' uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether a share of the rows is held out, its score decides when to stop, and the best epoch's weights and running
        statistics are kept.
    validation_fraction : float, default=0.1
        The share held out.
    beta_1, beta_2 : float, default=0.9, 0.999
        Weights of the old moments in 'adam'.
    epsilon : float, default=1e-8
        Added to the root in 'adam' and 'rmsprop'.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement before training stops.
    batch_norm : bool, 'pre', 'post' or a list of these, default=True
        Batch norm (Ioffe and Szegedy, 2015) between the affine map and the activation (True, 'pre'), after the activation
        ('post'), or none (False: scikit-learn's network, number for number); a list has one entry per hidden layer.
    bn_momentum : float, default=0.9
        Weight of the old running statistics. They forget their start (the first batch counts in full), so they are right after a
        few batches too.
    bn_epsilon : float, default=1e-5
        Added to the variance inside the root.
    dtype : {None, 'float32', 'float64'}, default=None
        What is computed in; None follows X: float32 stays, all else is float64.
    n_jobs : int or None, default=None
        Threads; -1 for all cores, None for `nbbn.get_num_threads()`.
    callbacks : list of callables or None, default=None
        Each is called as `callback(estimator, logs)` after every epoch; `logs` holds `epoch` (from 1), `epochs`, `loss`,
        `seconds`, and `val_loss` and `val_score` where there are validation rows. Training stops if one returns True.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (in, out)
        Kernel of each layer, the output layer last.
    intercepts_ : list of ndarray of shape (out,)
        Bias of each layer; zeros for a layer with batch norm, whose beta does its work.
    gammas_, betas_ : list of (ndarray or None)
        Scale and shift of each hidden layer's batch norm.
    running_means_, running_vars_ : list of (ndarray or None)
        Its running statistics; the variance is the biased one.
    loss_, best_loss_ : float
        Last and best training loss; `best_loss_` is None with early stopping.
    loss_curve_ : list of float
        Training loss of each epoch, penalty included.
    validation_scores_, validation_loss_curve_ : list of float or None
        R^2 and loss of the validation rows after each epoch.
    best_validation_score_ : float or None
        With early stopping, the score of the epoch that was kept.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Rows seen in training.
    n_layers_, n_outputs_ : int
        Layers, input and output included; outputs.
    out_activation_ : str
        Activation of the output layer.
    n_features_in_ : int
        Features seen at the fit.
    feature_names_in_ : ndarray of str
        Their names, where X had names.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from nbbn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MLPRegressor((32,), batch_size=32, learning_rate_init=0.01, max_iter=100, random_state=0, tol=1.0)
    >>> regressor.fit(X, y).score(X, y) > 0.4
    True
    """

    def _check_y(self, y, rows: int, dtype) -> np.ndarray:
        return data.check_targets(y, rows, dtype)

    def _meaning_of(self, y: np.ndarray) -> Meaning:
        return Meaning("regressor", y.shape[1])

    def partial_fit(self, X, y):
        """One more epoch over the rows given; optimiser state and running statistics go on from the last call."""
        return self._fit(X, y, incremental=True)

    def predict(self, X):
        """Predicted targets, `(n_samples,)`, or `(n_samples, n_outputs)` for several."""
        outputs = self._outputs(X)
        return self._meaning.decide(outputs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
