"""scikit-learn estimators."""

from nbbn.estimators.mlp.classifier import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
