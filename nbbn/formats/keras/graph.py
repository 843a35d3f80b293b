"""What a Keras file says of a whole model: layers, and the calls of them on each other's values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from nbbn.errors import LayerError
from nbbn.formats.assembly import MAX_LAYERS
from nbbn.formats.files import BROKEN, Refused, one_line
from nbbn.formats.keras.config import (
    MODELS,
    described,
    input_shape,
    is_adapted,
    is_keras_own,
    is_operator,
    read_layer,
    read_operator,
    row_shape,
)
from nbbn.layers import Layer
from nbbn.layers.names import free_name
from nbbn.network import Call, Graph
from nbbn.operations import Shape

# Models within models, the deepest; layers and their calls, all together.
_MAX_DEPTH, _MAX_CALLS = 16, 5000


class KerasLayer(NamedTuple):
    """A layer of nbbn, and the names that lead to it in the file: its models' and its own."""

    layer: Layer
    path: tuple[str, ...]
    weights: dict[str, Shape]
    # The shape of its mean and variance, arguments here that stand among the file's arrays.
    adapted: Shape | None


@dataclass
class Level:
    """The layers of one model as it has them: class and name, and the models among them."""

    layers: list[tuple[str, str]] = field(default_factory=list)
    models: dict[str, Level] = field(default_factory=dict)


@dataclass
class KerasModel:
    """A model as the file describes it."""

    name: str | None
    layers: list[KerasLayer]
    graph: Graph
    # Names of the inputs, and of the outputs where the model gives a dict.
    inputs: list[str]
    outputs: list[str] | None
    level: Level
    # Whether it is a Sequential, and which calls are those of which model within; None without.
    is_sequential: bool = False
    nested: dict[str, Any] | None = None

    @property
    def is_chain(self) -> bool:
        """Whether each layer reads the one before it, and is called once."""
        calls = self.graph.calls
        follow = all(call == Call(i, (i - 1,)) for i, call in enumerate(calls))
        one = len(self.graph.inputs) == 1 and self.graph.outputs == (len(calls) - 1,)
        return follow and one and not any(read.layer.merges for read in self.layers)


def read_model(config: Any) -> KerasModel:
    """The model of a JSON config; Refused for what nbbn has no layer for."""
    try:
        kind, inner = config["class_name"], config["config"]
        if kind not in MODELS or not is_keras_own(config):
            raise Refused(f"holds a {one_line(kind)}; only Sequential models and functional ones "
                          "are read")
        drawing = _Drawing()
        name = inner.get("name") if isinstance(inner, dict) else None
        if kind == "Sequential":
            shape = input_shape(config, inner, _entries(config))
            outputs, names = drawing.sequential(config, (), [drawing.given(shape)], True), [""]
            keys = None
        else:
            names, keys, outputs = drawing.whole(config)
        model = drawing.model(name if isinstance(name, str) else None, names, keys, outputs)
        model.is_sequential = kind == "Sequential"
        return model
    except Refused:
        raise
    except (*BROKEN, RecursionError) as err:
        raise Refused(f"its config describes no Keras model ({one_line(err)})") from err


class _Node(NamedTuple):
    """One use of a layer: what it takes, as `(layer, use, output)` or a float."""

    takes: list[Any]
    # Under which names, where a model within is given a dict.
    keys: list[str] | None


class _Drawing:
    """A graph in the making."""

    def __init__(self) -> None:
        self.layers: list[KerasLayer] = []
        self.calls: list[Call] = []
        self.inputs: list[Shape] = []
        self.level = Level()
        self._shapes: dict[int, Shape] = {}
        self._number: dict[tuple[str, ...], int] = {}
        self._names: set[str] = set()
        # Models within and their uses: which model, the use around it, what it takes and gives.
        self._models: dict[tuple[str, ...], dict[str, Any]] = {}
        self._uses: list[tuple[int, int, list[int], list[int]]] = []
        self._use = -1  # the innermost just now
        self._within: list[int] = []  # by call

    # -- values

    def given(self, shape: Shape) -> int:
        """An input of the whole model."""
        self.inputs.append(shape)
        self._shapes[-len(self.inputs)] = shape
        return -len(self.inputs)

    def _call(self, path: tuple[str, ...], layer: Layer, sources: list[int], *,
              adapted: bool) -> int:
        """What a layer makes of values; of an earlier path it is the same layer."""
        shapes = [self._shapes[source] for source in sources]
        if len(sources) != 1 and not layer.merges:
            raise Refused(f"layer {layer.name!r} is called on {len(sources)} values; it takes one")
        try:
            weights, shape = layer.weight_shapes(*shapes), layer.output_shape(*shapes)
        except LayerError as err:
            raise Refused(f"layer {layer.name!r} does not fit rows of shape "
                          f"{' and '.join(map(str, shapes))}: {err}") from None
        if path not in self._number:
            self._number[path] = len(self.layers)
            own = None
            if adapted:
                axes: Any = getattr(layer, "axis", None)
                kept = () if axes is None else layer._row_axes(axes, shapes[0])
                own = tuple(shapes[0][axis] for axis in kept)
            self.layers.append(KerasLayer(self._named(layer, path), path, weights, own))
        self.calls.append(Call(self._number[path], tuple(sources)))
        self._within.append(self._use)
        if len(self.calls) > _MAX_CALLS:
            raise Refused(f"calls its layers more than {_MAX_CALLS} times; so many are not read")
        self._shapes[len(self.calls) - 1] = shape
        return len(self.calls) - 1

    def _named(self, layer: Layer, path: tuple[str, ...]) -> Layer:
        """A layer by a name of its own: models within models may have the same ones."""
        name = path[-1]
        if name in self._names:
            name = free_name("_".join(path[-2:]), self._names)
        self._names.add(name)
        return layer if layer.name == name else replace(layer, name=name)

    # -- models

    def sequential(self, config: dict, path: tuple[str, ...], given: list[int],
                   trainable: bool) -> list[int]:
        """What the layers of a Sequential make of a value, one after the other."""
        entries, level = _entries(config), self._level(path)
        around = self._begin(path, {"class": "Sequential", "trainable": _is_trained(config)}, given)
        trainable = trainable and _is_trained(config)
        values = given
        for entry in entries:
            name = _enter(level, entry)
            if entry["class_name"] == "InputLayer" and is_keras_own(entry):
                continue
            values = self._used(entry, (*path, name), values, None, trainable)
        self._end(around, values)
        return values

    def _begin(self, path: tuple[str, ...], words: dict[str, Any], given: list[int]) -> int:
        """Begin the use of a model within; the use around it."""
        around = self._use
        if path:
            self._models.setdefault(path, {**words, "name": path[-1]})
            self._uses.append(([*self._models].index(path), around, list(given), []))
            self._use = len(self._uses) - 1
        return around

    def _end(self, around: int, gave: list[int]) -> None:
        if self._use != around:
            self._uses[self._use][3].extend(gave)
            self._use = around

    def whole(self, config: dict) -> tuple[list[str], list[str] | None, list[int]]:
        """A functional model: the names of its inputs, those of outputs in a dict, its outputs."""
        inner, by_name = config["config"], _by_name(config)
        ends, _ = _ends(inner, "input_layers", by_name)
        given = [self.given(row_shape(by_name[name]["config"].get("batch_shape")
                                      or by_name[name]["config"].get("batch_input_shape")))
                 for name, *_ in ends]
        outputs, keys = self._functional(config, (), given, None, True)
        return [name for name, *_ in ends], keys, outputs

    def _functional(self, config: dict, path: tuple[str, ...], given: list[int],
                    keys: list[str] | None,
                    trainable: bool) -> tuple[list[int], list[str] | None]:
        """What a functional model makes of values, given in its order or by `keys`."""
        inner, by_name = config["config"], _by_name(config)
        trainable = trainable and _is_trained(config)
        level = self._level(path)
        for entry in by_name.values():
            _enter(level, entry)
        inputs, names = _ends(inner, "input_layers", by_name)
        outputs, out_keys = _ends(inner, "output_layers", by_name)
        where = f"model {path[-1]!r}" if path else "the model"
        if len(given) != len(inputs):
            raise Refused(f"{where} is called on {len(given)} values; it takes {len(inputs)}")
        if keys is not None:
            known = names or [name for name, *_ in inputs]
            if {*keys} != {*known}:
                raise Refused(f"{where} is given {', '.join(keys)}; its inputs are "
                              f"{', '.join(known)}")
            given = [given[keys.index(key)] for key in known]
        words = {"class": "Model", "trainable": _is_trained(config),
                 "inputs": names or [name for name, *_ in inputs], "outputs": out_keys,
                 **({"given": "dict"} if names else {}), **({"gives": "dict"} if out_keys else {})}
        around = self._begin(path, words, given)
        values = {(name, use): [value] for (name, use, _), value in zip(inputs, given)}
        waiting = [(name, use, node) for name, entry in by_name.items()
                   for use, node in enumerate(_nodes(name, entry))
                   if not any(name == end for end, *_ in inputs)]
        first = _first_uses([*outputs, *(one for *_, node in waiting for one in node.takes)])
        waiting = [(name, use + first.get(name, 0) * (by_name[name]["class_name"] in MODELS), node)
                   for name, use, node in waiting]
        for name, use, node in _in_order(waiting, values):
            takes = [_value(values, name, one) for one in node.takes]
            values[name, use] = self._used(by_name[name], (*path, name), takes, node.keys,
                                           trainable)
        ends = [_value(values, None, end) for end in outputs]
        self._end(around, ends)
        return ends, out_keys

    def _used(self, entry: dict, path: tuple[str, ...], takes: list[Any], keys: list[str] | None,
              trainable: bool) -> list[int]:
        """What a layer or a model within makes of values."""
        kind = entry["class_name"]
        if len(path) > _MAX_DEPTH:
            raise Refused(f"has models within models, {len(path)} deep; at most {_MAX_DEPTH} are "
                          "read")
        if kind in MODELS and is_keras_own(entry):
            if any(not isinstance(value, int) for value in takes):
                raise Refused(f"model {path[-1]!r} is called on a number; give it values of layers")
            if kind == "Sequential":
                return self.sequential(entry, path, takes, trainable)
            return self._functional(entry, path, takes, keys, trainable)[0]
        if keys is not None:
            raise Refused(f"{described(entry)} is called on a dict, which nbbn has no layer for")
        if is_operator(entry, takes):
            layer = read_operator(entry, takes)
            takes = [value for value in takes if isinstance(value, int)]
            if len({len(self._shapes[value]) for value in takes}) > 1:
                raise Refused(f"{described(entry)} joins rows of different numbers of axes, which "
                              "nbbn has no layer for")
        else:
            layer = read_layer(entry)
        if any(not isinstance(value, int) for value in takes):
            raise Refused(f"{described(entry)} is called on a number, which it does not take")
        if not trainable and layer.trainable:
            layer = replace(layer, trainable=False)
        return [self._call(path, layer, takes, adapted=is_adapted(entry))]

    def _level(self, path: tuple[str, ...]) -> Level:
        level = self.level
        for name in path:
            level = level.models.setdefault(name, Level())
        level.layers.clear()  # of a model that is called again
        return level

    # -- the whole

    def model(self, name: str | None, inputs: list[str], outputs: list[str] | None,
              ends: list[int]) -> KerasModel:
        """What has been drawn, without what no output depends on."""
        if not self.calls:
            raise Refused("has no layers")
        if any(end < 0 for end in ends):
            raise Refused("gives out one of its inputs as it is; nothing is computed")
        needed, ahead = set[int](), list(ends)
        while ahead:
            if (at := ahead.pop()) >= 0 and at not in needed:
                needed.add(at)
                ahead += self.calls[at].sources
        place = {at: i for i, at in enumerate(sorted(needed))}
        kept = sorted({self.calls[at].layer for at in needed})
        read = {source for at in needed for source in self.calls[at].sources}
        for k, own in enumerate(inputs, 1):
            if -k not in read:
                raise Refused(f"no output depends on its input {own!r}; leave it out and save the "
                              "model again")
        calls = tuple(Call(kept.index(self.calls[at].layer),
                           tuple(place.get(source, source) for source in self.calls[at].sources))
                      for at in place)
        graph = Graph(calls, tuple(self.inputs), tuple(place[end] for end in ends))
        return KerasModel(name, [self.layers[i] for i in kept], graph, inputs, outputs, self.level,
                          nested=self._nested(place, kept))

    def _nested(self, place: dict[int, int], kept: list[int]) -> dict[str, Any] | None:
        """The models within, by the places that calls and layers have in the end."""
        if not self._uses:
            return None

        def places(values: list[int]) -> list[int | None]:
            return [value if value < 0 else place.get(value) for value in values]

        names = [[i, self.layers[k].path[-1], False] for i, k in enumerate(kept)
                 if self.layers[k].layer.name != self.layers[k].path[-1]]
        return {"models": list(self._models.values()),
                "uses": [[model, around, places(given), places(gave)]
                         for model, around, given, gave in self._uses],
                "within": [self._within[at] for at in place], "names": names}


# -- the parts of a config


def _entries(config: dict) -> list[dict]:
    """The layers of a model, few enough."""
    inner = config["config"]
    entries = inner if isinstance(inner, list) else inner["layers"]
    most = MAX_LAYERS if config["class_name"] == "Sequential" else _MAX_CALLS
    if len(entries) > most:
        raise Refused(f"has {len(entries)} layers; at most {most} are read")
    return entries


def _is_trained(config: dict) -> bool:
    inner = config["config"]
    return not isinstance(inner, dict) or inner.get("trainable") is not False


def _by_name(config: dict) -> dict[str, dict]:
    entries = _entries(config)
    found = {_name_of(entry): entry for entry in entries}
    if len(found) < len(entries):
        names = [_name_of(entry) for entry in entries]
        _refuse_twice(next(name for name in names if names.count(name) > 1))
    return found


def _name_of(entry: dict) -> str:
    config = entry["config"]
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    if not isinstance(name, str) or not isinstance(entry["class_name"], str):
        raise Refused(f"layer {one_line(name)!r} ({one_line(entry['class_name'])}): a layer must "
                      "have a name and a class")
    return name


def _enter(level: Level, entry: dict) -> str:
    """Note a layer of a model; its name."""
    name = _name_of(entry)
    if any(name == other for _, other in level.layers):
        _refuse_twice(name)
    level.layers.append((entry["class_name"], name))
    return name


def _refuse_twice(name: str) -> None:
    raise Refused(f"a model's layers need different names, {name!r} is there already; "
                  "give another name")


_End = tuple[str, int, int]


def _ends(inner: dict, what: str,
          by_name: dict[str, dict]) -> tuple[list[_End], list[str] | None]:
    """A model's inputs or outputs, `(layer, use, output)` each; their names in a dict."""
    given, keys = inner[what], None
    if isinstance(given, dict):
        given, keys = list(given.values()), [str(key) for key in given]
    elif given and isinstance(given[0], str):
        given = [given]
    ends = [_end(one) for one in given]
    for name, *_ in ends:
        if name not in by_name:
            raise Refused(f"its {what} name {one_line(name)!r}, which is no layer of it")
    if not ends:
        raise Refused(f"its {what} name no layer")
    return ends, keys


def _end(given: Any) -> _End:
    name, use, output = given[:3]
    if not isinstance(name, str) or type(use) is not int or type(output) is not int:
        raise Refused(f"its config names {one_line(given)} where an output of a layer must stand")
    return name, use, output


def _nodes(name: str, entry: dict) -> Iterator[_Node]:
    """The uses of a layer."""
    for node in entry["inbound_nodes"]:
        yield _of_keras_3(name, node) if isinstance(node, dict) else _of_keras_2(name, node)


def _of_keras_3(name: str, node: dict) -> _Node:
    """`{"args": [...], "kwargs": {...}}`, in which values stand as `__keras_tensor__`."""
    args, options = list(node["args"]), dict(node.get("kwargs") or {})
    if not args and "inputs" in options:
        args = [options.pop("inputs")]
    _check_options(name, options)
    if len(args) == 1 and isinstance(args[0], dict) and not _is_value(args[0]):
        return _Node([_taken(one) for one in args[0].values()], [str(key) for key in args[0]])
    if len(args) == 1 and isinstance(args[0], list):
        args = args[0]
    return _Node([_taken(one) for one in args], None)


def _is_value(given: dict) -> bool:
    return given.get("class_name") == "__keras_tensor__"


def _taken(given: Any) -> Any:
    """A value or a number among the arguments of a call."""
    if isinstance(given, dict) and _is_value(given):
        return _end(given["config"]["keras_history"])
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise Refused(f"a layer is called on {one_line(given)}, which is no value of a layer")
    return float(given)


def _of_keras_2(name: str, node: list) -> _Node:
    """`[[name, use, output, options], ...]`; operators stand without the outer list."""
    tensors, takes = [node] if node and isinstance(node[0], str) else node, list[Any]()
    for given in tensors:
        takes.append(_end(given))
        options = dict(given[3]) if len(given) > 3 else {}
        if "y" in options:  # the other side of an operator
            other = options.pop("y")
            takes.append(_end(other) if isinstance(other, list) else _taken(other))
        options.pop("name", None)
        _check_options(name, options)
    return _Node(takes, None)


def _check_options(name: str, options: dict) -> None:
    """Refused for a call that says more than on what.

    `training=False` says nothing: Keras 3 sets it aside when the whole model is called.
    """
    for option, value in options.items():
        if value is not None and (option, value) != ("training", False):
            raise Refused(f"layer {name!r} is called with {one_line(option)}={one_line(value)}, "
                          "which nbbn has no layer for")


# -- values by name


def _first_uses(read: Sequence[Any]) -> dict[str, int]:
    """By layer the number of its first use: 1 of models that Keras had called on inputs before."""
    first: dict[str, int] = {}
    for one in read:
        if isinstance(one, tuple):
            first[one[0]] = min(first.get(one[0], one[1]), one[1])
    return {name: min(use, 1) for name, use in first.items()}


def _in_order(waiting: list[tuple[str, int, _Node]],
              values: dict[tuple[str, int], list[int]]) -> Iterator[tuple[str, int, _Node]]:
    """Uses of layers, each when what it takes is there; `values` grows meanwhile."""
    while waiting:
        later = []
        for name, use, node in waiting:
            if all(one[:2] in values for one in node.takes if isinstance(one, tuple)):
                yield name, use, node
            else:
                later.append((name, use, node))
        if len(later) == len(waiting):
            name, _, node = later[0]
            lacking = next(one for one in node.takes
                           if isinstance(one, tuple) and one[:2] not in values)
            raise Refused(f"layer {name!r} takes output {lacking[2]} of use {lacking[1]} of "
                          f"{lacking[0]!r}, which does not come before it")
        waiting = later


def _value(values: dict[tuple[str, int], list[int]], reader: str | None, one: Any) -> Any:
    if not isinstance(one, tuple):
        return one
    name, use, output = one
    found = values.get((name, use))
    if found is None or not 0 <= output < len(found):
        who = "the model gives out" if reader is None else f"layer {reader!r} takes"
        raise Refused(f"{who} output {output} of use {use} of {name!r}, which there is not")
    return found[output]
