"""Whatever bytes a reader is given, it reads a model or raises FileError, and takes no more memory
than the file explains.
"""

import json
import struct
import tempfile
import tracemalloc
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as to_safetensors

import nbbn
from nbbn.interop import from_keras, from_onnx, from_torch, open_model
from nbbn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input, LayerNormalization

h5py = pytest.importorskip(
    "h5py", reason="h5py, which writes these files, is not installed: pip install h5py"
)
onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")

from keras_files import functional_config, h5_file, keras_file, sequential_config, weights_file  # noqa: E402
from naive_layers import NaiveNetwork, describe  # noqa: E402

pytestmark = pytest.mark.slow

SETTINGS = settings(
    max_examples=120, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)
# h5py reads in a process of its own, which takes a fifth of a second to start.
FEW, APART = settings(SETTINGS, max_examples=25), {"keras", "h5"}
# What a reader may take besides a multiple of the file: modules that it imports, tables of the zip
# and JSON readers.
SLACK, FACTOR = 2**25, 40

SHAPE = (4, 5, 2)
LAYERS = [
    Input(SHAPE), Conv2D(3, 2), BatchNormalization(), Flatten(), Dense(4), LayerNormalization(),
    Dense(2),
]
NAIVE = NaiveNetwork(LAYERS[1:], SHAPE).draw(np.random.default_rng(0))
KERAS = [
    describe("Conv2D", filters=3, kernel_size=[2, 2]), describe("BatchNormalization"),
    describe("Flatten"), describe("Dense", units=4), describe("LayerNormalization"),
    describe("Dense", units=2, activation="softmax"),
]
KERAS_NETWORK = NaiveNetwork(KERAS, SHAPE).draw(np.random.default_rng(0))
STATE = {
    "conv.weight": np.ones((3, 2, 2, 2), np.float32),
    "conv.bias": np.ones(3, np.float32),
    **{
        f"bn.{name}": np.ones(3, np.float32)
        for name in ("weight", "bias", "running_mean", "running_var")
    },
    "fc1.weight": np.ones((4, 36), np.float32),
    "fc1.bias": np.ones(4, np.float32),
    "ln.weight": np.ones(4, np.float32),
    "ln.bias": np.ones(4, np.float32),
    "fc2.weight": np.ones((2, 4), np.float32),
    "fc2.bias": np.ones(2, np.float32),
}


def own_model():
    model = nbbn.Sequential(LAYERS)
    model.set_weights([np.asarray(array, np.float32) for array in NAIVE.get_weights()])
    return model


def own_file():
    with tempfile.TemporaryDirectory() as folder:
        own_model().save(Path(folder) / "m")
        return (Path(folder) / "m").read_bytes()


CONFIG = sequential_config(KERAS_NETWORK, SHAPE)
FILES = {
    "nbbn": own_file(),
    "keras": keras_file(CONFIG, weights_file(KERAS_NETWORK)),
    "h5": h5_file(CONFIG, KERAS_NETWORK),
    "onnx": nbbn.interop.to_onnx(own_model(), fold=False).SerializeToString(),
    "torch": to_safetensors(STATE),
}
READERS = {
    "nbbn": nbbn.load, "keras": from_keras, "h5": from_keras, "onnx": from_onnx,
    "torch": lambda path: from_torch(path, LAYERS),
}
FOLDER = tempfile.TemporaryDirectory()


def bounded(read, data):
    """What a reader makes of these bytes: a model, or None where it refuses them.

    Anything else fails the test.
    """
    path = Path(FOLDER.name) / "file"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read(path)
    except nbbn.FileError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(f"{path}: ")
        return None
    except ImportError as error:  # what an accident made look like a file of torch
        assert "a .pt file needs the package torch" in str(error) and find_spec("torch") is None
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= SLACK + FACTOR * len(data), f"{peak} bytes for a file of {len(data)}"


@pytest.mark.parametrize("kind", FILES)
def test_the_files_themselves_are_read(kind):
    for read in (READERS[kind], open_model) if kind != "torch" else (READERS[kind],):
        assert bounded(read, FILES[kind]) is not None


EXTREMES = [
    bytes(8), b"\xff" * 8, struct.pack("<Q", 2**60), struct.pack("<Q", 2**31), b"\x7f" * 8,
    struct.pack("<Q", 1),
]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["byte", "bit", "number", "cut", "insert", "repeat", "end"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=6,
)


def edited(data, edits):
    """The bytes after some accidents."""
    data = bytearray(data)
    for kind, place, value in edits:
        at = int(place * len(data))
        if not data:
            break
        if kind == "byte":
            data[at] = value
        elif kind == "bit":
            data[at] ^= 1 << value % 8
        elif kind == "number":
            data[at : at + 8] = EXTREMES[value % len(EXTREMES)]
        elif kind == "cut":
            del data[at : at + value]
        elif kind == "insert":
            data[at:at] = bytes([value]) * (value % 9)
        elif kind == "repeat":
            data[at:at] = data[at : at + value]
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("kind", sorted(FILES.keys() - APART))
@SETTINGS
@given(edits=EDITS)
def test_damaged_files(kind, edits):
    bounded(READERS[kind], edited(FILES[kind], edits))


@pytest.mark.parametrize("kind", sorted(APART))
@FEW
@given(edits=EDITS)
def test_damaged_files_that_another_process_reads(kind, edits):
    bounded(READERS[kind], edited(FILES[kind], edits))


@FEW
@given(kind=st.sampled_from(sorted(FILES)), edits=EDITS)
def test_damaged_files_at_the_one_door(kind, edits):
    bounded(open_model, edited(FILES[kind], edits))


@SETTINGS
@given(
    start=st.sampled_from(
        [
            b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x08\x08\x12\x04nbbn",
            b"\x80\0\0\0\0\0\0\0{", b"\x80\x02",
        ]
    ),
    data=st.binary(max_size=300),
    reader=st.sampled_from([nbbn.load, from_keras, from_onnx, open_model]),
)
def test_any_bytes(start, data, reader):
    bounded(reader, start + data)


# Descriptions that are well formed and say something else


VALUES = st.one_of(
    st.sampled_from(
        [
            None, True, False, -1, 0, 1, 2, 2**31, 2**60, 2**70, 1e308, -0.5, "", "x", "relu",
            "same", "Lambda", "Dense",
        ]
    ),
    st.sampled_from([[], {}, [None], [2**60] * 3, [1, 1], [[1, 2], [3, 4]], {"class_name": "x"}]),
    st.sampled_from([{"class_name": "L2", "config": {}}]),
    st.floats(allow_nan=False, allow_infinity=False),
)


def places(value, path=()):
    """Paths to everything in a JSON value."""
    yield path
    for key in (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    ):
        yield from places(value[key], (*path, key))


def with_value(config, path, value):
    """A copy with another value at a path; a path that is gone changes nothing."""
    config = json.loads(json.dumps(config))
    if not path:
        return value
    at = config
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return config


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), VALUES), min_size=1, max_size=2)


def changed(config, changes):
    for place, value in changes:
        paths = list(places(config))
        config = with_value(config, paths[int(place * len(paths))], value)
    return config


@pytest.mark.parametrize("make", [sequential_config, functional_config])
@FEW
@given(changes=CHANGES)
def test_other_configs_of_keras(make, changes):
    bounded(
        from_keras,
        keras_file(changed(make(KERAS_NETWORK, SHAPE), changes), weights_file(KERAS_NETWORK)),
    )


@SETTINGS
@given(changes=CHANGES)
def test_other_headers_of_nbbn(changes):
    data = FILES["nbbn"]
    length = struct.unpack("<Q", data[:8])[0]
    outer = json.loads(data[8 : 8 + length])
    inner = changed(json.loads(outer["__metadata__"]["nbbn"]), changes)
    outer["__metadata__"]["nbbn"] = json.dumps(inner)
    head = json.dumps(outer).encode()
    bounded(nbbn.load, struct.pack("<Q", len(head)) + head + data[8 + length :])


@FEW
@given(edits=EDITS)
def test_damaged_weights_of_keras(edits):
    bounded(from_keras, keras_file(CONFIG, edited(weights_file(KERAS_NETWORK), edits)))


@SETTINGS
@given(
    place=st.floats(0, 1, exclude_max=True),
    number=st.sampled_from([-(2**63), -3, -1, 0, 1, 2, 3, 7, 2**31, 2**60, 2**63 - 1]),
    what=st.sampled_from(
        ["attribute", "dims", "input", "rename", "operator", "drop", "repeat", "element"]
    ),
)
def test_other_graphs(place, number, what):
    model = onnx.ModelProto.FromString(FILES["onnx"])
    graph = model.graph
    nodes = graph.node
    node = nodes[int(place * len(nodes))]
    if what == "attribute":
        numbers = [a for n in nodes for a in n.attribute if a.ints or a.HasField("i")]
        attribute = numbers[int(place * len(numbers))]
        if attribute.ints:
            attribute.ints[number % len(attribute.ints)] = number
        else:
            attribute.i = number
    elif what == "dims":
        tensor = graph.initializer[int(place * len(graph.initializer))]
        tensor.dims[number % len(tensor.dims)] = number
    elif what == "input":
        graph.input[0].type.tensor_type.shape.dim[number % 4].dim_value = number
    elif what == "rename":
        node.input[number % len(node.input)] = nodes[number % len(nodes)].output[0]
    elif what == "operator":
        node.op_type = nodes[number % len(nodes)].op_type
    elif what == "drop":
        del nodes[int(place * len(nodes))]
    elif what == "repeat":
        nodes.append(node)
    else:
        graph.initializer[int(place * len(graph.initializer))].data_type = number % 20
    bounded(from_onnx, model.SerializeToString())


# Files made to do harm


def test_deep_json():
    deep = "[" * 200_000 + "]" * 200_000
    assert bounded(from_keras, keras_file(deep, weights_file(KERAS_NETWORK))) is None
    head = deep.encode()
    assert bounded(nbbn.load, struct.pack("<Q", len(head)) + head) is None
    assert bounded(from_keras, h5_file(deep[:50_000], KERAS_NETWORK)) is None


def test_shapes_beyond_reason():
    for units in (2**31, 2**60, 2**200):
        config = json.loads(json.dumps(CONFIG))
        config["config"]["layers"][4]["config"]["units"] = units
        assert bounded(from_keras, keras_file(config, weights_file(KERAS_NETWORK))) is None
        config = json.loads(json.dumps(CONFIG))
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, units, units, 2]
        assert bounded(from_keras, keras_file(config, weights_file(KERAS_NETWORK))) is None


def a_graph(shape, *nodes):
    """A graph on rows of this shape: nodes one after the other, each with one constant or none."""
    constants, made, at = [], [], "x"
    for i, (operator, constant) in enumerate(nodes):
        inputs = [at]
        if constant is not None:
            constants.append(onnx.numpy_helper.from_array(constant, f"c{i}"))
            inputs.append(f"c{i}")
        made.append(onnx.helper.make_node(operator, inputs, [at := f"v{i}"]))
    given = [onnx.helper.make_tensor_value_info("x", 1, ["n", *shape])]
    graph = onnx.helper.make_graph(
        made, "g", given, [onnx.helper.make_tensor_value_info(at, 1, None)], constants
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)]
    ).SerializeToString()


LARGE = 2**15
HUGE_ROWS = [
    a_graph((LARGE * LARGE,), ("Mul", np.float32(2))),
    a_graph((3, LARGE, LARGE), ("Mul", np.float32(2)), ("GlobalMaxPool", None)),
    a_graph(
        (3, LARGE, LARGE), ("MaxPool", None), ("Flatten", None),
        ("MatMul", np.ones((3, 2), np.float32)),
    ),
    a_graph((LARGE * LARGE,), ("LayerNormalization", np.ones(1, np.float32))),
    a_graph(
        (3 * LARGE * LARGE,), ("Reshape", np.array([-1, 3, LARGE, LARGE])), ("GlobalMaxPool", None)
    ),
    a_graph((2**31 - 1,) * 3, ("Flatten", None), ("Mul", np.float32(2))),
]


@pytest.mark.parametrize("data", HUGE_ROWS)
def test_rows_beyond_reason(data):
    """A graph of a few nodes on rows of a thousand million numbers."""
    bounded(from_onnx, data)


def test_rows_too_large_are_named():
    with pytest.raises(
        nbbn.FileError,
        match=r"rows of shape .* are too large; at most 4194304 numbers are flattened or scaled",
    ):
        from_onnx(onnx.ModelProto.FromString(HUGE_ROWS[0]))


def test_one_long_string_many_times():
    """References to strings are short, strings are not.

    Read one by one they would fill any memory.
    """

    def change(file):
        group = file["model_weights/" + next(iter(file["model_weights"]))]
        group.attrs["weight_names"] = np.array(["x" * 60_000] * 1000, object)

    assert bounded(from_keras, h5_file(CONFIG, KERAS_NETWORK, change=change)) is None


def test_a_heap_that_never_ends(monkeypatch):
    """A heap of strings is walked object by object.

    At one of length 0 the HDF5 library stands still.
    """
    monkeypatch.setattr("nbbn.formats.keras.hdf5._SECONDS", 1)
    data = bytearray(FILES["h5"])
    at = data.find(b"GCOL")
    assert at > 0
    while at > 0:
        # An object of no length, then free space of none.
        data[at + 16 : at + 32] = struct.pack("<HHIQ", 7, 0, 0, 0)
        data[at + 32 : at + 48] = bytes(16)
        at = data.find(b"GCOL", at + 1)
    assert bounded(from_keras, bytes(data)) is None


def test_a_tensor_of_views():
    """A state dict's tensor may be a view that repeats one number.

    Its shape is compared before it is made an array.
    """
    huge = np.broadcast_to(np.float32(1), (2**20, 2**20))
    tracemalloc.start()
    with pytest.raises(nbbn.FileError, match="does not fit layer"):
        from_torch({"0.weight": huge, "0.bias": np.ones(3)}, [Input((2,)), Dense(3)])
    assert tracemalloc.get_traced_memory()[1] < SLACK
    tracemalloc.stop()
