"""What runs ONNX models: ONNX Runtime, or onnx's own evaluator."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.fold.check import FoldCheckFailed
from nbbn.formats.files import one_line
from nbbn.formats.onnx import file
from nbbn.formats.onnx.feeds import Feed
from nbbn.runtime import get_num_threads

Run = Callable[[Feed], list[np.ndarray]]


def engine(path: Path) -> tuple[Callable[[Path], Run], Run]:
    """What opens model files, and this one opened: ONNX Runtime if it can, else the evaluator."""
    try:
        return _on_runtime, _on_runtime(path)
    except Exception:  # not installed, or without a kernel; its exceptions have no common class
        return _on_reference, _on_reference(path)


def _on_runtime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # As the graph says: the runtime folds batch norms too, and rewrites weights in memory.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = get_num_threads()
    options.log_severity_level = 4
    session = open_session(path, options)
    quiet = onnxruntime.RunOptions()
    quiet.log_severity_level = 4
    return lambda feed: session.run(None, feed, quiet)


def open_session(path: Path, options: Any = None) -> Any:
    """An `onnxruntime.InferenceSession` of a file, of a newer format than the runtime's too.

    Parameters
    ----------
    path : Path
    options : onnxruntime.SessionOptions or None

    Raises
    ------
    ImportError
        Without the package onnxruntime.
    Exception
        Of the runtime's own kinds, for what it does not open.
    """
    import onnxruntime

    def opened(file: Path) -> Any:
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(str(file), options, providers=providers)

    try:
        return opened(path)
    except Exception as err:  # its exceptions have no common class
        newest = re.search(r"max supported IR version: (\d+)", str(err))
        if newest is None:
            raise
        with _of_version(path, int(newest[1])) as older:
            return opened(older)


@contextmanager
def _of_version(path: Path, version: int) -> Iterator[Path]:
    """A copy of a file of a newer format that says it is of `version`.

    Today's onnx writes files that today's runtime refuses. Only the number differs: what a runtime
    does not know in such a file it refuses all the same.
    """
    model = file.from_file(path)
    model.skeleton.ir_version = version
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.onnx"
        with open(copy, "wb") as out:  # with the data that were in other files
            file.write(model, out)
        yield copy


def _on_reference(path: Path) -> Run:
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        model = onnx.load(str(path))
        old = any(o.domain in ("", "ai.onnx") and o.version < 14 for o in model.opset_import)
        session = ReferenceEvaluator(model, new_ops=[_inference_norm()] if old else None)
    except Exception as err:  # the evaluator's exceptions have no common class
        raise FoldCheckFailed("no evaluator opens the model, so the fold cannot be checked: "
                              f"{one_line(err, 300)}; install onnxruntime") from err

    def run(feed: Feed) -> list[np.ndarray]:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(session.run(None, feed))

    return run


def _inference_norm() -> type:
    """A batch norm for the evaluator of onnx.

    Its own of versions before 14 mixes in the statistics of the batch.
    """
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):
        op_domain = ""

        def _run(self, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, mean: np.ndarray,
                 var: np.ndarray, epsilon: float = 1e-5,
                 **ignored: object) -> tuple[np.ndarray, ...]:
            along = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
            gain = scale / np.sqrt(var + epsilon)
            centred = (x - mean.reshape(along)) * gain.reshape(along)
            return ((centred + bias.reshape(along)).astype(x.dtype),)

    return BatchNormalization
