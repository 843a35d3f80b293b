"""nbbn's own file: one safetensors file with a JSON header. Nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from nbbn.formats.files import BROKEN, FileError, one_line, read_whole, write_whole
from nbbn.network import Network, Weights

Slots = dict[str, np.ndarray]

__all__ = ["FileError", "labels_from_json", "labels_to_json", "load", "save"]

FORMAT = "nbbn-network"
VERSION = 1
_KEY = "nbbn"
# What the names of an optimiser's tensors begin with.
_SLOTS = "optimizer."
_TAGS = {"float32": "F32", "float64": "F64"}
# safetensors itself refuses longer headers.
_MAX_HEADER = 100_000_000
# Bytes up to which string labels keep a dtype wider than they need: a short file must not ask for gigabytes.
_MAX_PADDED = 2**24
_ADVICE = "write it again with save, or fetch it again"


def save(path, network: Network, meta: dict, slots: Slots | None = None) -> None:
    """Write a network to a file.

    Parameters
    ----------
    path : path-like
        Replaced as a whole once the file has been read back and found equal; untouched if anything fails.
    network : Network
    meta : dict
        JSON-ready values that `load` gives back (tuples as lists): kind of model, classes, report.
    slots : dict of ndarray, optional
        An optimiser's state: `layer.array.slot` -> an array like the layer's.

    Raises
    ------
    TypeError
        For a `meta` that is not a dict or not JSON-ready.
    LayerError
        For a network whose arrays do not fit its layers.
    FileError
        Where the file cannot be written or does not read back equal.
    """
    from safetensors.numpy import save as to_bytes

    if not isinstance(meta, dict):
        raise TypeError(f"meta must be a dict, got {type(meta).__name__}")
    header = {"format": FORMAT, "version": VERSION, "network": network.check().config(), "meta": meta}
    named = {**_named(network.weights), **{f"{_SLOTS}{name}": array for name, array in (slots or {}).items()}}
    header["sha256"] = _digest(named)
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as err:
        raise TypeError(f"meta must be JSON-ready (dicts, lists, strings, finite numbers): {err}") from err
    # safetensors 0.8 writes the memory of a Fortran-ordered array as if it were C-ordered.
    tensors = {name: np.ascontiguousarray(array) for name, array in named.items()}

    def verify(temporary: Path) -> None:
        try:
            read, _, read_slots = load(temporary)
            written = {**_named(read.weights), **{f"{_SLOTS}{name}": array for name, array in read_slots.items()}}
        except FileError:
            written = {}
        if not all(np.array_equal(written.get(name), array) for name, array in tensors.items()):
            raise FileError(f"{path}: the file does not read back equal; the disk or safetensors is at fault")

    write_whole(path, to_bytes(tensors, {_KEY: text}), verify)


def load(path) -> tuple[Network, dict, Slots]:
    """Read what `save` wrote.

    Returns
    -------
    network : Network
        Checked: every array there, of the declared shape and dtype, finite.
    meta : dict
    slots : dict of ndarray
        The optimiser's state; empty without one.

    Raises
    ------
    FileError
        For any other file, in one line; no more is read into memory than the file holds, whatever it promises.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    data, tensors, header = _read(Path(path))
    config, meta = _content(path, header)
    expected = _expected(path, config)
    expected |= {name: expected[like] for name in tensors if (like := _slot_of(name)) in expected}
    found = {name: [t.get("dtype"), t.get("shape")] for name, t in tensors.items() if isinstance(t, dict)}
    if found != expected:
        raise FileError(f"{path}: {_first_difference(expected, found)}; {_ADVICE}")
    try:
        arrays = from_bytes(data)
        weights: Weights = [{} for _ in config["layers"]]
        slots = {name[len(_SLOTS) :]: array for name, array in arrays.items() if name.startswith(_SLOTS)}
        for name in arrays.keys() - {f"{_SLOTS}{name}" for name in slots}:
            i, key = name.split(".", 1)
            weights[int(i)][key] = arrays[name]
        network = Network.from_config(config, weights)
    except (SafetensorError, *BROKEN) as err:
        raise FileError(f"{path}: broken ({one_line(err)}); {_ADVICE}") from err
    if header.get("sha256") != _digest(arrays):
        raise FileError(f"{path}: its numbers are damaged (the checksum differs); {_ADVICE}")
    return network, meta, slots


def labels_to_json(classes) -> dict:
    """Class labels as JSON-ready values that keep their dtype.

    Parameters
    ----------
    classes : array of shape (n,)
        Booleans, integers, floats or strings, or objects that are all `str` or all `int`.

    Raises
    ------
    TypeError
        For labels of any other type, a mix included.
    ValueError
        For another shape, or NaN or infinity.
    """
    classes = np.asarray(classes)
    if classes.ndim != 1:
        raise ValueError(f"class labels must have one axis, got shape {classes.shape}")
    values = classes.tolist()
    if classes.dtype.kind == "O":
        values = [int(v) if isinstance(v, np.integer) else v for v in values]
        kinds = {str if isinstance(v, str) else type(v) for v in values}
        if kinds not in ({str}, {int}):
            names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
            raise TypeError(f"object labels must be all str or all int to be saved, got {names}; convert y")
    elif classes.dtype.kind not in "biufU" or classes.dtype.char == "g":
        raise TypeError(f"class labels must be bool, int, float or str to be saved, got {classes.dtype}; convert y")
    if classes.dtype.kind == "f" and not np.isfinite(classes).all():
        raise ValueError("class labels hold NaN or infinity; only finite labels can be saved")
    return {"dtype": classes.dtype.str, "values": values}


def labels_from_json(labels: dict) -> np.ndarray:
    """The class labels that `labels_to_json` wrote.

    Raises
    ------
    ValueError
        For anything else.
    """
    try:
        dtype, values = np.dtype(labels["dtype"]), labels["values"]
        if dtype.kind not in "biufUO":
            raise ValueError(f"dtype {dtype}")
        if dtype.kind == "U" and dtype.itemsize * len(values) > _MAX_PADDED:
            dtype = np.dtype(f"U{max(map(len, values))}")
        array = np.empty(len(values), dtype)
        array[:] = values
        same = labels_to_json(array)["values"] == values
    except BROKEN as err:
        raise ValueError(f"not class labels: {one_line(err)}") from err
    if not same:
        raise ValueError(f"not class labels: values do not fit the dtype {dtype}")
    return array


def _digest(tensors: dict[str, np.ndarray]) -> str:
    """Checksum of all arrays, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def _slot_of(name: str) -> str | None:
    """The array whose shape a tensor of an optimiser's state has; None for any other tensor."""
    parts = name.removeprefix(_SLOTS).split(".")
    known = name.startswith(_SLOTS) and len(parts) == 3 and parts[2] in ("0", "1", "2")
    return ".".join(parts[:2]) if known else None


def _named(per_layer: list[dict]) -> dict:
    """The layers' arrays (or shapes) by the tensor's name in the file."""
    return {f"{i}.{name}": value for i, values in enumerate(per_layer) for name, value in values.items()}


def _read(path: Path) -> tuple[bytes, dict, dict]:
    """The file's bytes, the entries of its tensors, and nbbn's header."""

    def accept(start: bytes, size: int) -> None:
        if size < 10 or not 2 <= int.from_bytes(start[:8], "little") <= min(size - 8, _MAX_HEADER):
            raise FileError(f"{path}: is no nbbn model file, or cut short; give a file that nbbn saved")

    data = read_whole(path, accept)
    return data, *_header(path, data[8 : 8 + int.from_bytes(data[:8], "little")])


def _header(path: Path, head: bytes) -> tuple[dict, dict]:
    """The entries of the tensors, and nbbn's header, from the file's JSON."""
    try:
        tensors = json.loads(head)
        text = tensors.pop("__metadata__", {}).get(_KEY)
        header = None if text is None else json.loads(text)
    except BROKEN as err:
        raise FileError(f"{path}: is no nbbn model file, or broken; give a file that nbbn saved") from err
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileError(
            f"{path}: is a safetensors file, but not of nbbn; give a file that nbbn saved, or read another program's "
            "weights with nbbn.interop.from_torch(path, layers)"
        )
    return tensors, header


def _content(path, header: dict) -> tuple[dict, dict]:
    """The network's config and the meta of a header of a version that is known."""
    version = header.get("version")
    if not isinstance(version, int) or version < 1:
        raise FileError(f"{path}: format version {version!r} is not a version; {_ADVICE}")
    if version > VERSION:
        raise FileError(f"{path}: has format version {version}, this nbbn reads up to {VERSION}; upgrade nbbn")
    config, meta = header.get("network"), header.get("meta")
    if not isinstance(config, dict) or not isinstance(meta, dict):
        raise FileError(f"{path}: the header lacks network or meta; {_ADVICE}")
    return config, meta


def _expected(path, config: dict) -> dict[str, list]:
    """Tag and shape of each tensor, by name, as the layers ask for them; allocates nothing."""
    from nbbn.layers import layer_from_config

    try:
        tag = _TAGS[config["dtype"]]
        layers = tuple(layer_from_config(layer) for layer in config["layers"])
        bare = Network(layers, tuple(config["input_shape"]), [], np.dtype(config["dtype"]))
        shapes = bare.shapes
        # A unit count such as 3.0 compares equal to an array's length and would fail much later.
        if not all(type(n) is int and n > 0 for shape in shapes for n in shape):
            raise ValueError("shapes must be made of ints above 0")
        wanted = [layer.weight_shapes(shape) for layer, shape in zip(layers, shapes[:-1], strict=True)]
    except BROKEN as err:
        raise FileError(f"{path}: the header describes no network ({one_line(err)}); {_ADVICE}") from err
    return {name: [tag, list(shape)] for name, shape in _named(wanted).items()}


def _first_difference(expected: dict, found: dict) -> str:
    """One sentence on the first tensor that is missing, unexpected or different."""
    if missing := sorted(set(expected) - set(found)):
        return f"tensor {missing[0]} is missing"
    if extra := sorted(set(found) - set(expected)):
        return f"tensor {one_line(extra[0])} belongs to no layer"
    name = next(name for name in expected if expected[name] != found[name])
    (tag, shape), (got_tag, got_shape) = expected[name], found[name]
    return f"tensor {name} must be {tag} of shape {shape}, got {one_line(got_tag)} of shape {one_line(got_shape)}"
