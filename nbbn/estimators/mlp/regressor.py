"""MLPRegressor."""

from __future__ import annotations

from numbers import Real
from typing import Any

from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from nbbn.estimators.base import keep
from nbbn.estimators.documentation import docstring
from nbbn.estimators.mlp.base import BaseMLP
from nbbn.estimators.mlp.documentation import ATTRIBUTES, PARAMETERS
from nbbn.estimators.mlp.fit_data import Given
from nbbn.estimators.mlp.mlp_task import REGRESSION_LOSSES
from nbbn.estimators.mlp.suggestions import refuses_unknown_names


class MLPRegressor(RegressorMixin, BaseMLP):
    _parameter_constraints: dict[str, list[Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(REGRESSION_LOSSES))],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    @refuses_unknown_names
    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        batch_norm=True,
        bn_momentum=0.9,
        bn_epsilon=1e-5,
        dropout=0.0,
        huber_delta=1.0,
        quantile=0.5,
        clip_norm=None,
        dtype=None,
        n_jobs=None,
        callbacks=None,
        checkpoint=None,
    ):
        keep(self, locals())

    __doc__ = docstring(
        __init__,
        """
        Multi-layer perceptron regressor with batch norm.

        scikit-learn's `MLPRegressor` on compiled kernels; with `batch_norm=False` it is the same
        network, number for number.
        """,
        PARAMETERS,
        ATTRIBUTES,
        """
        See Also
        --------
        MLPClassifier : The same for classes.
        nbbn.Sequential : Networks of any layers.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from nbbn import MLPRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> regressor = MLPRegressor(
        ...     hidden_layer_sizes=(32,), batch_size=32, learning_rate_init=0.01, max_iter=100,
        ...     random_state=0, tol=1.0,
        ... )
        >>> regressor.fit(X, y).score(X, y) > 0.4
        True
        """,
        accuracy="",
        score="R^2",
    )

    @available_if(lambda estimator: estimator._is_stochastic())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Update the model with a single iteration over the given data.

        Optimiser state, learning rate and running statistics go on from the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            The trained estimator.
        """
        return self._fit(Given(X, y, sample_weight), incremental=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
