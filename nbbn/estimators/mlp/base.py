"""What both estimators share: parameters and the fit."""

from __future__ import annotations

import copy

from sklearn.base import BaseEstimator

from nbbn.estimators import checks as data
from nbbn.estimators.mlp import callbacks as hooks
from nbbn.estimators.mlp import parameters
from nbbn.estimators.mlp.architecture import Architecture
from nbbn.estimators.mlp.callbacks import CallbackSupportMixin, with_callbacks
from nbbn.estimators.mlp.fitted import FittedMLP
from nbbn.estimators.mlp.fitting import Fitting, Given
from nbbn.estimators.task import Task
from nbbn.runtime import num_threads


class BaseMLP(CallbackSupportMixin, FittedMLP, BaseEstimator):
    """An estimator around a trainer and a predictor; a subclass says what its targets mean."""

    _parameter_constraints: dict = parameters.CONSTRAINTS

    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data. float32 rows are computed in float32, all others in float64, unless `dtype` says otherwise; integers
            are converted batch by batch, sparse rows become dense a few thousand at a time.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values: class labels or an indicator matrix in classification, real numbers in regression.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights. A batch's loss is the weighted mean over its rows, and batch norms' statistics are weighted, as if
            rows were repeated.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Rows that are evaluated after every epoch; with `early_stopping` they take the place of the rows held out.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For NaN or infinity, shapes that do not fit, parameters that do not go together, one sample with batch norm, or
            weights that became infinite. The estimator is then as it was before.
        """
        return self._fit(Given(X, y, sample_weight, X_val, y_val, sample_weight_val))

    def _fit(self, given: Given, *, incremental: bool = False, task: Task | None = None):
        """A fit that raises leaves the estimator as it was."""
        before = self.__dict__.copy()
        try:
            self._fit_checked(given, incremental, task)
        except BaseException:
            self.__dict__ = before
            raise
        if "_skl_callbacks" in before:
            self._skl_callbacks = before["_skl_callbacks"]
        else:
            self.__dict__.pop("_skl_callbacks", None)
        return self

    @with_callbacks
    def _fit_checked(self, given: Given, incremental: bool, task: Task | None) -> None:
        """Check the parameters, then fit."""
        parameters.check_each(self)
        hidden = parameters.hidden_layers(self)
        functions, objects = hooks.split(self.callbacks)
        parameters.check_together(self, hidden, incremental=incremental)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        given.check()
        data.require_y(self, given.y)
        hooks.register(self, objects)
        with num_threads(parameters.threads(self.n_jobs)):
            Fitting(self, hidden, functions, given, incremental=incremental, task=task).run()

    def _check_solver(self) -> bool:
        """AttributeError unless the solver goes by epochs."""
        if self.solver == "lbfgs":
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _check_same(self, architecture: Architecture) -> None:
        """What goes on must be the network that was fitted."""
        held = getattr(self, "_architecture", None)
        if held is not None and architecture.layers != held.layers:
            raise ValueError(
                "hidden_layer_sizes, activation, batch_norm, bn_momentum, bn_epsilon, dropout or loss differ from the fitted "
                "network's: set them back, or call fit with warm_start=False"
            )

    def _task_attributes(self, task: Task) -> dict:
        """The attributes that say what the outputs are."""
        found = {
            "_task": task, "n_outputs_": task.outputs, "out_activation_": task.activation,
            "n_layers_": len(parameters.hidden_sizes(self.hidden_layer_sizes)) + 2,
        }  # fmt: skip
        return found if task.classes is None else {**found, "classes_": task.classes}

    def __sklearn_clone__(self):
        """A clone has the same callbacks, not copies: what they record comes together, as with scikit-learn's `set_callbacks`."""
        bare = copy.copy(self)
        bare.callbacks = None
        clone = super(BaseMLP, bare).__sklearn_clone__()
        clone.callbacks = self.callbacks
        return clone

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self):
        state = super().__getstate__().copy()
        if "_compiled" in state:
            state["_compiled"] = {}
        return state
