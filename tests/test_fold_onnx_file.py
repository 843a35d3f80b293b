"""Folding ONNX files: what is kept, what is refused, and how much memory it takes."""

import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

from onnx import helper, numpy_helper  # noqa: E402
from onnx_graphs import Builder, ops, run, small  # noqa: E402

from nbbn import FileError, FoldCheckFailed, FoldRefused  # noqa: E402
from nbbn.formats.onnx import file as onnx_fold_model  # noqa: E402
from nbbn.formats.onnx import protobuf as onnx_fold_wire  # noqa: E402
from nbbn.interop.onnx_fold import fold_onnx, fold_onnx_file  # noqa: E402


def relu_first():
    g = Builder()
    g.norm(g.add("Relu", g.input("x", "n", 4)), 4)
    return g.model()


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(small(), path)
    return path


def fold_file(path, **options):
    """The report, and the folded model read again."""
    out = Path(path).with_name("folded.onnx")
    report = fold_onnx_file(path, out, **options)
    return report, onnx.load(out)


def refused(path, message, error=FileError):
    """The file is refused in one line, and nothing is written."""
    out = Path(path).with_name("folded.onnx")
    there = sorted(os.listdir(Path(path).parent))
    with pytest.raises(error, match=message) as caught:
        fold_onnx_file(path, out)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert sorted(os.listdir(Path(path).parent)) == there


# From file to file


def test_file_to_file(saved):
    before = saved.read_bytes()
    report, folded = fold_file(saved, strict=True)
    onnx.checker.check_model(folded, full_check=True)
    assert (report.n_folded, report.n_total, ops(folded)) == (
        3, 3, ["Conv", "Relu", "AveragePool", "Flatten", "Gemm"],
    )
    assert saved.read_bytes() == before
    assert sorted(os.listdir(saved.parent)) == ["folded.onnx", "model.onnx"]
    x = np.random.default_rng(0).normal(size=(4, 3, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(run(folded, x)[0], run(onnx.load(saved), x)[0], atol=1e-5)


def test_a_file_is_what_memory_is(saved):
    folded, report = fold_onnx(onnx.load(saved))
    from_file, written = fold_file(saved)
    assert from_file == report
    named = {t.name: t for t in written.graph.initializer}
    for tensor in folded.graph.initializer:
        np.testing.assert_array_equal(
            numpy_helper.to_array(tensor), numpy_helper.to_array(named[tensor.name])
        )
    del folded.graph.initializer[:], written.graph.initializer[:]
    assert folded == written


def test_an_existing_file_is_replaced_only_by_a_good_one(saved):
    out = saved.with_name("folded.onnx")
    out.write_bytes(b"old")
    onnx.save(relu_first(), saved)
    with pytest.raises(FoldRefused, match="1 of 1 batch norms cannot be folded"):
        fold_onnx_file(saved, out, strict=True)
    assert out.read_bytes() == b"old"
    fold_onnx_file(saved, out)
    assert out.read_bytes() != b"old"


def test_fields_that_are_not_known_are_kept(saved):
    """Of a newer format: what a message of this one does not name."""
    extra = b"\xfa\x3f\x03abc"  # field 1023 of the model
    saved.write_bytes(saved.read_bytes() + extra)
    fold_file(saved)
    assert extra in saved.with_name("folded.onnx").read_bytes()


@pytest.mark.parametrize("what", ["all", "large", "one file each"])
def test_external_data(tmp_path, what):
    path = tmp_path / "model.onnx"
    onnx.save(
        small(), path, save_as_external_data=True, all_tensors_to_one_file=what != "one file each",
        location="data", size_threshold=1000 if what == "large" else 0, convert_attribute=True,
    )
    assert len(os.listdir(tmp_path)) > 1
    report, folded = fold_file(path, strict=True)
    assert all(t.data_location == t.DEFAULT for t in folded.graph.initializer)
    ref = fold_onnx(small())[0]
    x = np.ones((2, 3, 6, 6), np.float32)
    np.testing.assert_array_equal(run(folded, x)[0], run(ref, x)[0])


def test_external_data_of_constant_nodes(tmp_path):
    g = Builder()
    kernel = g.add(
        "Constant",
        value=numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "k"),
    )
    g.norm(g.add("MatMul", g.input("x", "n", 4), kernel), 3)
    path = tmp_path / "model.onnx"
    onnx.save(
        g.model(), path, save_as_external_data=True, location="data", size_threshold=0,
        convert_attribute=True,
    )
    _, folded = fold_file(path, strict=True)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(run(folded, x)[0], run(g.model(), x)[0], atol=1e-4)


def external(tmp_path, **told):
    """A model whose kernel is said to be in another file."""
    model = small()
    tensor = model.graph.initializer[0]
    (tmp_path / "data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in told.items():
        tensor.external_data.add(key=key, value=value)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


OUTSIDE = {
    "above": "../data", "absolute": "/etc/hostname", "the folder itself": ".",
    "around": "sub/../../data",
}


@pytest.mark.parametrize("location", OUTSIDE.values(), ids=OUTSIDE)
def test_external_data_outside_the_folder(tmp_path, location):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "data").write_bytes(bytes(10000))
    refused(external(folder, location=location), "outside the model's folder; it is not opened")


def test_external_data_through_a_link(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(10000))
    path = external(folder, location="link")
    (folder / "link").symlink_to(tmp_path / "secret")
    refused(path, "outside the model's folder")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"location": "gone"}, "'gone', which does not exist; put it beside the model"),
        (
            {"location": "data", "length": str(1 << 60)},
            f"which has 864 bytes, not the {1 << 60} from byte 0",
        ),
        ({"location": "data", "offset": str(1 << 60)}, "which has 864 bytes, not the"),
        ({"location": "data", "offset": "-8"}, "which has 864 bytes, not the"),
        ({"location": "data", "length": "many"}, "at a place that is no number"),
        (
            {"location": "data", "length": "860"},
            r"holds 860 bytes, its shape \(8, 3, 3, 3\) says 864",
        ),
    ],
)
def test_external_data_that_is_not_there(tmp_path, told, message):
    refused(external(tmp_path, **told), message)


def test_external_data_in_memory_only():
    """A model in memory does not say in which folder its data are."""
    model = small()
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(
        ValueError, match=r"tensor 't0' lies in another file; .* or load it with onnx\.load"
    ):
        fold_onnx(model)


# Files that are none


def foreign():
    from google.protobuf import descriptor_pb2

    return descriptor_pb2.FileDescriptorProto(
        name="a.proto", package="b", dependency=["c"]
    ).SerializeToString()


FOREIGN = {
    "empty": b"",
    "text": b"# not a model\n",
    "random": np.random.default_rng(0).bytes(5000),
    "zeros": bytes(100),
    "another protobuf": foreign(),
    "a tensor": numpy_helper.from_array(np.ones(5)).SerializeToString(),
    "safetensors": (64).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    + bytes(14),
    "a field that promises 2^60 bytes": b"\x3a" + b"\x80" * 8 + b"\x10" + b"abc",
    "a graph of no nodes and no version": b"\x3a\x02\x12\x00",
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refused(path, "is no ONNX model, or broken|is no valid ONNX model")


WIRE = {
    "no such kind of field": (b"\x0b", "byte 0 starts no field"),
    "beyond the end": (b"\x0a\x05ab", "the field at byte 0 reaches beyond the end"),
    "number 0": (b"\x02\x00", "a field is numbered 0"),
    "half a number": (b"\x08\x80", "it ends within a number"),
    "a number too long": (b"\x08" + b"\xff" * 12, "a number has more than 64 bits"),
    "half of eight bytes": (b"\x09abc", "the field at byte 0 reaches beyond the end"),
    "half of four bytes": (b"\x0dabc", "the field at byte 0 reaches beyond the end"),
}


@pytest.mark.parametrize(("data", "message"), WIRE.values(), ids=WIRE)
def test_damage_is_named(tmp_path, data, message):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refused(path, message)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 31, (1 << 63) + 5])
def test_numbers_on_the_wire(tmp_path, value):
    """As protobuf itself writes them, between fields of all kinds."""
    path = tmp_path / "fields"
    data = (
        onnx_fold_wire.key(3)
        + b"\x02ab"
        + b"\x21"
        + bytes(8)
        + b"\x08"
        + onnx_fold_wire.varint(value)
        + b"\x15"
        + bytes(4)
    )
    path.write_bytes(data)
    with open(path, "rb") as file:
        found = [
            (number, last - first)
            for number, _, first, last in onnx_fold_wire.fields(file, 0, len(data))
        ]
    assert [number for number, _ in found] == [3, 4, 1, 2] and found[0][1] == 2
    message = onnx.ModelProto(model_version=value - (1 << 64) if value >> 63 else value)
    assert message.SerializeToString() == b"\x28" + onnx_fold_wire.varint(value)


def test_names_that_are_no_text(saved):
    """Of a node, which is looked at first, and of an attribute, which is not."""
    data = saved.read_bytes()
    for name in (b"conv0", b"kernel_shape"):
        saved.write_bytes(data.replace(name, b"\xff" * len(name), 1))
        refused(saved, "no text|is no valid ONNX model")  # onnx before 1.20 does not say why


def test_weights_too_large_for_their_type(saved):
    model = small()
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.full(8, 3e38, np.float32), "t2"))
    model.graph.initializer[5].CopyFrom(numpy_helper.from_array(np.zeros(8, np.float32), "t5"))
    saved.write_bytes(model.SerializeToString())
    refused(
        saved, "cannot be folded: (kernel|bias) of conv0 is not finite in float32 after folding"
    )


def test_a_file_that_cannot_be_read(saved, monkeypatch):
    def broken(file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(onnx_fold_model, "_read", broken)
    refused(saved, r"cannot be read \(Input/output error\)")


def test_truncated_files(saved):
    """At a hundred places: none folds, none breaks off with another error."""
    data = saved.read_bytes()
    for end in np.linspace(1, len(data) - 1, 100).astype(int):
        saved.write_bytes(data[:end])
        with pytest.raises(FileError, match="model"):
            fold_onnx_file(saved, saved.with_name("folded.onnx"))
    assert os.listdir(saved.parent) == ["model.onnx"]


@pytest.mark.slow
def test_files_with_wrong_bytes(saved):
    """Each fold either is checked as any other, or is refused in one line."""
    data, rng = saved.read_bytes(), np.random.default_rng(0)
    places = np.flatnonzero(~_within_weights(data))
    outcomes = set()
    for _ in range(100):
        damaged = bytearray(data)
        damaged[rng.choice(places)] = rng.integers(256)
        saved.write_bytes(damaged)
        try:
            fold_onnx_file(saved, saved.with_name("folded.onnx"))
            outcomes.add("done")
        except (FileError, FoldCheckFailed) as err:
            assert "\n" not in str(err)
            outcomes.add(type(err).__name__)
    assert "FileError" in outcomes


def _within_weights(data):
    within = np.zeros(len(data), bool)
    for tensor in onnx.ModelProto.FromString(data).graph.initializer:
        at = data.find(tensor.raw_data)
        within[at : at + len(tensor.raw_data)] = len(tensor.raw_data) > 40
    return within


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([1 << 30, 1 << 30], rf"holds 864 bytes, its shape .* says {1 << 62}"),
        ([8, 3, 3, 4], r"holds 864 bytes, its shape \(8, 3, 3, 4\) says 1152"),
        ([-8, 3, 3, -3], r"tensor 't0' has shape \(-8, 3, 3, -3\)"),
    ],
)
def test_tensors_that_do_not_fit_their_shape(saved, dims, message):
    model = small()
    model.graph.initializer[0].dims[:] = dims
    saved.write_bytes(model.SerializeToString())
    refused(saved, message)


def test_numbers_that_are_no_raw_bytes(saved):
    """Old exporters write lists of floats."""
    model = small()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).reshape(-1).tolist()
        tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values))
    saved.write_bytes(model.SerializeToString())
    assert fold_file(saved, strict=True)[0].n_folded == 3
    del model.graph.initializer[0].float_data[5:]
    saved.write_bytes(model.SerializeToString())
    refused(saved, r"tensor 't0' holds 5 numbers, its shape .* says 216")


def test_a_message_written_otherwise(saved):
    """Each float with a tag of its own, and the graph in two pieces.

    Protobuf itself would write neither.
    """
    g = Builder()
    x = g.add("MatMul", g.input("x", "n", 4), g.weights(4, 3))
    g.add("Max", g.norm(x, 3), g.tensor([1.0, 2.0, 3.0], "last"))
    model = g.model()
    last = model.graph.initializer.pop()
    head = onnx.TensorProto(
        name=last.name, dims=last.dims, data_type=last.data_type
    ).SerializeToString()
    tensor = head + b"".join(b"\x25" + struct.pack("<f", value) for value in (1, 2, 3))
    initializer = onnx_fold_wire.key(5) + onnx_fold_wire.varint(len(tensor)) + tensor
    piece = onnx_fold_wire.key(7) + onnx_fold_wire.varint(len(initializer)) + initializer
    saved.write_bytes(model.SerializeToString() + piece)
    assert len(tensor) != len(onnx.TensorProto.FromString(tensor).SerializeToString())
    _, folded = fold_file(saved, strict=True)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(run(folded, x)[0], run(onnx.load(saved), x)[0], atol=1e-5)
    assert tensor in saved.with_name("folded.onnx").read_bytes()


@pytest.mark.parametrize(
    ("path", "message"),
    [("gone.onnx", "does not exist"), (".", "is a folder; give the name of a model file")],
)
def test_no_file(tmp_path, path, message):
    with pytest.raises(FileError, match=message):
        fold_onnx_file(tmp_path / path, tmp_path / "folded.onnx")


def test_no_folder_to_write_to(saved):
    with pytest.raises(FileError, match=r"the folder .* does not exist"):
        fold_onnx_file(saved, saved.parent / "gone" / "folded.onnx")


def test_an_input_too_large_to_make_up(tmp_path):
    g = Builder()
    g.norm(g.conv(g.input("x", 1 << 20, 4, 1 << 38), 4, 4, 1), 4)
    path = tmp_path / "model.onnx"
    onnx.save(g.model(), path)
    with pytest.raises(FoldCheckFailed, match="too large to check the fold on"):
        fold_onnx_file(path, tmp_path / "folded.onnx")
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_more_than_a_protobuf_file_holds(saved, monkeypatch):
    monkeypatch.setattr(onnx_fold_model, "_MOST_BYTES", 1000)
    refused(saved, "the folded model takes .* GB, and a protobuf file holds no more")


MEMORY = r"""
    import re, sys
    import onnx, onnxruntime, nbbn
    from nbbn.formats.onnx import check as onnx_fold_check
    from nbbn.formats.onnx import fold_graph as onnx_fold_graph
    from nbbn.formats.onnx import rebuild as onnx_fold_rebuild
    from nbbn.interop.onnx_fold import fold_onnx_file
    # Not ru_maxrss, in which the parent counts until the child is another program.
    peak = lambda: 1024 * int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
    fold_onnx_file(sys.argv[1], sys.argv[3])
    before = peak()
    report = fold_onnx_file(sys.argv[2], sys.argv[3], strict=True)
    print(report.n_folded, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_is_bounded(tmp_path, saved):
    """A file of 21 MB in twenty kernels.

    What it takes beside the imports stays under four times the file.
    """
    g = Builder()
    x = g.input("x", "n", 512)
    for _ in range(20):
        kernel = g.tensor(np.random.default_rng(0).random((512, 512), np.float32) / 512)
        x = g.add("Relu", g.norm(g.add("Gemm", x, kernel), 512))
    path = tmp_path / "large.onnx"
    onnx.save(g.model(), path)
    done = subprocess.run(
        [
            sys.executable, "-c", textwrap.dedent(MEMORY), str(saved), str(path),
            str(tmp_path / "folded.onnx"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    folded, grown = map(int, done.stdout.split())
    assert folded == 20
    assert grown < 4 * path.stat().st_size
