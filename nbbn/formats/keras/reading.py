"""Keras's files, `.keras` and `.h5`, read without Keras; no code in them is run."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count, takewhile
from typing import Any

import numpy as np

from nbbn.formats.assembly import assembled, wanted_shapes
from nbbn.formats.content import Content, of_layers
from nbbn.formats.files import BROKEN, HDF5, ZIP, FileError, PathLike, Refused, one_line, read_whole
from nbbn.formats.keras import hdf5
from nbbn.formats.keras.config import KerasModel, check_layers, read_model
from nbbn.layers import Layer
from nbbn.utils import keras_name

# What broken archives raise besides broken descriptions.
_BROKEN = (
    *BROKEN, zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError, NotImplementedError,
)  # fmt: skip
_MAX_CONFIG, _PIECE = 2**24, 2**20
# Names that some version gives the arrays that nbbn calls otherwise.
_ALIASES = {"depthwise_kernel": "kernel", "moving_mean": "mean", "moving_variance": "var"}
Arrays = dict[str, np.ndarray]


def read(path: PathLike) -> Content:
    """The content of a `Sequential`; files and errors are those of `nbbn.interop.from_keras`."""

    def accept(start: bytes, size: int) -> None:
        if not start.startswith((ZIP, HDF5)):
            raise FileError(f"{path}: is no Keras model, or broken; "
                            "give a .keras or .h5 file that Keras saved")

    data = read_whole(path, accept)
    try:
        return _from_zip(data) if data.startswith(ZIP) else _from_hdf5(data)
    except Refused as err:
        raise FileError(f"{path}: {err}") from err
    except _BROKEN as err:
        raise FileError(f"{path}: broken ({one_line(err)}); save the model again") from err


# -- .keras


def _from_zip(data: bytes) -> Content:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        model = read_model(_json(_entry(archive, "config.json", _MAX_CONFIG)))
        layers = check_layers(model)
        weights = _entry(archive, "model.weights.h5", hdf5.most_bytes(data))
    root = hdf5.read(weights)
    known = ("layers", "_layer_checkpoint_dependencies")
    top = next((hdf5.group_in(root, name) for name in known if name in root["entries"]), None)
    places = _named_places(top) or _places_by_class(model) if top else {}
    return _assembled(model, layers, partial(_by_place, top or {}, places))


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """An entry of the archive, read piece by piece and never beyond the limit."""
    if name not in archive.namelist():
        raise Refused(f"has no {name}: not a whole model; save it with model.save('name.keras')")
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"{name} is compressed in a way that Keras does not use; "
                      "save the model again")
    with archive.open(name) as entry:
        parts, size = [], 0
        while part := entry.read(_PIECE):
            size += len(part)
            if size > limit:
                raise Refused(f"{name} unpacks to more than {limit} bytes, which no model's does; "
                              "not read any further")
            parts.append(part)
    return b"".join(parts)


def _by_place(top: dict, places: dict[str, str], layer: Layer, wanted: dict) -> Arrays:
    """A layer's arrays in `model.weights.h5`: `layers/<place>/vars/<index>`."""
    if layer.name not in places:
        raise hdf5.Hdf5Error("its weights are missing")
    group = hdf5.group_in(top, places[layer.name], "vars")
    if (found := len(group["entries"])) != len(wanted):
        raise hdf5.Hdf5Error(f"has {found} arrays, needs {', '.join(wanted)}")
    return {name: hdf5.array_in(group, str(i), shape)
            for i, (name, shape) in enumerate(wanted.items())}


def _named_places(top: dict) -> dict[str, str]:
    """Place of each layer by its name, which newer files say beside the arrays."""
    places: dict[str, str] = {}
    for place in top["entries"]:
        group = hdf5.group_in(top, place)
        if "vars" in group["entries"]:
            for name in hdf5.group_in(group, "vars")["texts"].get("name") or ():
                if name in places:
                    raise Refused(f"has weights of two layers named {one_line(name)!r}")
                places[name] = place
    return places


def _places_by_class(model: KerasModel) -> dict[str, str]:
    """The same in older files: the class in snake case, numbered from the second on."""
    seen: Counter[str] = Counter()
    places = {}
    for keras in model.layers:
        name = keras_name(keras.class_name)
        places[keras.name] = f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1
    return places


# -- .h5


def _from_hdf5(data: bytes) -> Content:
    root = hdf5.read(data)
    config = root["texts"].get("model_config")
    if not config:
        raise Refused("holds weights without layers; save the whole model: "
                      "model.save('name.keras')")
    model = read_model(_json(config[0].encode()))
    layers = check_layers(model)
    return _assembled(model, layers, partial(_by_path, hdf5.group_in(root, "model_weights")))


def _by_path(top: dict, layer: Layer, wanted: dict) -> Arrays:
    """A layer's arrays in a whole-model file: its group lists their paths, ending in names."""
    group = hdf5.group_in(top, str(layer.name))
    paths: dict[str, list[str]] = {}
    for path in _paths(group["texts"]):
        name = path.split("/")[-1].split(":")[0]
        paths[name if name in wanted else _ALIASES.get(name, name)] = path.split("/")
    if set(paths) != set(wanted):
        raise hdf5.Hdf5Error(f"has arrays {one_line(sorted(paths))}, needs {', '.join(wanted)}")
    return {name: hdf5.array_in(hdf5.group_in(group, *paths[name][:-1]), paths[name][-1], shape)
            for name, shape in wanted.items()}


def _paths(texts: dict[str, list[str]]) -> list[str]:
    """The attribute that lists them, which Keras cuts in pieces where it is long."""
    if "weight_names" in texts:
        return texts["weight_names"]
    pieces = (texts.get(f"weight_names{i}") for i in count())
    return [path for piece in takewhile(bool, pieces) for path in piece or ()]


# -- both


def _json(text: bytes) -> Any:
    if len(text) > _MAX_CONFIG:
        raise Refused(f"its config is longer than {_MAX_CONFIG} bytes, which no model's is")
    return json.loads(text)


def _assembled(model: KerasModel, layers: list[Layer],
               read_arrays: Callable[[Layer, dict], Arrays]) -> Content:
    """The model, with the arrays that `read_arrays` finds."""
    weights = []
    for layer, wanted in zip(layers, wanted_shapes(layers, model.input_shape)):
        try:
            weights.append(read_arrays(layer, wanted) if wanted else {})
        except BROKEN as err:
            raise Refused(f"layer {one_line(layer.name)!r} ({type(layer).__name__}): "
                          f"{one_line(err)}") from err
    name = model.name if isinstance(model.name, str) else None
    dtype = layers[0].dtype or "float32"
    return of_layers(assembled(layers, model.input_shape, weights, dtype), name)
