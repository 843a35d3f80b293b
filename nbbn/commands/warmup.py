"""Compile the kernels of dense networks and keep them, so that later processes start fast: for images and first uses."""

from __future__ import annotations

import argparse
import time
import warnings
from itertools import product

import numpy as np

from nbbn.commands.arguments import add_threads, threads_of
from nbbn.commands.progress import fraction_bar

HELP = "compile all kernels beforehand"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn warmup`."""
    parser.add_argument("--dtype", choices=("float32", "float64", "both"), default="both", help="which kernels (both)")
    add_threads(parser)


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn warmup`."""
    from nbbn.kernels.cache import cache_folder

    start = time.perf_counter()
    dtypes = ("float32", "float64") if args.dtype == "both" else (args.dtype,)
    jobs = list(product(dtypes, _JOBS))
    with threads_of(args), fraction_bar("compiling") as show, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs on noise converge to nothing
        for done, (dtype, job) in enumerate(jobs, 1):
            job(np.random.default_rng(0), np.dtype(dtype))
            show(done / len(jobs))
    where = cache_folder()
    print(
        f"kernels ready after {time.perf_counter() - start:.1f} s, kept in {where}"
        if where
        else "kernels cannot be kept"
    )


def _rows(rng, dtype, rows=64):
    return rng.standard_normal((rows, 8)).astype(dtype)


def _classify(**params):
    def job(rng, dtype):
        import nbbn

        x = _rows(rng, dtype)
        y = np.arange(len(x)) % params.get("classes", 3)
        kept = {k: v for k, v in params.items() if k != "classes"}
        model = nbbn.MLPClassifier((8, 8), max_iter=2, batch_size=16, random_state=0, **kept)
        model.fit(x, y, X_val=x, y_val=y).predict_proba(x)
        # Few rows are predicted by one thread, many by a team.
        folded = model.fold()
        folded.predict(x[:1])
        folded.predict(_rows(rng, dtype, 50_000))

    return job


def _regress(rng, dtype):
    import nbbn

    x = _rows(rng, dtype)
    nbbn.MLPRegressor((8, 8), max_iter=2, batch_size=16, random_state=0).fit(x, x[:, 0]).fold().predict(x)


def _functions(rng, dtype):
    from nbbn import functional

    x, ones = _rows(rng, dtype), np.ones(8, dtype)
    for activation in (None, "relu"):
        y, cache = functional.batch_norm_train(x, ones, ones, activation=activation)
        functional.batch_norm_backward(y, cache)
        functional.batch_norm_inference(x, ones, ones, ones, ones, activation=activation)


# Between them they name every kernel: activations, solvers, places of batch norm, losses.
_JOBS = (
    *(_classify(activation=name) for name in ("relu", "tanh", "logistic", "identity")),
    *(_classify(solver=name) for name in ("sgd", "rmsprop")),
    *(_classify(batch_norm=place) for place in ("post", False)),
    _classify(classes=2),
    _regress,
    _functions,
)
