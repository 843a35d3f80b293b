"""scikit-learn's multi-layer perceptrons, with batch norm."""

from nbbn.estimators.mlp.classifier import MLPClassifier
from nbbn.estimators.mlp.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
