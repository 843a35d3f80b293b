"""The peers' names, and which of them are installed here."""

from __future__ import annotations

import importlib
import os
from typing import Any

MODULES = {
    "scikit-learn": "sklearn",
    "PyTorch": "torch",
    "torch.compile": "torch",
    "ONNX Runtime": "onnxruntime",
    "JAX": "jax",
}
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def require(peer: str) -> Any:
    """The peer's module; asv skips the benchmark, by name, where there is none."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        module = importlib.import_module(MODULES[peer])
    except ImportError as error:
        raise NotImplementedError(f"{peer} is not installed: {error}") from error
    if MODULES[peer] == "torch":
        module.set_num_threads(THREADS)
    return module
