"""scikit-learn's contract around any list of layers."""

from nbbn.models.estimators.classifier import SequentialClassifier
from nbbn.models.estimators.regressor import SequentialRegressor

__all__ = ["SequentialClassifier", "SequentialRegressor"]
