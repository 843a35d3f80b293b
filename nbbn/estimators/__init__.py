"""scikit-learn estimators."""

from nbbn.estimators.mlp import MLPClassifier, MLPRegressor
from nbbn.estimators.sequential import SequentialClassifier, SequentialRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "SequentialClassifier", "SequentialRegressor"]
