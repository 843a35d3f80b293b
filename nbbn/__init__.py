"""nbbn: batch-normalised networks on the CPU, on Numba.

Estimators (`MLPClassifier`, `MLPRegressor`; around any layers `SequentialClassifier`,
`SequentialRegressor`), models of layers as in Keras (`Sequential`, `layers`, `losses`,
`optimizers`, `metrics`, `callbacks`, `initializers`, `regularizers`, `constraints`, `schedules`,
`datasets`, `models`, `utils`, `warning`), rows that do not fit into memory (`Partitions`), other
programs' files (`interop`), folding of batch norm (`fold`, `fold_dense`, `fold_conv`,
`FoldedModel`, `load`), kernels as NumPy functions (`functional`), claims about batch norm, tried
(`evidence`), threads (`set_num_threads`, `num_threads`, `show_config`).
"""

import importlib
import sys
from typing import TYPE_CHECKING

from nbbn import (
    backend,
    callbacks,
    constraints,
    datasets,
    evidence,
    functional,
    initializers,
    interop,
    layers,
    losses,
    metrics,
    models,
    names_of_keras,
    nn,
    optimizers,
    regularizers,
    schedules,
    utils,
    warning,
)
from nbbn.fold import FoldCheckFailed, FoldRefused, FoldReport, fold_conv, fold_dense
from nbbn.folded_model import FoldedModel
from nbbn.formats.files import FileError
from nbbn.layers import Input
from nbbn.loading import fold, load  # the function `fold` stands over the package, imported above
from nbbn.models import Model, Sequential
from nbbn.network import Network
from nbbn.partitions import Partitions
from nbbn.runtime import get_num_threads, num_threads, set_num_threads, show_config
from nbbn.utils import set_random_seed
from nbbn.version import __version__

if TYPE_CHECKING:
    from nbbn.estimators import (
        MLPClassifier,
        MLPRegressor,
        SequentialClassifier,
        SequentialRegressor,
    )

__all__ = [
    "FileError", "FoldCheckFailed", "FoldRefused", "FoldReport", "FoldedModel", "Input",
    "MLPClassifier", "MLPRegressor", "Model", "Network", "Partitions", "Sequential",
    "SequentialClassifier", "SequentialRegressor", "__version__", "backend", "callbacks",
    "constraints", "datasets", "evidence", "fold", "fold_conv", "fold_dense", "functional",
    "get_num_threads", "initializers", "interop", "layers", "load", "losses", "metrics", "models",
    "nn", "num_threads", "optimizers", "regularizers", "schedules", "set_num_threads",
    "set_random_seed", "show_config", "utils", "warning",
]


def __getattr__(name: str) -> object:
    """The estimators, when they are first asked for: scikit-learn's import takes the longest."""
    if name == "keras":  # for programs that say tf.keras
        return sys.modules[__name__]
    if name == "saving":  # which is above the models
        return importlib.import_module("nbbn.saving")
    if name not in ("MLPClassifier", "MLPRegressor", "SequentialClassifier", "SequentialRegressor"):
        return names_of_keras.attribute(__name__, name)
    from nbbn import estimators

    return globals().setdefault(name, getattr(estimators, name))


def __dir__() -> list[str]:
    return __all__
