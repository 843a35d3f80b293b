"""What a Keras file says about a model, as layers of nbbn."""

from __future__ import annotations

from typing import Any, NamedTuple

from nbbn import initializers, layers
from nbbn.formats.assembly import MAX_LAYERS
from nbbn.formats.files import BROKEN, Refused, one_line
from nbbn.initializers import Initializer
from nbbn.layers import Layer

_KNOWN: dict[str, type[Layer]] = {
    name: cls for name in layers.__all__ if name not in ("Input", "Layer")
    and isinstance(cls := getattr(layers, name), type) and issubclass(cls, Layer)
}  # fmt: skip
# Policies by name: all of them keep their weights in float32 or float64.
_DTYPES = {"float32": None, "mixed_float16": None, "mixed_bfloat16": None, "float64": "float64"}
# Arguments that some version of Keras writes and that say nothing here, with the values at which
# that is so.
_NEUTRAL = {"groups": (1,), "virtual_batch_size": (None,), "rms_scaling": (False,)}
_WITHOUT_EFFECT = ("fused", "renorm_clipping", "renorm_momentum", "autocast")
# What to say of a graph of several paths.
_GRAPHS = ("; such a graph is folded as ONNX: model.export('model.onnx', format='onnx') in Keras, "
           "then nbbn fold model.onnx folded.onnx")


class KerasLayer(NamedTuple):
    """A layer as the file has it: Keras's class and name, and nbbn's layer (None for an input)."""

    class_name: str
    name: str
    layer: Layer | None


class KerasModel(NamedTuple):
    """A model as the file describes it: its layers from first to last, and the shape of one row."""

    name: str | None
    layers: list[KerasLayer]
    input_shape: tuple[int, ...]


def read_model(config: Any) -> KerasModel:
    """The model of a JSON config; Refused for all but one known layer after the other."""
    try:
        kind, inner = config["class_name"], config["config"]
        entries = inner if isinstance(inner, list) else inner["layers"]
        if kind not in ("Sequential", "Functional", "Model") or not _is_keras_own(config):
            raise Refused(f"holds a {one_line(kind)}; "
                          "only Sequential models and functional ones of one path are read")
        if len(entries) > MAX_LAYERS:
            raise Refused(f"has {len(entries)} layers; at most {MAX_LAYERS} are read")
        if kind != "Sequential":
            entries = _in_a_row(inner, entries)
        read = [_read_layer(entry) for entry in entries]
        name = inner.get("name") if isinstance(inner, dict) else None
        return KerasModel(name, read, _input_shape(config, inner, entries))
    except Refused:
        raise
    except BROKEN as err:
        raise Refused(f"its config describes no Keras model ({one_line(err)})") from err


# -- one path through a functional model


def _in_a_row(config: dict, entries: list) -> list:
    """The layers of a functional model in the order in which rows pass them."""
    ends: list[str] = []
    for what in ("input", "output"):
        names = _ends(config[f"{what}_layers"])
        if len(names) != 1:
            raise Refused(f"has {len(names)} {what}s; models with one are read")
        ends += names
    (first, last), by_name = ends, {entry["name"]: entry for entry in entries}
    after: dict[str, str] = {}
    for name, entry in by_name.items():
        if name == first:
            continue
        source = _source(name, entry["inbound_nodes"])
        if source in after:
            raise Refused(f"the output of layer {source!r} goes into two layers, "
                          f"{after[source]!r} and {name!r}: no one path{_GRAPHS}")
        after[source] = name
    row: list[dict] = []
    at: str | None = first
    while at is not None and len(row) < len(by_name):
        row.append(by_name[at])
        at = after.get(at)
    if len(row) != len(by_name) or row[-1]["name"] != last or len(by_name) != len(entries):
        raise Refused(f"its layers are no one path from {first!r} to {last!r}")
    return row


def _ends(given: list) -> list:
    """Names of input or output layers, which stand as `[name, 0, 0]` or as a list of these."""
    return [given[0]] if given and isinstance(given[0], str) else [end[0] for end in given]


def _source(name: str, nodes: list) -> str:
    """The layer whose output goes into this one."""
    if len(nodes) != 1:
        raise Refused(f"layer {name!r} is used {len(nodes)} times; "
                      "each layer of one path is used once")
    (node,) = nodes
    if isinstance(node, dict):  # Keras 3
        tensors, options = node["args"], node.get("kwargs") or {}
    else:  # Keras 2
        tensors, options = node, (node[0][3] if node and len(node[0]) > 3 else {})
    if len(tensors) != 1 or isinstance(tensors[0], list) == isinstance(node, dict):
        raise Refused(f"layer {name!r} has more than one input: no one path{_GRAPHS}")
    for option, value in options.items():
        if value is not None:
            raise Refused(f"layer {name!r} is called with {one_line(option)}={one_line(value)}, "
                          "which nbbn has no layer for")
    source, node_index, tensor = (
        tensors[0]["config"]["keras_history"] if isinstance(node, dict) else tensors[0][:3]
    )
    if (node_index, tensor) != (0, 0):
        raise Refused(f"layer {name!r} takes output {tensor} of use {node_index} of {source!r}: "
                      "no one path")
    return source


# -- layers


def _read_layer(entry: dict) -> KerasLayer:
    kind, config = entry["class_name"], dict(entry["config"])
    name = config.get("name") or entry.get("name")
    where = f"layer {one_line(name)!r} ({one_line(kind)})"
    if not isinstance(name, str) or not isinstance(kind, str):
        raise Refused(f"{where}: a layer must have a name and a class")
    if kind == "Lambda":
        raise Refused(f"{where} holds code, which is not run; "
                      "replace it by layers that nbbn has and save the model again")
    if kind in ("Sequential", "Functional", "Model"):
        raise Refused(f"{where} is a model inside the model; "
                      "put its layers in its place and save again")
    if kind == "InputLayer" and _is_keras_own(entry):
        return KerasLayer(kind, name, None)
    if kind not in _KNOWN or not _is_keras_own(entry):
        raise Refused(f"{where} is not known; nbbn has {', '.join(_KNOWN)}")
    if kind == "Activation" and config.get("activation") == "relu6":
        kind, config = "ReLU", {**config, "max_value": 6.0}
        del config["activation"]
    try:
        layer = _KNOWN[kind](**_arguments(_KNOWN[kind], config))
    except BROKEN as err:
        raise Refused(f"{where}: {err if isinstance(err, Refused) else one_line(err)}") from None
    return KerasLayer(entry["class_name"], name, layer)


def _is_keras_own(entry: dict) -> bool:
    """Whether a class is Keras's and not a custom one of the same name; old files do not tell."""
    module, registered = entry.get("module"), entry.get("registered_name")
    roots = "keras", "tf_keras", "builtins"
    own = module is None or (isinstance(module, str) and module.split(".")[0] in roots)
    return own and registered in (None, entry.get("class_name"))


def _arguments(cls: type[Layer], config: dict) -> dict:
    """Keras's arguments of a layer as nbbn's."""
    taken, arguments = cls.__dataclass_fields__, dict[str, Any]()
    for key, value in config.items():
        if key in ("batch_input_shape", "batch_shape"):
            continue  # `_input_shape` reads it
        if key == "dtype":
            arguments[key] = _dtype(value)
        elif key not in taken:
            if key not in _WITHOUT_EFFECT and value not in _NEUTRAL.get(key, (None, False)):
                raise Refused(f"{one_line(key)}={one_line(value)} is not supported")
        elif key.endswith("_initializer"):
            arguments[key] = _initializer(value)
        elif key.endswith("_regularizer"):
            arguments[key] = _regularizer(key, value)
        elif isinstance(value, dict):
            raise Refused(f"{key} is {_described(value)}, which nbbn does not have; "
                          "give it as a layer of nbbn's own")
        else:
            arguments[key] = value
    return arguments


def _dtype(policy: Any) -> str | None:
    name = policy["config"]["name"] if isinstance(policy, dict) else policy
    if name is not None and name not in _DTYPES:
        raise Refused(f"dtype {one_line(name)} is not supported; "
                      "nbbn computes in float32 and float64")
    return _DTYPES.get(name)


def _initializer(value: Any) -> Initializer | None:
    """Keras's initializer, or the default for one that nbbn lacks: weights are in the file."""
    try:
        if isinstance(value, dict):
            unknown = {"input_axes", "output_axes", "dtype"}
            config = {key: of for key, of in value["config"].items() if key not in unknown}
            value = {"class_name": value["class_name"], "config": config}
        return initializers.get(value)
    except BROKEN:
        return None


def _regularizer(key: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if not _is_keras_own(value):
        raise Refused(f"{key} is {_described(value)}, which nbbn does not have; "
                      "save the model without it")
    return {"class_name": value["class_name"], "config": value.get("config", {})}


def _described(value: dict) -> str:
    own = value.get("registered_name") or value.get("config")
    return f"the {one_line(value.get('class_name'))} {one_line(own)}"


# -- rows


def _input_shape(config: dict, inner: Any, entries: list) -> tuple[int, ...]:
    """Shape of one row: what the input, the first layer or the built model says."""
    first = entries[0]["config"] if entries else {}
    places = [first.get("batch_shape"), first.get("batch_input_shape")]
    for part in (inner, config):
        if isinstance(part, dict):
            places.append(part.get("build_input_shape"))
            places.append((part.get("build_config") or {}).get("input_shape"))
    shape = next((place for place in places if place is not None), None)
    if shape is None:
        raise Refused("the shape of its rows is not known: the model was saved before it was built")
    row = tuple(shape)[1:]
    if not row or not all(type(n) is int and n > 0 for n in row):
        raise Refused(f"its rows have shape {one_line(shape)}; "
                      "every size but the batch's must be known")
    return row


def check_layers(model: KerasModel) -> list[Layer]:
    """The layers that do something, of one dtype; Refused where there are none, or they differ."""
    found = [keras.layer for keras in model.layers if keras.layer is not None]
    if not found:
        raise Refused("has no layers")
    if len({layer.dtype for layer in found}) > 1:
        names = [layer.name for layer in found if layer.dtype is not None]
        raise Refused(f"layer {names[0]!r} computes in float64, others in float32; "
                      "nbbn computes a whole model in one")
    return found
