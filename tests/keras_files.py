"""Small Keras files in the layout that Keras 3 writes, from specifications as `naive_layers` takes
them.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import fields

import numpy as np
import pytest
from naive_layers import DEFAULTS, kind_of

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install h5py")

# Names of the arrays in a `.h5`; in a `.keras` they have numbers in this order.
NAMES = {
    "kernel": "kernel", "depthwise_kernel": "depthwise_kernel",
    "pointwise_kernel": "pointwise_kernel", "bias": "bias", "gamma": "gamma", "beta": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}
POLICY = {
    "module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"},
    "registered_name": None,
}


def layer_config(layer, name, **changes):
    """A layer as Keras's JSON has it."""
    arguments = {key: getattr(layer, key) for key in [*DEFAULTS[kind_of(layer)], *vars(layer)]}
    config = {"name": name, "trainable": True, "dtype": POLICY, **arguments, **changes}
    return {
        "module": "keras.layers", "class_name": kind_of(layer), "config": config,
        "registered_name": None,
    }


def input_config(shape, name="input_layer"):
    config = {
        "batch_shape": [None, *shape], "dtype": "float32", "sparse": False, "ragged": False,
        "name": name, "optional": False,
    }
    return {
        "module": "keras.layers", "class_name": "InputLayer", "config": config,
        "registered_name": None,
    }


def sequential_config(network, shape, names=None):
    """A `NaiveNetwork` as the config of a Sequential."""
    names = names or names_of(network)
    layers = [input_config(shape), *map(layer_config, network.layers, names)]
    config = {
        "name": "small", "trainable": True, "dtype": POLICY, "layers": layers,
        "build_input_shape": [None, *shape],
    }
    return {
        "module": "keras", "class_name": "Sequential", "config": config, "registered_name": None,
    }


def functional_config(network, shape, names=None):
    """A `NaiveNetwork` as the config of a functional model of one path."""
    names = names or names_of(network)
    layers = [input_config(shape), *map(layer_config, network.layers, names)]
    for i, layer in enumerate(layers):
        layer["name"], layer["inbound_nodes"] = (
            layer["config"]["name"],
            [] if i == 0 else [node(layers[i - 1]["name"])],
        )
    ends = {"input_layers": [layers[0]["name"], 0, 0], "output_layers": [layers[-1]["name"], 0, 0]}
    config = {"name": "small", "trainable": True, "layers": layers, **ends}
    return {
        "module": "keras.src.models.functional", "class_name": "Functional", "config": config,
        "registered_name": "Functional",
    }


def node(source, **kwargs):
    """A use of a layer on the output of `source`."""
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [], "dtype": "float32", "keras_history": [source, 0, 0]},
    }
    return {"args": [tensor], "kwargs": {"mask": None, **kwargs}}


def names_of(network):
    return [f"{snake(kind_of(layer))}_of_{i}" for i, layer in enumerate(network.layers)]


def snake(name):
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def weights_file(network, names=None, *, say_names=True, dtype="float32"):
    """The bytes of `model.weights.h5`."""
    buffer, seen = io.BytesIO(), {}
    with h5py.File(buffer, "w") as file:
        for layer, arrays, name in zip(network.layers, network.weights, names or names_of(network)):
            place = snake(kind_of(layer))
            seen[place] = seen.get(place, -1) + 1
            group = file.create_group(
                f"layers/{place}_{seen[place]}" if seen[place] else f"layers/{place}"
            ).create_group("vars")
            if say_names:
                group.attrs["name"] = name
            for i, key in enumerate(key for key in NAMES if key in arrays):
                group.create_dataset(str(i), data=arrays[key].astype(dtype))
    return buffer.getvalue()


def keras_file(config, weights, compression=zipfile.ZIP_STORED):
    """The bytes of a `.keras` file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(
            "metadata.json",
            json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}),
        )
        archive.writestr(
            "config.json", config if isinstance(config, (str, bytes)) else json.dumps(config)
        )
        archive.writestr("model.weights.h5", weights)
    return buffer.getvalue()


def h5_file(config, network, names=None, *, suffix="", change=None):
    """The bytes of a whole-model HDF5 file; `suffix` is `:0` in those of TensorFlow."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        if config is not None:
            file.attrs["model_config"] = (
                config if isinstance(config, (str, bytes)) else json.dumps(config)
            )
        top = file.create_group("model_weights")
        for arrays, name in zip(network.weights, names or names_of(network)):
            group, paths = (
                top.create_group(name),
                [f"{name}/{NAMES[key]}{suffix}" for key in arrays],
            )
            group.attrs["weight_names"] = np.array(paths, "S") if paths else np.zeros(0)
            for path, array in zip(paths, arrays.values()):
                group.create_dataset(path, data=array.astype("float32"))
        if change is not None:
            change(file)
    return buffer.getvalue()


# -- graphs, from a `nbbn.Model`


def graph_config(model, name="small", *, old=False):
    """A model of nbbn's as the config of a functional one; `old`: with Keras 2's nodes."""
    layers, graph = model._layers.layers, model._layers.graph
    inputs = [input_config(shape, f"input_{k}") for k, shape in enumerate(graph.inputs)]
    entries = [*inputs, *map(config_of, layers)]
    for entry in entries:
        entry.update(name=entry["config"]["name"], inbound_nodes=[])
    place = {-k - 1: [f"input_{k}", 0, 0] for k in range(len(graph.inputs))}
    for i, call in enumerate(graph.calls):
        entry = entries[len(inputs) + call.layer]
        place[i] = [layers[call.layer].name, len(entry["inbound_nodes"]), 0]
        entry["inbound_nodes"].append(
            use([place[source] for source in call.sources], layers[call.layer].merges, old=old))
    config = {
        "name": name, "trainable": True, "layers": entries,
        "input_layers": [[f"input_{k}", 0, 0] for k in range(len(inputs))],
        "output_layers": [place[output] for output in graph.outputs],
    }
    if len(graph.outputs) == 1 and not old:
        config["output_layers"] = config["output_layers"][0]
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config,
            "registered_name": "Functional"}


def config_of(layer):
    """One of nbbn's layers as Keras's JSON has it."""
    unsaid = "input_shape", "use_running", "update_running"
    arguments = {field.name: getattr(layer, field.name) for field in fields(layer)
                 if field.name not in unsaid and not field.name.endswith("_initializer")}
    return {"module": "keras.layers", "class_name": type(layer).__name__,
            "config": {**arguments, "dtype": POLICY}, "registered_name": None}


def use(sources, merges=False, *, old=False, **options):
    """A call of a layer on outputs, `[name, use, output]` each."""
    if old:
        return [[*source, options] for source in sources]
    tensors = [{"class_name": "__keras_tensor__",
                "config": {"shape": [], "dtype": "float32", "keras_history": source}}
               for source in sources]
    return {"args": [tensors] if merges else tensors, "kwargs": options}


def within(config, name, *nodes):
    """A model's config as a layer of another, with its uses."""
    config["config"]["name"] = name
    return {**config, "name": name, "inbound_nodes": list(nodes)}


def graph_weights(model, *, say_names=True):
    """The bytes of `model.weights.h5`."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_layers(file, model, say_names=say_names)
    return buffer.getvalue()


def engine_layers(model):
    """All layers, those of models within too, in the order of `graph_config`."""
    return [model.get_layer(name) for name in model._layers.names]


def write_layers(group, model, *, say_names=True):
    """A model's arrays into its group."""
    top, seen = group.create_group("layers"), {}
    for layer in engine_layers(model):
        place = snake(layer.__class__.__name__)
        seen[place] = seen.get(place, -1) + 1
        own = top.create_group(f"{place}_{seen[place]}" if seen[place] else place)
        own = own.create_group("vars")
        if say_names:
            own.attrs["name"] = layer.name
        for i, array in enumerate(layer.get_weights()):
            own.create_dataset(str(i), data=array)


def graph_h5(config, models, *, suffix=""):
    """The bytes of a whole-model HDF5 file; `models` are those within, by name, or the whole."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        top = file.create_group("model_weights")
        for name, model in models.items():
            for layer in engine_layers(model):
                arrays = layer.copies()
                paths = [f"{layer.name}/{NAMES.get(key, key)}{suffix}" for key in arrays]
                group = top.require_group(name or layer.name)
                told = [*group.attrs.get("weight_names", []), *np.array(paths, "S")]
                group.attrs["weight_names"] = np.array(told, "S") if told else np.zeros(0)
                for path, array in zip(paths, arrays.values()):
                    group.create_dataset(path, data=array)
    return buffer.getvalue()
