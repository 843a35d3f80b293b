"""Compile the kernels and keep them, so that later processes start fast: for images, and for timing what is not compiling."""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

from nbbn.commands.arguments import add_threads, threads_of
from nbbn.commands.errors import WorkFailed
from nbbn.commands.progress import fraction_bar

HELP = "compile the kernels beforehand"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn warmup`."""
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=("inference", "training", "all"),
        default="all",
        help="inference compiles a third; training, which validates by inference, and all compile everything (all)",
    )
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
        count = _compile_kernels(_names(args.purpose), dtypes, show)
    with threads_of(args), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an epoch on noise converges to nothing
        for dtype in dtypes:
            _run_once(args.purpose, np.dtype(dtype))
    print(f"{count} kernels ready after {time.perf_counter() - start:.1f} s, kept in {folder}")


def _names(purpose: str) -> list[str]:
    """The kernels that the purpose takes: training takes those of inference too, to validate with."""
    from nbbn.kernels import KERNELS

    return [name for name, kernel in KERNELS.items() if purpose != "inference" or kernel.inference]


def _compile_kernels(names: list[str], dtypes, show) -> int:
    """Compile kernels for every dtype, and for every dtype of input that they may read."""
    from nbbn.inputs import SOURCE_DTYPES
    from nbbn.kernels import KERNELS

    jobs = []
    for name in names:
        reads_source = any(access.dtype == "source" for access in KERNELS[name].buffers().values())
        jobs += [(KERNELS[name], d, s) for d in dtypes for s in (SOURCE_DTYPES if reads_source else (None,))]
    for done, (kernel, dtype, source) in enumerate(jobs, 1):
        kernel.address(np.dtype(dtype), None if source is None else np.dtype(source))
        show(done / len(jobs))
    return len(jobs)


def _run_once(purpose: str, dtype: np.dtype) -> None:
    """What calls the kernels is compiled too: predictions by one thread and by many, and a fit."""
    import nbbn

    x = np.random.default_rng(0).standard_normal((1000, 256)).astype(dtype)
    weights = {"kernel": np.zeros((256, 256), dtype), "bias": np.zeros(256, dtype)}
    folded = nbbn.FoldedModel(nbbn.Network((nbbn.layers.Dense(256),), (256,), [weights], dtype))
    folded.predict(x[:1])
    folded.predict(x)
    if purpose != "inference":
        nbbn.MLPClassifier((256,), max_iter=1, batch_size=500, random_state=0).fit(x, np.arange(1000) % 3).predict(x)
        nbbn.functional.batch_norm_train(x)
