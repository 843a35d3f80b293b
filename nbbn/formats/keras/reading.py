"""Keras's files, `.keras` and `.h5`, read without Keras; no code in them is run."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count, takewhile
from typing import Any

import numpy as np

from nbbn.formats.assembly import assembled
from nbbn.formats.content import Content, of_layers
from nbbn.formats.files import BROKEN, HDF5, ZIP, FileError, PathLike, Refused, one_line, read_whole
from nbbn.formats.keras import hdf5
from nbbn.formats.keras.graph import KerasLayer, KerasModel, Level, read_model
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
    """The content of a `Sequential` or `Model`.

    Files and errors are those of `nbbn.interop.from_keras`.
    """

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
        weights = _entry(archive, "model.weights.h5", hdf5.most_bytes(data))
    root = hdf5.read(weights)
    groups: dict[tuple[str, ...], dict] = {}
    _find_groups(root, model.level, (), groups)
    return _assembled(model, partial(_by_place, groups))


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


# Arrays of layers that are adapted, of which the last is no float and not read.
_ADAPTED = ("mean", "variance", "count")


def _by_place(groups: dict[tuple[str, ...], dict], read: KerasLayer) -> Arrays:
    """A layer's arrays in `model.weights.h5`: `layers/<place>/vars/<index>`."""
    if read.path not in groups:
        raise hdf5.Hdf5Error("its weights are missing")
    group, wanted = hdf5.group_in(groups[read.path], "vars"), read.weights
    if read.adapted is not None:
        return {name: hdf5.array_in(group, str(i), read.adapted)
                for i, name in enumerate(_ADAPTED[:2])}
    if (found := len(group["entries"])) != len(wanted):
        raise hdf5.Hdf5Error(f"has {found} arrays, needs {', '.join(wanted)}")
    return {name: hdf5.array_in(group, str(i), shape)
            for i, (name, shape) in enumerate(wanted.items())}


def _find_groups(group: dict, level: Level, path: tuple[str, ...],
                 found: dict[tuple[str, ...], dict]) -> None:
    """The group of each layer by the names that lead to it, from that of a model on."""
    known = ("layers", "_layer_checkpoint_dependencies")
    top = next((hdf5.group_in(group, name) for name in known if name in group["entries"]), None)
    if top is None:
        return
    for name, place in (_named_places(top) or _places_by_class(level)).items():
        if place in top["entries"]:
            own = (*path, name)
            found[own] = hdf5.group_in(top, place)
            if name in level.models:
                _find_groups(found[own], level.models[name], own, found)


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


def _places_by_class(level: Level) -> dict[str, str]:
    """The same in older files: the class in snake case, numbered from the second on."""
    seen: Counter[str] = Counter()
    places = {}
    for class_name, own in level.layers:
        name = keras_name(class_name)
        places[own] = f"{name}_{seen[name]}" if seen[name] else name
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
    return _assembled(model, partial(_by_path, hdf5.group_in(root, "model_weights")))


def _by_path(top: dict, read: KerasLayer) -> Arrays:
    """A layer's arrays in a whole-model file: its group lists their paths, ending in names.

    Layers of models within stand in the group of the outermost, their names before the arrays'.
    """
    outermost, *inner = read.path
    group, wanted = hdf5.group_in(top, outermost), read.weights
    if read.adapted is not None:
        wanted = dict.fromkeys(_ADAPTED[:2], read.adapted)
    paths: dict[str, list[str]] = {}
    for path in _paths(group["texts"]):
        *places, last = path.split("/")
        name = last.split(":")[0]
        name = name if name in wanted else _ALIASES.get(name, name)
        if not inner or (places and places[-1] == inner[-1]):
            if inner and name in paths and not _leads(places, inner):
                continue  # a layer of the same name in another model
            paths[name] = path.split("/")
    if read.adapted is not None:
        paths.pop(_ADAPTED[-1], None)
    if set(paths) != set(wanted):
        raise hdf5.Hdf5Error(f"has arrays {one_line(sorted(paths))}, needs {', '.join(wanted)}")
    return {name: hdf5.array_in(hdf5.group_in(group, *paths[name][:-1]), paths[name][-1], shape)
            for name, shape in wanted.items()}


def _leads(places: list[str], inner: list[str]) -> bool:
    """Whether the names of a layer's models are all in a path, in their order."""
    rest = iter(places)
    return all(name in rest for name in inner)


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


def _assembled(model: KerasModel, read_arrays: Callable[[KerasLayer], Arrays]) -> Content:
    """The model, with the arrays that `read_arrays` finds."""
    layers, weights, dtype = [read.layer for read in model.layers], list[Arrays](), _dtype_of(model)
    for i, read in enumerate(model.layers):
        try:
            weights.append(read_arrays(read) if read.weights else {})
            if read.adapted is not None:
                adapted: dict[str, Any] = read_arrays(read)
                layers[i] = replace(read.layer, **adapted)
        except BROKEN as err:
            raise Refused(f"layer {one_line(read.layer.name)!r} ({type(read.layer).__name__}): "
                          f"{one_line(err)}") from err
    nested = model.nested
    flat = model.is_chain and (nested is None or model.is_sequential)
    content = of_layers(assembled(layers, model.graph.input_shape, weights, dtype,
                                  None if flat else model.graph), model.name)
    meta = {**content.meta, **({"nested": nested} if nested else {})}
    if model.is_sequential:
        return content._replace(meta={**meta, "model": "Sequential"})
    if flat:
        return content._replace(meta=meta)
    gives = {"gives": "dict"} if model.outputs else {}
    return content._replace(meta={**meta, "inputs": model.inputs, "outputs": model.outputs,
                                  **gives})


def _dtype_of(model: KerasModel) -> str:
    """What all layers compute in; Refused where they differ."""
    layers = [read.layer for read in model.layers]
    if len({layer.dtype for layer in layers}) > 1:
        names = [layer.name for layer in layers if layer.dtype is not None]
        raise Refused(f"layer {names[0]!r} computes in float64, others in float32; "
                      "nbbn computes a whole model in one")
    return layers[0].dtype or "float32"
