"""scikit-learn estimators."""

from nbbn.estimators.mlp.estimators import MLPClassifier, MLPRegressor
from nbbn.estimators.sequential.estimators import SequentialClassifier, SequentialRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "SequentialClassifier", "SequentialRegressor"]


def __dir__() -> list[str]:
    return __all__
