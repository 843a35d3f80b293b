"""Models on Dask's arrays and dataframes: answers block by block, and fits where the rows lie."""

from nbbn.dask.answers import predict, predict_proba, transform
from nbbn.dask.fit import fit

__all__ = ["fit", "predict", "predict_proba", "transform"]


def __dir__() -> list[str]:
    return __all__
