"""`predict`, `predict_proba` and `transform` of Dask's arrays and dataframes, nothing computed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nbbn.folded_model import FoldedModel
from nbbn.models.base_model import BaseModel
from nbbn.runtime import num_threads


def predict(model: Any, X: Any, *, threads: int = 1) -> Any:
    """What the model's `predict` gives for the rows of a Dask array or dataframe, lazily.

    Parameters
    ----------
    model : estimator, Sequential or FoldedModel
        Of nbbn, fitted; or a fitted pipeline of scikit-learn's that ends in one. Later fits of it
        change nothing here.
    X : dask.array.Array or dask.dataframe.DataFrame
        Rows. Sizes of row chunks may be unknown, and chunks and partitions empty; columns come
        together in one chunk.
    threads : int, default=1
        How many threads a task uses: Dask's workers run several tasks at once.

    Returns
    -------
    dask.array.Array, dask.dataframe.Series or dask.dataframe.DataFrame
        In the chunks of X's rows, or with X's index: a series named `prediction`, or a frame where
        the model answers a row with several numbers.

    Raises
    ------
    ImportError
        Without Dask.
    TypeError, ValueError
        For what is no Dask collection, and as the model's `predict`, for columns or a dtype that it
        does not take.

    Examples
    --------
    >>> import dask.array as da
    >>> import nbbn.dask as nbd
    >>> rows = da.random.random((1_000_000, 64), chunks=(100_000, 64))  # doctest: +SKIP
    >>> labels = nbd.predict(nbbn.load("model.safetensors"), rows)      # doctest: +SKIP
    >>> da.to_zarr(labels, "labels.zarr")                               # doctest: +SKIP
    """
    return _lazy(model, X, "predict", threads)


def predict_proba(model: Any, X: Any, *, threads: int = 1) -> Any:
    """What the model's `predict_proba` gives for a Dask array or dataframe, lazily.

    Parameters
    ----------
    model : estimator or FoldedModel
        A fitted classifier, as of `predict`.
    X, threads
        As of `predict`.

    Returns
    -------
    dask.array.Array or dask.dataframe.DataFrame
        A column for each class; a frame's columns are named by them.

    Raises
    ------
    ImportError, TypeError, ValueError
        As of `predict`.
    AttributeError
        For a model that is no classifier.

    Examples
    --------
    >>> import dask.array as da
    >>> import nbbn
    >>> import nbbn.dask as nbd
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 4))
    >>> clf = nbbn.MLPClassifier((8,), max_iter=200, tol=1e-2, random_state=0).fit(X, X[:, 0] > 0)
    >>> shares = nbd.predict_proba(clf, da.from_array(X, chunks=(16, 4)))
    >>> shares.compute(scheduler="synchronous").shape
    (64, 2)
    """
    return _lazy(model, X, "predict_proba", threads)


def transform(model: Any, X: Any, *, layer: int = -2, threads: int = 1) -> Any:
    """What the `transform` of an MLP gives for a Dask array or dataframe, lazily.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Fitted.
    X : dask.array.Array or dask.dataframe.DataFrame
        As of `predict`.
    layer : int, default=-2
        As of the model's `transform`: 0 is the input, -1 the output layer, -2 the last hidden one.
    threads : int, default=1
        As of `predict`.

    Returns
    -------
    dask.array.Array or dask.dataframe.DataFrame
        A column for each unit of the layer; a frame's columns have the names of
        `get_feature_names_out`.

    Raises
    ------
    ImportError, TypeError, ValueError
        As of `predict`.
    AttributeError
        For a model without layers to look into.

    Examples
    --------
    >>> import dask.array as da
    >>> import nbbn
    >>> import nbbn.dask as nbd
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 4))
    >>> clf = nbbn.MLPClassifier((8,), max_iter=200, tol=1e-2, random_state=0).fit(X, X[:, 0] > 0)
    >>> nbd.transform(clf, da.from_array(X, chunks=(16, 4))).compute(scheduler="synchronous").shape
    (64, 8)
    """
    return _lazy(model, X, "transform", threads, layer=layer)


def _lazy(model: Any, X: Any, method: str, threads: int, **options: Any) -> Any:
    """Answers to a collection: one task a block, and one node of the graph for the model."""
    delayed, is_array = kind_of(X)
    with num_threads(threads):  # refuses what is no number of threads
        pass
    if not callable(getattr(type(model), method, None) or getattr(model, method, None)):
        raise AttributeError(f"{method}: a {type(model).__name__} has no {method}")
    model = _inert(model, threads)
    node = delayed(model, traverse=False, pure=False)
    return (_of_array if is_array else _of_frame)(X, model, node, method, threads, options)


def kind_of(X: Any, name: str = "X", *, tables: bool = True) -> tuple[Any, bool]:
    """`dask.delayed`, and whether X is an array; TypeError for what is no collection.

    Frames must be `tables`, or may be series.
    """
    try:
        import dask.array as da
        from dask import delayed, is_dask_collection
    except ImportError as err:
        raise ImportError("nbbn.dask needs Dask: pip install 'dask[array,dataframe]' distributed "
                          f"({err})") from err
    if isinstance(X, da.Array):
        return delayed, True
    if is_dask_collection(X) and hasattr(X, "map_partitions") and hasattr(X, "npartitions"):
        axes = getattr(getattr(X, "_meta", None), "ndim", 0)
        if axes == 2 or (axes == 1 and not tables):
            return delayed, False
    raise TypeError(f"{name} must be a Dask array or dataframe, got {type(X).__name__}; the "
                    "model's own methods take arrays, and dask.array.from_array makes a Dask array "
                    "of one")


def _inert(model: Any, threads: int) -> Any:
    """The model as it is now, without what only fits need."""
    if isinstance(model, BaseModel):
        return FoldedModel(model.network())
    if isinstance(model, FoldedModel) or not hasattr(model, "for_inference"):
        return model
    found = copy.copy(model)
    found.callbacks, found.n_jobs = None, threads
    return found


def _answers(model: Any, rows: Any, method: str, threads: int, options: dict[str, Any]) -> Any:
    with num_threads(threads):
        found = getattr(model, method)(rows, **options)
    return np.asarray(found.toarray() if hasattr(found, "tocsr") else found)


# -- arrays


def _of_array(X: Any, model: Any, node: Any, method: str, threads: int,
              options: dict[str, Any]) -> Any:
    import dask.array as da

    if any(math.isnan(size) for size in X.shape[1:]):
        raise ValueError(f"X must have known columns, got shape {X.shape}; call "
                         "X.compute_chunk_sizes()")
    if X.ndim < 2:
        raise ValueError(f"X must have rows of numbers, got shape {X.shape}; reshape it")
    if max(X.numblocks[1:]) > 1:
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    like = _answers(model, np.zeros((1, *X.shape[1:]), X.dtype), method, threads, options)[:0]
    axes = range(X.ndim, X.ndim + like.ndim - 1)
    block = partial(_block, method=method, threads=threads, options=options, like=like)
    return da.blockwise(
        block, (0, *axes), X, tuple(range(X.ndim)), node, None, concatenate=True, dtype=like.dtype,
        new_axes=dict(zip(axes, like.shape[1:])), align_arrays=False, meta=like,
        token=f"nbbn-{method}")


def _block(rows: Any, model: Any, *, method: str, threads: int, options: dict[str, Any],
           like: np.ndarray) -> np.ndarray:
    """Answers to one block of rows, in the dtype that was promised."""
    if not len(rows):
        return like
    return _answers(model, rows, method, threads, options).astype(like.dtype, copy=False)


# -- dataframes


def _of_frame(X: Any, model: Any, node: Any, method: str, threads: int,
              options: dict[str, Any]) -> Any:
    import pandas as pd

    meta = X._meta
    one = pd.DataFrame({i: np.zeros(1) for i in range(meta.shape[1])})
    one = one.astype(dict(enumerate(meta.dtypes)))
    one.columns = meta.columns
    like = _answers(model, one, method, threads, options)[:0]
    if like.ndim > 2:
        raise ValueError(f"the answer to a row has shape {like.shape[1:]}, which is no row of a "
                         "dataframe: give X as an array, X.to_dask_array()")
    names = None if like.ndim == 1 else _names(model, method, like.shape[1], options)
    block = partial(_block, method=method, threads=threads, options=options, like=like)
    part = partial(_partition, block=block, names=names)
    return X.map_partitions(part, node, meta=_framed(like, meta.index[:0], names))


def _partition(rows: Any, model: Any, *, block: Callable[[Any, Any], np.ndarray],
               names: list[Any] | None) -> Any:
    """Answers to one partition."""
    return _framed(block(rows, model), rows.index, names)


def _framed(values: np.ndarray, index: Any, names: list[Any] | None) -> Any:
    import pandas as pd

    if names is None:
        return pd.Series(values, index=index, name="prediction")
    return pd.DataFrame(values, index=index, columns=names)


def _names(model: Any, method: str, columns: int, options: dict[str, Any]) -> list[Any]:
    """What the columns of an answer are called."""
    if method == "transform":
        return list(model.get_feature_names_out(**options))
    classes = getattr(model, "classes_", None)
    if method == "predict_proba" and classes is not None and len(classes) == columns:
        return list(np.asarray(classes).tolist())
    return list(range(columns))
