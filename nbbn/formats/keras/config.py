"""What a Keras file says of a layer, as a layer of nbbn."""

from __future__ import annotations

from typing import Any

from nbbn import constraints, initializers, layers
from nbbn.formats.files import BROKEN, Refused, one_line
from nbbn.initializers import Initializer
from nbbn.layers import Layer
from nbbn.operations import Shape

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
# Classes of models, which may be within models.
MODELS = ("Sequential", "Functional", "Model")
# What to do about layers that nbbn lacks, by what their names begin with.
_WAYS = {
    "Random": "augmentation has no effect in inference: save the model without it",
    "LSTM": "nbbn has no recurrent layers", "GRU": "nbbn has no recurrent layers",
    "SimpleRNN": "nbbn has no recurrent layers", "Bidirectional": "nbbn has no recurrent layers",
    "MultiHeadAttention": "nbbn has no attention", "Attention": "nbbn has no attention",
    "Conv3D": "nbbn has no volumes", "TimeDistributed": "put the layer itself in its place",
    "ActivityRegularization": "save the model without it",
}
# Operations of Keras's `ops` on values, by class; activations by theirs.
_OPERATORS = {"Add": layers.Add, "Subtract": layers.Subtract, "Multiply": layers.Multiply,
              "Maximum": layers.Maximum, "Minimum": layers.Minimum,
              "Concatenate": layers.Concatenate}
_FUNCTIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu", "Elu": "elu",
              "Selu": "selu", "Softplus": "softplus", "Softsign": "softsign", "Exp": "exponential",
              "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Relu6": "relu6",
              "Softmax": "softmax"}
_OF_NUMBERS = ("TrueDivide", "Divide", "Negative")
# The names that Keras 2 has for them.
_OF_KERAS_2 = {"__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract",
               "math.truediv": "TrueDivide", "math.negative": "Negative",
               "math.multiply": "Multiply", "math.maximum": "Maximum", "math.minimum": "Minimum",
               "nn.relu": "Relu", "math.sigmoid": "Sigmoid", "math.tanh": "Tanh",
               "nn.silu": "Silu", "nn.softmax": "Softmax"}


# -- layers


def described(entry: dict) -> str:
    """A layer in an error's words."""
    config = entry["config"]
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return f"layer {one_line(name)!r} ({one_line(entry['class_name'])})"


def read_layer(entry: dict) -> Layer:
    """The layer of an entry; Refused for one that nbbn lacks."""
    kind, config, where = entry["class_name"], dict(entry["config"]), described(entry)
    if kind == "Lambda":
        raise Refused(f"{where} holds code, which is not run; "
                      "replace it by layers that nbbn has and save the model again")
    if kind not in _KNOWN or not is_keras_own(entry):
        raise Refused(f"{where} is not known; nbbn has {', '.join(_KNOWN)}{_way(kind)}")
    if is_adapted(entry):
        config |= {"mean": 0.0, "variance": 1.0}  # until its arrays are read
    if kind == "Activation" and config.get("activation") == "relu6":
        kind, config = "ReLU", {**config, "max_value": 6.0}
        del config["activation"]
    try:
        layer = _KNOWN[kind](**_arguments(_KNOWN[kind], config))
    except BROKEN as err:
        raise Refused(f"{where}: {err if isinstance(err, Refused) else one_line(err)}") from None
    return layer


def is_adapted(entry: dict) -> bool:
    """Whether a layer has mean and variance among the file's arrays, and as arguments here."""
    return entry["class_name"] == "Normalization" and entry["config"].get("mean") is None


def is_operator(entry: dict, takes: list) -> bool:
    """Whether an entry is no layer, but an operator or a function that was called on values."""
    module, kind = entry.get("module"), entry["class_name"]
    if isinstance(module, str):
        return module.startswith(("keras.src.ops.", "keras.ops"))
    # HDF5 files do not say the module.
    numbers = any(isinstance(one, float) for one in takes)
    return kind == "TFOpLambda" or (numbers and kind in _OPERATORS) or (
        kind not in _KNOWN and (kind in _FUNCTIONS or kind in _OF_NUMBERS))


def read_operator(entry: dict, takes: list) -> Layer:
    """The layer that does what an operator does; Refused for one that nbbn lacks."""
    kind, config, where = entry["class_name"], dict(entry["config"]), described(entry)
    name = config.pop("name", None)
    if kind == "TFOpLambda":
        function = config.pop("function", None)
        kind = _OF_KERAS_2.get(function, one_line(function))
        where = f"layer {one_line(name)!r} ({one_line(function)})"
    config = {key: value for key, value in config.items() if key == "axis" or value is not None}
    try:
        if any(isinstance(one, float) for one in takes):
            return _of_number(kind, name, takes)
        if kind == "Negative":
            return _rescaling(-1.0, 0.0, name)
        if kind in _OPERATORS:
            return _OPERATORS[kind](name=name, **config)
        if kind in _FUNCTIONS and config.get("axis", -1) == -1 and {*config} <= {"axis"}:
            return layers.Activation(_FUNCTIONS[kind], name=name)
    except BROKEN as err:
        if not isinstance(err, Refused | KeyError):
            raise Refused(f"{where}: {one_line(err)}") from None
    raise Refused(f"{where} is an operation that nbbn does not read; "
                  "write it as a layer and save the model again")


def _of_number(kind: str, name: Any, takes: list) -> Layer:
    """An operator with a number on one side: a value times a number, plus a number."""
    first = isinstance(takes[0], float)
    (number,) = (one for one in takes if isinstance(one, float))
    lines = {"Add": (1.0, number), "Multiply": (number, 0.0),
             "Subtract": (-1.0, number) if first else (1.0, -number)}
    if not first and number:
        lines |= dict.fromkeys(("TrueDivide", "Divide"), (1 / number, 0.0))
    return _rescaling(*lines[kind], name)


def _rescaling(scale: float, offset: float, name: Any) -> Layer:
    made: Any = _KNOWN["Rescaling"]
    return made(scale, offset, name=name)


def _way(kind: str) -> str:
    way = next((way for name, way in _WAYS.items() if str(kind).startswith(name)), None)
    return "" if way is None else f"; {way}"


def is_keras_own(entry: dict) -> bool:
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
        elif key.endswith("_constraint"):
            arguments[key] = _constraint(key, value)
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
    if not is_keras_own(value):
        raise Refused(f"{key} is {_described(value)}, which nbbn does not have; "
                      "save the model without it")
    return {"class_name": value["class_name"], "config": value.get("config", {})}


def _constraint(key: str, value: Any) -> Any:
    """Keras's constraint, or one of a subclass of `Constraint` that the program defines."""
    if not isinstance(value, dict):
        return value
    try:
        return constraints.get({name: value.get(name, {}) for name in ("class_name", "config")})
    except ValueError as err:
        if is_keras_own(value):
            raise
        raise Refused(f"{key} is {_described(value)}: {one_line(err)}") from None


def _described(value: dict) -> str:
    own = value.get("registered_name") or value.get("config")
    return f"the {one_line(value.get('class_name'))} {one_line(own)}"


# -- rows


def input_shape(config: dict, inner: Any, entries: list) -> Shape:
    """Shape of one row of a Sequential: what the input, the first layer or the built model says."""
    first = entries[0]["config"] if entries else {}
    places = [first.get("batch_shape"), first.get("batch_input_shape")]
    for part in (inner, config):
        if isinstance(part, dict):
            places.append(part.get("build_input_shape"))
            places.append((part.get("build_config") or {}).get("input_shape"))
    return row_shape(next((place for place in places if place is not None), None))


def row_shape(shape: Any) -> Shape:
    """Shape of one row, from one with the batch axis."""
    if shape is None:
        raise Refused("the shape of its rows is not known: the model was saved before it was built")
    row = tuple(shape)[1:]
    if not row or not all(type(n) is int and n > 0 for n in row):
        raise Refused(f"its rows have shape {one_line(shape)}; "
                      "every size but the batch's must be known")
    return row
