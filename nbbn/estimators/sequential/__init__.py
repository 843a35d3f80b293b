"""scikit-learn's contract around any list of layers."""

from nbbn.estimators.sequential.classifier import SequentialClassifier
from nbbn.estimators.sequential.regressor import SequentialRegressor

__all__ = ["SequentialClassifier", "SequentialRegressor"]
