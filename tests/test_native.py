"""nbbn's own file: what goes in comes out, and nothing else is taken for it."""

import json
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from nbbn.formats import files, native
from nbbn.formats.content import labels_from_json, labels_to_json
from nbbn.formats.files import FileError
from nbbn.formats.native import load, save
from nbbn.layers import Activation, BatchNormalization, Dense, LayerError
from nbbn.network import Network

META = {
    "kind": "classifier",
    "classes": ["a", "\N{SNOWMAN}", '"'],
    "report": {"bound": 1e-300, "none": None},
}


def make(dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    bn = {name: rng.uniform(0.1, 2, 4) for name in ("gamma", "beta", "mean", "var")}
    weights = [
        {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}, bn, {},
        {"kernel": rng.normal(size=(4, 2))},
    ]
    layers = (
        Dense(4), BatchNormalization(epsilon=1e-5), Activation("relu"),
        Dense(2, "softmax", use_bias=False),
    )
    weights = [{name: array.astype(dtype) for name, array in arrays.items()} for arrays in weights]
    return Network(layers, (3,), weights, np.dtype(dtype))


def assert_equal(a, b):
    assert (a.layers, a.input_shape, a.dtype) == (b.layers, b.input_shape, b.dtype)
    for left, right in zip(a.weights, b.weights, strict=True):
        assert list(left) == list(right) or set(left) == set(right)
        for name in left:
            assert left[name].dtype == right[name].dtype
            np.testing.assert_array_equal(left[name], right[name])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.nbbn"
    save(path, make(), META)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip(tmp_path, dtype):
    path = tmp_path / "model.nbbn"
    save(path, make(dtype), META)
    network, meta, _ = load(path)
    assert_equal(network, make(dtype))
    assert meta == META
    save(str(path), network, {})
    assert load(str(path))[1] == {}
    assert os.listdir(tmp_path) == ["model.nbbn"]


def test_is_a_safetensors_file(saved):
    with safe_open(saved, "np") as file:
        assert sorted(file.keys()) == [
            "0.bias", "0.kernel", "1.beta", "1.gamma", "1.mean", "1.var", "3.kernel",
        ]
        header = json.loads(file.metadata()["nbbn"])
        np.testing.assert_array_equal(file.get_tensor("0.kernel"), make().weights[0]["kernel"])
    assert (header["format"], header["version"]) == ("nbbn-network", 1)


def test_fortran_ordered_and_strided_weights(tmp_path):
    network = make()
    network.weights[0]["kernel"] = np.asfortranarray(network.weights[0]["kernel"])
    network.weights[3]["kernel"] = np.repeat(network.weights[3]["kernel"], 2, axis=0)[::2]
    save(tmp_path / "f", network, {})
    assert_equal(load(tmp_path / "f")[0], make())


def test_network_without_weights(tmp_path):
    network = Network((Activation("relu"),), (3, 2), [{}], np.dtype(np.float64))
    save(tmp_path / "f", network, {})
    assert_equal(load(tmp_path / "f")[0], network)


@pytest.mark.parametrize(
    ("error", "message", "meta"),
    [
        (TypeError, "meta must be a dict, got list", []),
        (TypeError, "meta must be JSON-ready", {"a": np.float32(1)}),
        (TypeError, "meta must be JSON-ready", {"a": float("nan")}),
    ],
)
def test_save_refuses_meta(tmp_path, error, message, meta):
    with pytest.raises(error, match=message):
        save(tmp_path / "f", make(), meta)
    assert os.listdir(tmp_path) == []


def test_save_refuses_a_network_that_does_not_fit(tmp_path):
    network = make()
    network.weights[0]["bias"][0] = np.nan
    with pytest.raises(LayerError, match="bias holds NaN"):
        save(tmp_path / "f", network, {})
    assert os.listdir(tmp_path) == []


# Nothing half-written


def test_save_into_a_missing_folder(tmp_path):
    with pytest.raises(FileError, match=r"f: the folder .*none does not exist; create it first"):
        save(tmp_path / "none" / "f", make(), {})


def test_save_onto_a_folder(tmp_path):
    with pytest.raises(FileError, match="is a folder; give the name of a file"):
        save(tmp_path, make(), {})


def test_failed_save_leaves_the_old_file_and_no_other(saved, monkeypatch):
    def fail(fd):
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(
        FileError, match=r"model.nbbn: cannot be written \(No space left on device\)"
    ):
        save(saved, make(seed=1), {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["model.nbbn"]


def test_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "f", make(), {})
    assert os.listdir(tmp_path) == []


def test_a_file_that_reads_back_different_does_not_take_its_place(saved, monkeypatch):
    other = to_bytes(
        {
            f"{i}.{name}": array
            for i, arrays in enumerate(make(seed=1).weights)
            for name, array in arrays.items()
        },
        {
            "nbbn": json.dumps(
                {"format": "nbbn-network", "version": 1, "network": make().config(), "meta": {}}
            )
        },
    )
    before = saved.read_bytes()
    monkeypatch.setattr("safetensors.numpy.save", lambda tensors, metadata: other)
    with pytest.raises(FileError, match="does not read back equal"):
        save(saved, make(), {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["model.nbbn"]


# Files that are not what `save` wrote


def header_of(**changes):
    return {
        "format": "nbbn-network", "version": 1, "network": make().config(), "meta": {}, **changes,
    }


def write(path, header=None, tensors=None, text=None):
    """A well-formed safetensors file with any header and tensors."""
    if tensors is None:
        tensors = {
            f"{i}.{k}": v for i, arrays in enumerate(make().weights) for k, v in arrays.items()
        }
    text = json.dumps(header_of() if header is None else header) if text is None else text
    path.write_bytes(to_bytes(tensors, {"nbbn": text}))
    return path


def config_with(**changes):
    return header_of(network={**make().config(), **changes})


def layers_with(i, **changes):
    layers = make().config()["layers"]
    layers[i] = {**layers[i], **changes}
    return config_with(layers=layers)


def tensors_with(**changes):
    tensors = {f"{i}.{k}": v for i, arrays in enumerate(make().weights) for k, v in arrays.items()}
    tensors.update({f"{name[1]}.{name[2:]}": array for name, array in changes.items()})
    return {name: array for name, array in tensors.items() if array is not None}


def one_line(error, path):
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < 600


BYTES = {
    "empty": b"", "short": b"1234567", "text": b"just some text, longer than a few bytes\n" * 4,
    "zeros": bytes(1000), "2^60 bytes promised": struct.pack("<Q", 2**60) + b"{}" * 50,
    "one byte more promised than there is": struct.pack("<Q", 101) + b" " * 100,
    "not json": struct.pack("<Q", 100) + b"x" * 100,
    "not utf-8": struct.pack("<Q", 100) + b"\xff" * 100,
    "deep json": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "json list": struct.pack("<Q", 2) + b"[]",
    "metadata is a number": struct.pack("<Q", 18) + b'{"__metadata__":3}',
    "header is not json": to_bytes({}, {"nbbn": "{"}),
    "huge integer": to_bytes({}, {"nbbn": "9" * 5000}), "pickle": b"\x80\x04\x95" + b"." * 60,
    "zip": b"PK\x03\x04" + bytes(60),
}


@pytest.mark.parametrize("name", BYTES)
def test_load_refuses_bytes(tmp_path, name):
    path = tmp_path / "f"
    path.write_bytes(BYTES[name])
    with pytest.raises(
        FileError,
        match=r"is no nbbn model file, or (cut short|broken); give a file that nbbn saved",
    ) as error:
        load(path)
    one_line(error, path)


@pytest.mark.parametrize("header", [None, 3, {}, {"format": "other"}])
def test_load_refuses_foreign_safetensors(tmp_path, header):
    path = tmp_path / "f"
    path.write_bytes(
        to_bytes({"w": np.ones(3)}, None if header is None else {"nbbn": json.dumps(header)})
    )
    with pytest.raises(FileError, match="is a safetensors file, but not of nbbn"):
        load(path)


HEADERS = {
    "newer": (header_of(version=2), "has format version 2, this nbbn reads up to 1; upgrade nbbn"),
    "no version": (header_of(version=None), "format version None is not a version"),
    "version 0": (header_of(version=0), "format version 0 is not a version"),
    "no network": (header_of(network=3), "the header lacks network or meta"),
    "no meta": (header_of(meta=[]), "the header lacks network or meta"),
    "no layers": (header_of(network={"dtype": "float32"}), r"describes no network \('layers'\)"),
    "layers": (config_with(layers=3), "describes no network"),
    "layer": (config_with(layers=[3]), "describes no network"),
    "unknown layer": (
        layers_with(0, layer="Lambda"),
        "describes no network .unknown layer 'Lambda'",
    ),
    "unknown argument": (layers_with(0, code="x"), "Dense does not take code"),
    "units as text": (layers_with(0, units="4"), "describes no network"),
    "units as float": (layers_with(0, units=4.0), "describes no network"),
    "units negative": (layers_with(0, units=-4), "describes no network"),
    "activation": (layers_with(0, activation={"a": 1}), "describes no network"),
    "epsilon": (layers_with(1, epsilon="x"), "describes no network"),
    "axis": (layers_with(1, axis=7), "describes no network .BatchNormalization: axis 7"),
    "row as float": (config_with(input_shape=[3.0]), "shapes must be made of ints above 0"),
    "row of zero": (config_with(input_shape=[0]), "shapes must be made of ints above 0"),
    "no row": (config_with(input_shape=[]), "describes no network"),
    "dtype": (config_with(dtype="float16"), r"describes no network \('float16'\)"),
    "dtype list": (config_with(dtype=["f8"]), "describes no network"),
    "other dtype": (
        config_with(dtype="float64"),
        "tensor 0.kernel must be F64 of shape .3, 4., got F32",
    ),
    "huge layer": (
        layers_with(3, units=2**60),
        r"tensor 3.kernel must be F32 of shape \[4, 1152921504606846976\]",
    ),
    "line break": (layers_with(0, layer="a\nb\x1b[0m"), "describes no network"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_load_refuses_headers(tmp_path, name):
    header, message = HEADERS[name]
    path = write(tmp_path / "f", header)
    with pytest.raises(FileError, match=message) as error:
        load(path)
    one_line(error, path)


TENSORS = {
    "missing": (tensors_with(_1var=None), "tensor 1.var is missing"),
    "extra": (tensors_with(_2kernel=np.ones(1, np.float32)), "tensor 2.kernel belongs to no layer"),
    "shape": (
        tensors_with(_0bias=np.ones(5, np.float32)),
        r"tensor 0.bias must be F32 of shape \[4\], got F32 of shape \[5\]",
    ),
    "transposed": (
        tensors_with(_0kernel=np.ones((4, 3), np.float32)),
        r"of shape \[3, 4\], got F32 of shape \[4, 3\]",
    ),
    "dtype": (tensors_with(_0bias=np.ones(4, np.float16)), "must be F32 .* got F16"),
    "nan": (
        tensors_with(_0bias=np.full(4, np.nan, np.float32)),
        "broken .layer 0 .Dense.: bias holds NaN or infinity",
    ),
    "negative variance": (
        tensors_with(_1var=np.full(4, -1, np.float32)),
        "broken .*a variance is negative",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_load_refuses_tensors(tmp_path, name):
    tensors, message = TENSORS[name]
    path = write(tmp_path / "f", tensors=tensors)
    with pytest.raises(FileError, match=message) as error:
        load(path)
    one_line(error, path)


def test_load_refuses_offsets_that_lie(tmp_path, saved):
    data = saved.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + length])
    head["0.bias"]["data_offsets"] = [0, 2**50]
    text = json.dumps(head).encode()
    saved.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(FileError, match="broken"):
        load(saved)


def test_load_refuses_every_cut(saved):
    data = saved.read_bytes()
    for end in [*range(200), *range(200, len(data), 37), len(data) - 1]:
        saved.write_bytes(data[:end])
        with pytest.raises(FileError):
            load(saved)
    saved.write_bytes(data + b"x")
    with pytest.raises(FileError, match="broken"):
        load(saved)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_flipped_bytes_raise_nothing_else(saved, changes):
    data = bytearray(saved.read_bytes())
    for position, byte in changes:
        data[position % len(data)] = byte
    path = saved.parent / "flipped"
    path.write_bytes(data)
    try:
        network, meta, _ = load(path)
    except FileError as error:
        assert "\n" not in str(error)
    else:
        network.check()
        assert isinstance(meta, dict)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=300))
def test_random_bytes_raise_nothing_else(tmp_path, data):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(FileError):
        load(tmp_path / "f")


def test_load_reads_no_more_than_a_header_it_trusts(tmp_path, monkeypatch):
    """A length of 2^60 is compared with the file's size before anything is read."""
    path = tmp_path / "f"
    path.write_bytes(BYTES["2^60 bytes promised"])
    monkeypatch.setattr(native, "_header", lambda *_: pytest.fail("the header was read"))
    with pytest.raises(FileError):
        load(path)


def test_load_of_no_file(tmp_path):
    with pytest.raises(FileError, match="none: does not exist; check the path"):
        load(tmp_path / "none")
    with pytest.raises(FileError, match="is a folder; give the name of a model file"):
        load(tmp_path)
    with pytest.raises(FileError, match=r"cannot be read \(File name too long\)"):
        load(tmp_path / ("n" * 5000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_load_does_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="is not a regular file"):
        load(tmp_path / "pipe")


# Class labels

LABELS = [
    np.array([0, 1, 2]), np.array([-(2**63), 2**63 - 1]), np.array([0, 2**64 - 1], np.uint64),
    np.array([1, 2], np.int8), np.array([1, 2], ">i4"), np.array([False, True]),
    np.array([0.1, 1e-300]), np.array([0.1, 2.5], np.float32), np.array([0.1, 2.5], np.float16),
    np.array(["a", "\N{SNOWMAN}", "\N{GRINNING FACE}"]), np.array(["a", "b"], "<U9"),
    np.array(["yes", "no"], object), np.array([3, 10**30], object),
]


@pytest.mark.parametrize("classes", LABELS, ids=lambda c: f"{c.dtype.str}-{c[-1]!r}")
def test_labels_round_trip(classes):
    back = labels_from_json(json.loads(json.dumps(labels_to_json(classes))))
    assert back.dtype == classes.dtype
    assert back.shape == classes.shape
    np.testing.assert_array_equal(back, classes)
    assert list(map(type, back.tolist())) == list(map(type, classes.tolist()))


@settings(max_examples=100, deadline=None)
@given(
    classes=hnp.arrays(
        st.one_of(
            hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(),
            hnp.floating_dtypes(sizes=(16, 32, 64)), st.just("?"), st.just("U4"),
        ),
        hnp.array_shapes(max_dims=1),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_any_labels_round_trip(classes):
    back = labels_from_json(json.loads(json.dumps(labels_to_json(classes))))
    assert back.dtype == classes.dtype
    np.testing.assert_array_equal(back, classes)


@pytest.mark.parametrize(
    ("error", "classes", "message"),
    [
        (ValueError, np.zeros((2, 2)), r"must have one axis, got shape \(2, 2\)"),
        (ValueError, np.array([0.0, np.nan]), "class labels hold NaN or infinity"),
        (
            TypeError,
            np.array([1, "a"], object),
            "all str or all int to be saved, got int, str; convert y",
        ),
        (TypeError, np.array([None, None], object), "all str or all int to be saved, got NoneType"),
        (TypeError, np.array([True, False], object), "all str or all int to be saved, got bool"),
        (TypeError, np.array([], object), "all str or all int to be saved, got nothing"),
        (TypeError, np.array([b"a"]), r"must be bool, int, float or str to be saved, got \|S1"),
        (TypeError, np.array([1j]), "got complex128"),
        (TypeError, np.array(["2020-01-01"], "M8[D]"), "got datetime64"),
    ],
)
def test_labels_refused(error, classes, message):
    with pytest.raises(error, match=message):
        labels_to_json(classes)


@pytest.mark.parametrize(
    "labels",
    [
        None, {}, {"dtype": "int64"}, {"dtype": "int8", "values": [300]},
        {"dtype": "int8", "values": [1.5]}, {"dtype": "<i8", "values": [[1]]},
        {"dtype": "<i8", "values": "ab"}, {"dtype": "<i8", "values": {"a": 1}},
        {"dtype": "<U1", "values": ["ab"]}, {"dtype": "<U1", "values": [1]},
        {"dtype": "O", "values": [1, "a"]}, {"dtype": "O", "values": [[1], [2]]},
        {"dtype": "V1000000000000", "values": [1]}, {"dtype": "S1000000000", "values": ["a"]},
        {"dtype": "nonsense", "values": [1]}, {"dtype": "<f8", "values": [float("nan")]},
        {"dtype": 3, "values": [1]},
    ],
)
def test_labels_from_anything_else(labels):
    with pytest.raises(ValueError, match="not class labels"):
        labels_from_json(labels)


def test_wide_labels_ask_for_no_gigabytes():
    tracemalloc.start()
    try:
        got = labels_from_json({"dtype": "<U100000000", "values": ["a", "bc"]})
        with pytest.raises(ValueError, match="not class labels: dtype"):
            labels_from_json({"dtype": "S100000000", "values": ["a"]})
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    assert got.dtype == "U2"
    assert got.tolist() == ["a", "bc"]


@pytest.mark.parametrize("back", [1, 5, 40])
def test_load_refuses_damaged_numbers(saved, back):
    """One flipped bit among the numbers once went unnoticed."""
    data = bytearray(saved.read_bytes())
    data[-back] ^= 1
    saved.write_bytes(data)
    with pytest.raises(FileError, match=r"damaged|broken"):
        load(saved)


def test_an_optimizers_state_comes_back(tmp_path):
    network = make("float32")
    layer, name = next((i, name) for i, arrays in enumerate(network.weights) for name in arrays)
    slots = {f"{layer}.{name}.{s}": network.weights[layer][name] + s for s in range(12)}
    save(tmp_path / "f", network, META, slots)
    _, meta, got = load(tmp_path / "f")
    assert meta == META and got.keys() == slots.keys()
    for key, array in slots.items():
        np.testing.assert_array_equal(got[key], array)
