"""Compile the kernels and keep them, so that later processes start fast: for images, for timing."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from nbbn.commands.arguments import add_threads, threads_of
from nbbn.commands.errors import WorkFailed
from nbbn.commands.progress import fraction_bar
from nbbn.dtypes import SOURCE_DTYPES
from nbbn.folded_model import FoldedModel
from nbbn.layers import Dense
from nbbn.network import Network
from nbbn.predictor import Predictor
from nbbn.sparse_rows import SparseRows

EXAMPLES = (
    "warmup",
    "warmup --for inference --dtype float32",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn warmup`."""
    add = parser.add_argument
    add("--for", dest="purpose", choices=("inference", "training", "all"), default="all",
        help="inference compiles a third; training, which validates by inference, and all compile "
        "everything (all)")  # fmt: skip
    add("--dtype", choices=("float32", "float64", "both"), default="both",
        help="which kernels (both)")  # fmt: skip
    add_threads(parser)


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn warmup`."""
    from nbbn.kernels.cache import cache_folder, keeps

    start = time.perf_counter()
    folder = cache_folder()
    if folder is None or not keeps():
        raise WorkFailed("compiled kernels cannot be kept: no folder for them can be written; "
                         "set NUMBA_CACHE_DIR to one")
    dtypes = ("float32", "float64") if args.dtype == "both" else (args.dtype,)
    with fraction_bar("compiling") as show:
        count = _compile_kernels(_names(args.purpose), dtypes, show)
    with threads_of(args), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an epoch on noise converges to nothing
        for dtype in dtypes:
            _run_once(args.purpose, np.dtype(dtype))
    seconds = time.perf_counter() - start
    print(f"{count} kernels ready after {seconds:.1f} s, kept in {folder}")


def _names(purpose: str) -> list[str]:
    """The kernels that the purpose takes: training validates with those of inference."""
    from nbbn.kernels import KERNELS

    return [name for name, kernel in KERNELS.items() if purpose != "inference" or kernel.inference]


def _compile_kernels(names: list[str], dtypes: Sequence[str], show: Callable[[float], None]) -> int:
    """Compile kernels for every dtype, and for every dtype of rows that they may read."""
    from nbbn.kernels import KERNELS

    jobs = []
    for kernel in map(KERNELS.__getitem__, names):
        reads_source = any(access.dtype == "source" for access in kernel.buffers().values())
        sources = SOURCE_DTYPES if reads_source else (None,)
        jobs += [(kernel, dtype, source) for dtype in dtypes for source in sources]
    for done, (kernel, dtype, source) in enumerate(jobs, 1):
        kernel.address(np.dtype(dtype), None if source is None else np.dtype(source))
        show(done / len(jobs))
    return len(jobs)


def _run_once(purpose: str, dtype: np.dtype) -> None:
    """What calls the kernels is compiled too: predictions by one and many threads, and a fit."""
    from nbbn.estimators import MLPClassifier
    from nbbn.functional import batch_norm_train

    x = np.random.default_rng(0).standard_normal((1000, 256)).astype(dtype)
    weights = {"kernel": np.zeros((256, 256), dtype), "bias": np.zeros(256, dtype)}
    network = Network((Dense(256),), (256,), [weights], dtype)
    folded, of_elements = FoldedModel(network), Predictor(network, sparse=True)
    columns = np.tile(np.arange(256, dtype=np.int32), len(x))
    stored = SparseRows(x.reshape(-1), columns, np.arange(0, x.size + 1, 256), 256)
    for count in (1, len(x)):
        folded.predict(x[:count])
        of_elements(stored[:count])
    if purpose != "inference":
        model = MLPClassifier((256,), max_iter=1, batch_size=500, random_state=0)
        model.fit(x, np.arange(1000) % 3).predict(x)
        batch_norm_train(x)
