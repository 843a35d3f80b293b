"""nbbn: batch-normalised networks on the CPU, on Numba.

Estimators (`MLPClassifier`, `MLPRegressor`), folding of batch norm (`fold`, `fold_dense`, `fold_conv`, `FoldedModel`, `load`),
kernels as NumPy functions (`functional`), threads (`set_num_threads`, `num_threads`, `show_config`).
"""

from nbbn import functional, layers
from nbbn.estimators import MLPClassifier, MLPRegressor
from nbbn.fold import FoldCheckFailed, FoldRefused, FoldReport, fold_conv, fold_dense
from nbbn.interop.files import FileError
from nbbn.network import Network
from nbbn.predictor import FoldedModel
from nbbn.runtime import get_num_threads, num_threads, set_num_threads, show_config
from nbbn.saving import fold, load  # `fold` the function stands over `nbbn.fold` the package, imported above

__version__ = "0.1.0"

__all__ = [
    "FileError",
    "FoldCheckFailed",
    "FoldRefused",
    "FoldReport",
    "FoldedModel",
    "MLPClassifier",
    "MLPRegressor",
    "Network",
    "fold",
    "fold_conv",
    "fold_dense",
    "functional",
    "get_num_threads",
    "layers",
    "load",
    "num_threads",
    "set_num_threads",
    "show_config",
]
