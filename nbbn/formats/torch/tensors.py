"""State dicts of PyTorch: a mapping, a `.pt` file through torch, a `.safetensors` file without."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nbbn.formats.files import BROKEN, ZIP, FileError, PathLike, one_line, read_whole

# What training scripts call the state dict within a checkpoint.
_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net_state_dict", "network", "net",
    "params_ema", "params", "ema_state_dict", "ema", "weights", "module",
)  # fmt: skip
_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}


class Tensor(NamedTuple):
    """A tensor, whether of float64, and what fetches its floats once its shape is known to fit."""

    shape: tuple[int, ...]
    double: bool
    fetch: Callable[[], np.ndarray]


def read_tensors(source: Any) -> tuple[str, dict[str, Tensor], bool]:
    """What to call the source in errors, its tensors by name, whether in the modules' order.

    FileError or TypeError for files and objects of other kinds, ImportError for a `.pt` file where
    torch is not installed.
    """
    if isinstance(source, Mapping):
        return "state_dict", _of_mapping("state_dict", source), True
    if not isinstance(source, str | Path) and not hasattr(source, "__fspath__"):
        raise TypeError(f"from_torch takes a state dict or a path, got {type(source).__name__}; "
                        "give model.state_dict()")
    data = read_whole(source)
    # The length of a header may look like the start of a pickle.
    if not data[8:9] == b"{" and data.startswith((ZIP, b"\x80")):
        return str(source), _of_mapping(str(source), _load(source, data)), True
    # Such a file sorts its tensors by name.
    return str(source), _of_safetensors(source, data), False


# -- mappings


def _of_mapping(where: str, given: Mapping[str, Any]) -> dict[str, Tensor]:
    while inner := next((given[n] for n in _WRAPPERS if isinstance(given.get(n), Mapping)), None):
        given = inner
    tensors = {}
    for name, value in given.items():
        if not isinstance(name, str) or not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise FileError(f"{where}: is no state dict, {one_line(name)!r} is a "
                            f"{type(value).__name__}; give model.state_dict()")
        kind = str(value.dtype).removeprefix("torch.")
        if kind not in ("float64", "float32", "float16", "bfloat16", "int64"):
            raise FileError(f"{where}: {one_line(name)} is of {one_line(kind)}; "
                            "only floats are read")
        shape = tuple(int(n) for n in value.shape)
        tensors[name] = Tensor(shape, kind == "float64", partial(_numbers, value))
    return tensors


def _numbers(value: Any) -> np.ndarray:
    """A tensor of torch or an array as an array of floats."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value if str(value.dtype) == "torch.float64" else value.float()).numpy()
    return np.asarray(value)


# -- .pt


def _load(path: PathLike, data: bytes) -> Mapping[str, Any]:
    """The object in a `.pt` file, through torch's loader for tensors alone."""
    try:
        import torch
    except ImportError as err:
        raise ImportError(f"{path}: a .pt file needs the package torch to be read; "
                          "where it is installed, save the state dict as .safetensors") from err
    try:
        if data.startswith(ZIP):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if any("/code/" in name for name in archive.namelist()):
                    raise FileError(f"{path}: is a TorchScript program, which is not run; where it "
                                    "may be, give torch.jit.load(path).state_dict()")
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise FileError(f"{path}: its entries are compressed, which torch's are not; "
                                    "save it again")
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FileError:
        raise
    except Exception as err:  # torch's loader and its unpickler raise of every kind
        if "weights_only" in str(err) or "Weights only" in str(err):
            raise FileError(f"{path}: holds Python objects, such as a whole module, whose code is "
                            "not run; save model.state_dict()") from err
        first = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise FileError(f"{path}: is no state dict, or broken ({one_line(first)}); "
                        "save model.state_dict()") from err
    if not isinstance(loaded, Mapping):
        raise FileError(f"{path}: holds a {type(loaded).__name__}, no state dict; "
                        "save model.state_dict()")
    return loaded


# -- .safetensors


def _of_safetensors(path: PathLike, data: bytes) -> dict[str, Tensor]:
    from safetensors import SafetensorError, deserialize

    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length]) if 2 <= length <= len(data) - 8 else None
        if not isinstance(header, dict):
            raise ValueError("no header")
        entries = deserialize(data)
    except (SafetensorError, *BROKEN) as err:
        raise FileError(f"{path}: is no state dict, or broken ({one_line(err)}); "
                        "give a .pt or .safetensors file") from err
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _SAFETENSORS:
            raise FileError(f"{path}: {one_line(name)} is of {one_line(entry['dtype'])}; "
                            "only floats are read")
        shape, double = tuple(entry["shape"]), entry["dtype"] == "F64"
        tensors[name] = Tensor(shape, double, partial(_decoded, entry))
    return tensors


def _decoded(entry: dict[str, Any]) -> np.ndarray:
    count = math.prod(entry["shape"])
    array = np.frombuffer(entry["data"], _SAFETENSORS[entry["dtype"]], count)
    if entry["dtype"] == "BF16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(entry["shape"])
