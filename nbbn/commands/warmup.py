"""Compile all kernels and keep them, so that later processes start fast: for images, and for timing what is not compiling."""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

from nbbn.commands.arguments import add_threads, threads_of
from nbbn.commands.errors import WorkFailed
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
    folder = cache_folder()
    if folder is None:
        raise WorkFailed(
            "compiled kernels cannot be kept: no folder for them can be written; set NUMBA_CACHE_DIR to one"
        )
    dtypes = ("float32", "float64") if args.dtype == "both" else (args.dtype,)
    with fraction_bar("compiling") as show:
        count = _compile_kernels(dtypes, show)
    with threads_of(args), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an epoch on noise converges to nothing
        for dtype in dtypes:
            _run_everything_once(np.dtype(dtype))
    print(f"{count} kernels ready after {time.perf_counter() - start:.1f} s, kept in {folder}")


def _compile_kernels(dtypes, show) -> int:
    """Compile every kernel for every dtype, and for every dtype of input that it may read."""
    from nbbn.estimators.data import CONVERTED_BY_BATCH
    from nbbn.kernels.registry import KERNELS

    jobs = []
    for kernel in KERNELS.values():
        reads_source = any(access.dtype == "source" for access in kernel.buffers().values())
        jobs += [(kernel, d, s) for d in dtypes for s in (CONVERTED_BY_BATCH if reads_source else (None,))]
    for done, (kernel, dtype, source) in enumerate(jobs, 1):
        kernel.address(np.dtype(dtype), None if source is None else np.dtype(source))
        show(done / len(jobs))
    return len(jobs)


def _run_everything_once(dtype: np.dtype) -> None:
    """A fit, a prediction by one thread and one by many: what calls the kernels is compiled too."""
    import nbbn

    x = np.random.default_rng(0).standard_normal((1000, 256)).astype(dtype)
    model = nbbn.MLPClassifier((256,), max_iter=1, batch_size=500, random_state=0).fit(x, np.arange(1000) % 3)
    folded = model.fold()
    folded.predict(x[:1])
    folded.predict(x)
    nbbn.functional.batch_norm_train(x)
