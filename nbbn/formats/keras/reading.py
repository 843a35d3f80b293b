"""Keras's files, `.keras` and `.h5`, read without Keras; no code in them is run."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np

from nbbn.formats.assembly import assembled, wanted_shapes
from nbbn.formats.content import Content, of_layers
from nbbn.formats.files import (
    BROKEN,
    HDF5,
    ZIP,
    FileError,
    PathLike,
    Refused,
    one_line,
    read_whole,
)
from nbbn.formats.keras import hdf5
from nbbn.formats.keras.config import KerasModel, check_layers, read_model
from nbbn.layers import Layer
from nbbn.utils import keras_name

# What broken archives raise besides broken descriptions.
_BROKEN = (
    *BROKEN, zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError, NotImplementedError,
)  # fmt: skip
_MAX_CONFIG = 2**24
# Weights hardly shrink by compression: what claims to grow by more than this is a bomb.
_MAX_GROWTH = 16
_SMALL = 2**20
# Names that some version gives the arrays that nbbn calls otherwise.
_ALIASES = {"depthwise_kernel": "kernel", "moving_mean": "mean", "moving_variance": "var"}


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
        weights = _entry(archive, "model.weights.h5", max(_SMALL, _MAX_GROWTH * len(data)))
    return _assembled(model, layers, _ByClass(hdf5.Hdf5(weights), model))


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """An entry of the archive, read piece by piece and never beyond the limit."""
    if name not in archive.namelist():
        raise Refused(f"has no {name}: not a whole model; save it with model.save('name.keras')")
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"{name} is compressed in a way that Keras does not use; "
                      "save the model again")
    with archive.open(name) as entry:
        parts, size = [], 0
        while part := entry.read(_SMALL):
            size += len(part)
            if size > limit:
                raise Refused(f"{name} unpacks to more than {limit} bytes, which no model's does; "
                              "not read any further")
            parts.append(part)
    return b"".join(parts)


class _ByClass:
    """Arrays of `model.weights.h5`: `layers/<class in snake case, numbered>/vars/<index>`.

    Newer files say the layer's name beside them, which then counts.
    """

    def __init__(self, file: hdf5.Hdf5, model: KerasModel):
        self._file = file
        known = ("layers", "_layer_checkpoint_dependencies")
        tops = [name for name in known if file.has(file.root, name)]
        self._layers = file.group(file.root, tops[0]) if tops else None
        own = zip((keras.name for keras in model.layers), _class_names(model))
        self._places = self._named() or dict(own)

    def _named(self) -> dict[str, str]:
        """Place of each layer by its name, where the file says it."""
        places: dict[str, str] = {}
        if self._layers is None:
            return places
        for place in self._file.names(self._layers):
            group = self._file.group(self._layers, place)
            if self._file.has(group, "vars"):
                for name in self._file.texts(self._file.group(group, "vars"), "name") or ():
                    if name in places:
                        raise Refused(f"has weights of two layers named {one_line(name)!r}")
                    places[name] = place
        return places

    def read(self, layer: Layer, wanted: dict) -> dict[str, np.ndarray]:
        if self._layers is None or layer.name not in self._places:
            raise hdf5.Hdf5Error("its weights are missing")
        group = self._file.group(self._layers, self._places[layer.name], "vars")
        if (found := len(self._file.names(group))) != len(wanted):
            raise hdf5.Hdf5Error(f"has {found} arrays, needs {', '.join(wanted)}")
        return {
            name: self._file.array(group, str(i), shape)
            for i, (name, shape) in enumerate(wanted.items())
        }


def _class_names(model: KerasModel) -> list[str]:
    """Keras's names of the layers' places: the class in snake case, numbered from the second on."""
    seen: dict[str, int] = {}
    names = []
    for keras in model.layers:
        name = keras_name(keras.class_name)
        names.append(f"{name}_{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return names


# -- .h5


def _from_hdf5(data: bytes) -> Content:
    file = hdf5.Hdf5(data)
    config = file.texts(file.root, "model_config")
    if not config:
        raise Refused("holds weights without layers; save the whole model: "
                      "model.save('name.keras')")
    model = read_model(_json(config[0].encode()))
    return _assembled(model, check_layers(model), _ByPath(file))


class _ByPath:
    """Arrays of a whole-model HDF5 file: each layer's group lists their paths, ending in names."""

    def __init__(self, file: hdf5.Hdf5):
        self._file = file
        self._layers = file.group(file.root, "model_weights")

    def read(self, layer: Layer, wanted: dict) -> dict[str, np.ndarray]:
        group = self._file.group(self._layers, str(layer.name))
        paths: dict[str, list[str]] = {}
        for path in self._paths(group):
            *_, last = path.split("/")
            name = last.split(":")[0]
            paths[_ALIASES.get(name, name)] = path.split("/")
        if set(paths) != set(wanted):
            raise hdf5.Hdf5Error(f"has arrays {one_line(sorted(paths))}, needs {', '.join(wanted)}")
        arrays = {}
        for name, shape in wanted.items():
            *groups, last = paths[name]
            arrays[name] = self._file.array(self._file.group(group, *groups), last, shape)
        return arrays

    def _paths(self, group: dict) -> list[str]:
        """The attribute that lists them, which Keras cuts in pieces where it is long."""
        whole = self._file.texts(group, "weight_names")
        if whole is not None:
            return whole
        pieces: list[list[str]] = []
        while piece := self._file.texts(group, f"weight_names{len(pieces)}"):
            pieces.append(piece)
        return [path for piece in pieces for path in piece]


# -- both


def _json(text: bytes) -> Any:
    if len(text) > _MAX_CONFIG:
        raise Refused(f"its config is longer than {_MAX_CONFIG} bytes, which no model's is")
    return json.loads(text)


def _assembled(model: KerasModel, layers: list[Layer], source: _ByClass | _ByPath) -> Content:
    """The model, with the arrays that `source` reads."""
    weights = []
    for layer, wanted in zip(layers, wanted_shapes(layers, model.input_shape)):
        try:
            weights.append(source.read(layer, wanted) if wanted else {})
        except BROKEN as err:
            raise Refused(f"layer {one_line(layer.name)!r} ({type(layer).__name__}): "
                          f"{one_line(err)}") from err
    name = model.name if isinstance(model.name, str) else None
    dtype = layers[0].dtype or "float32"
    return of_layers(assembled(layers, model.input_shape, weights, dtype), name)
