"""nbbn's own file: one safetensors file with a JSON header. Nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.formats.content import Content, Slots
from nbbn.formats.files import BROKEN, FileError, PathLike, one_line, read_whole, write_whole
from nbbn.layers import layer_from_config
from nbbn.network import Graph, Network, Weights
from nbbn.warning import warn

SUFFIX = ".safetensors"
FORMAT = "nbbn-network"
VERSION = 1
_KEY = "nbbn"
# What the names of an optimiser's tensors begin with.
_SLOTS = "optimizer."
_TAGS = {"float32": "F32", "float64": "F64"}
# safetensors itself refuses longer headers.
_MAX_HEADER = 100_000_000
_ADVICE = "write it again with save, or fetch it again"


def save(path: PathLike, network: Network, meta: dict[str, Any],
         slots: Slots | None = None) -> None:
    """Write a network to a file, replaced as a whole once it has been read back and found equal.

    `load` gives back `meta`, JSON-ready values (tuples as lists): kind of model, classes, report;
    `slots` is an optimiser's state: `layer.array.slot` -> an array like the layer's. TypeError for
    a `meta` that is not JSON-ready or a layer's argument that is a function, LayerError for arrays
    that do not fit, FileError where the file cannot be written or does not read back equal; it is
    untouched then.
    """
    from safetensors.numpy import save as to_bytes

    _check_name(path)
    if not isinstance(meta, dict):
        raise TypeError(f"meta must be a dict, got {type(meta).__name__}")
    for layer in network.layers:
        layer.check_written()
    described, named = network.check().config(), _all_named(network, slots or {})
    header = {"format": FORMAT, "version": VERSION, "network": described, "meta": meta,
              "sha256": _digest(named)}
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as err:
        raise TypeError("meta must be JSON-ready (dicts, lists, strings, finite numbers): "
                        f"{err}") from err
    # safetensors 0.8 writes the memory of a Fortran-ordered array as if it were C-ordered.
    tensors = {name: np.ascontiguousarray(array) for name, array in named.items()}

    def verify(temporary: Path) -> None:
        try:
            read = load(temporary)
            written = _all_named(read.network, read.slots)
        except FileError:
            written = {}
        same = (n in written and np.array_equal(written[n], a) for n, a in tensors.items())
        if not all(same):
            raise FileError(f"{path}: the file does not read back equal; "
                            "the disk or safetensors is at fault")

    write_whole(path, to_bytes(tensors, {_KEY: text}), verify)


# Names that promise another format, and the way to that.
_FOREIGN = {
    ".onnx": "nbbn.interop.to_onnx(model), or fold() and then write(path)",
    ".c": "fold() and then to_c() or write(path)",
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "joblib.dump(model, path)"),
    **dict.fromkeys((".pt", ".pth", ".pb", ".tflite", ".npz"), "an export to ONNX"),
}


def _check_name(path: PathLike) -> None:
    """FileError for a name that promises another format; a warning for Keras's, which tutorials
    give.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _FOREIGN:
        raise FileError(f"{path}: save writes nbbn's own format; call the file .safetensors, or "
                        f"for {suffix} use {_FOREIGN[suffix]}")
    if suffix in (".keras", ".h5", ".hdf5") and not str(path).endswith(".weights.h5"):
        warn(f"{path} holds nbbn's own format, which nbbn.load opens and Keras does not; call it "
             ".safetensors")


def load(path: PathLike) -> Content:
    """Read what `save` wrote: every array there, of the declared shape and dtype, finite.

    FileError for any other file, in one line; no more is read into memory than the file holds,
    whatever it promises.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    data, tensors, header = _read(Path(path))
    config, meta = _content(path, header)
    expected = _expected(path, config)
    expected |= {name: expected[like] for name in tensors if (like := _slot_of(name)) in expected}
    found = {n: [t.get("dtype"), t.get("shape")] for n, t in tensors.items() if isinstance(t, dict)}
    if found != expected:
        raise FileError(f"{path}: {_first_difference(expected, found)}; {_ADVICE}")
    try:
        arrays, slots = from_bytes(data), Slots()
        weights: Weights = [{} for _ in config["layers"]]
        for name, array in arrays.items():
            if name.startswith(_SLOTS):
                slots[name[len(_SLOTS) :]] = array
            else:
                i, key = name.split(".", 1)
                weights[int(i)][key] = array
        network = Network.from_config(config, weights)
    except (SafetensorError, *BROKEN) as err:
        raise FileError(f"{path}: broken ({one_line(err)}); {_ADVICE}") from err
    if header.get("sha256") != _digest(arrays):
        raise FileError(f"{path}: its numbers are damaged (the checksum differs); {_ADVICE}")
    return Content(network, meta, slots)


def _digest(tensors: dict[str, np.ndarray]) -> str:
    """Checksum of all arrays, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def _slot_of(name: str) -> str | None:
    """The array whose shape a tensor of an optimiser's state has; None for any other tensor."""
    found = re.fullmatch(rf"{re.escape(_SLOTS)}([^.]*\.[^.]*)\.[0-9]+", name)
    return found[1] if found else None


def _named(per_layer: list[dict[str, Any]]) -> dict[str, Any]:
    """The layers' arrays (or shapes) by the tensor's name in the file."""
    return {f"{i}.{name}": v for i, values in enumerate(per_layer) for name, v in values.items()}


def _all_named(network: Network, slots: Slots) -> dict[str, np.ndarray]:
    return _named(network.weights) | {f"{_SLOTS}{name}": array for name, array in slots.items()}


def _read(path: Path) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """The file's bytes, the entries of its tensors, and nbbn's header."""

    def accept(start: bytes, size: int) -> None:
        length = int.from_bytes(start[:8], "little")
        if size < 10 or not 2 <= length <= min(size - 8, _MAX_HEADER):
            raise FileError(f"{path}: is no nbbn model file, or cut short; "
                            "give a file that nbbn saved")

    data = read_whole(path, accept)
    return data, *_header(path, data[8 : 8 + int.from_bytes(data[:8], "little")])


def _header(path: Path, head: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of the tensors, and nbbn's header, from the file's JSON."""
    try:
        tensors = json.loads(head)
        text = tensors.pop("__metadata__", {}).get(_KEY)
        header = None if text is None else json.loads(text)
    except BROKEN as err:
        raise FileError(f"{path}: is no nbbn model file, or broken; "
                        "give a file that nbbn saved") from err
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileError(f"{path}: is a safetensors file, but not of nbbn; give a file that nbbn "
                        "saved, or read another program's weights with "
                        "nbbn.interop.from_torch(path, layers)")
    return tensors, header


def _content(path: PathLike, header: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The network's config and the meta of a header of a version that is known."""
    version = header.get("version")
    if not isinstance(version, int) or version < 1:
        raise FileError(f"{path}: format version {version!r} is not a version; {_ADVICE}")
    if version > VERSION:
        raise FileError(f"{path}: has format version {version}, this nbbn reads up to {VERSION}; "
                        "upgrade nbbn")
    config, meta = header.get("network"), header.get("meta")
    if not isinstance(config, dict) or not isinstance(meta, dict):
        raise FileError(f"{path}: the header lacks network or meta; {_ADVICE}")
    return config, meta


def _expected(path: PathLike, config: dict[str, Any]) -> dict[str, list]:
    """Tag and shape of each tensor, by name, as the layers ask for them; allocates nothing."""
    try:
        tag = _TAGS[config["dtype"]]
        layers = tuple(layer_from_config(layer) for layer in config["layers"])
        graph = Graph.from_config(config["graph"]) if "graph" in config else None
        row, dtype = tuple(config["input_shape"]), np.dtype(config["dtype"])
        of_layers = Network(layers, row, [], dtype, graph).layer_shapes
        shapes = [row, *(shape for sources, end in of_layers for shape in (*sources, end))]
        # A unit count such as 3.0 compares equal to an array's length and would fail much later.
        if not all(type(n) is int and n > 0 for shape in shapes for n in shape):
            raise ValueError("shapes must be made of ints above 0")
        wanted = [layer.weight_shapes(*sources)
                  for layer, (sources, _) in zip(layers, of_layers)]
    except BROKEN as err:
        raise FileError(f"{path}: the header describes no network ({one_line(err)}); "
                        f"{_ADVICE}") from err
    return {name: [tag, list(shape)] for name, shape in _named(wanted).items()}


def _first_difference(expected: dict[str, list], found: dict[str, list]) -> str:
    """One sentence on the first tensor that is missing, unexpected or different."""
    if missing := sorted(set(expected) - set(found)):
        return f"tensor {missing[0]} is missing"
    if extra := sorted(set(found) - set(expected)):
        return f"tensor {one_line(extra[0])} belongs to no layer"
    name = next(name for name in expected if expected[name] != found[name])
    (tag, shape), (got_tag, got_shape) = expected[name], found[name]
    return (f"tensor {name} must be {tag} of shape {shape}, "
            f"got {one_line(got_tag)} of shape {one_line(got_shape)}")
