"""One door for files of any kind."""

import importlib.util
import io
import json
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save as to_safetensors

import nbbn
from nbbn.interop import open_model

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(int)


def a_sequential():
    layers = nbbn.layers
    model = nbbn.Sequential(
        [
            nbbn.Input((4,)), layers.Dense(5), layers.BatchNormalization(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    return model


def an_estimator():
    return nbbn.MLPClassifier((5,), max_iter=300, tol=1, random_state=0).fit(X, Y)


def refused(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(nbbn.FileError, match=message) as error:
        open_model(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("make", [a_sequential, an_estimator, lambda: an_estimator().fold()])
@pytest.mark.parametrize("name", ["m.safetensors", "m.other"])
def test_own_files(tmp_path, make, name):
    model = make()
    model.save(tmp_path / name)
    opened = open_model(tmp_path / name)
    assert type(opened) is type(model)
    np.testing.assert_array_equal(opened.predict(X), model.predict(X))


@pytest.mark.parametrize("name", ["m.onnx", "m.other"])
def test_onnx(tmp_path, name):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
    model = a_sequential()
    nbbn.interop.to_onnx(model, tmp_path / name)
    opened = open_model(str(tmp_path / name))
    assert isinstance(opened, nbbn.Sequential)
    np.testing.assert_allclose(opened.predict(X), model.predict(X), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.other"])
def test_keras(tmp_path, name):
    pytest.importorskip(
        "h5py", reason="h5py, which writes these files, is not installed: pip install h5py"
    )
    from keras_files import h5_file, keras_file, sequential_config, weights_file
    from naive_layers import NaiveNetwork, describe

    network = NaiveNetwork([describe("Dense", units=3)], (4,)).draw(np.random.default_rng(3))
    config = sequential_config(network, (4,))
    data = h5_file(config, network) if name == "m.h5" else keras_file(config, weights_file(network))
    (tmp_path / name).write_bytes(data)
    np.testing.assert_allclose(
        open_model(tmp_path / name).predict(X), network.forward(X), rtol=0, atol=2e-6
    )


def test_weights_without_layers(tmp_path):
    refused(
        tmp_path, "m.safetensors", to_safetensors({"0.weight": X}),
        r"not of nbbn; .*nbbn.interop.from_torch\(path, layers\)",
    )
    refused(
        tmp_path, "m.pt", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        r"holds weights without layers; read it with nbbn.interop",
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", b"")
    refused(
        tmp_path, "m.pt", buffer.getvalue(),
        r"holds weights without layers; read it with nbbn.interop.from_torch\(path, layers\)",
    )
    if importlib.util.find_spec("torch"):
        import torch

        for new in (True, False):
            torch.save({"a": torch.ones(2)}, tmp_path / "t.pt", _use_new_zipfile_serialization=new)
            refused(
                tmp_path, "m.pt", (tmp_path / "t.pt").read_bytes(), "holds weights without layers"
            )


def test_foreign_files(tmp_path):
    for data in (b"", b"x", b"hello world, this is text", json.dumps({"a": 1}).encode()):
        refused(
            tmp_path, "m.bin", data,
            "is no model file that nbbn reads; give nbbn's own, .keras, .h5 or .onnx",
        )
        refused(
            tmp_path, "m.safetensors", data,
            "is no nbbn model file, or cut short|is no nbbn model file",
        )
        refused(tmp_path, "m.onnx", data, "is no ONNX model, or broken")
    refused(tmp_path, "m.keras", b"PK\x03\x04" + bytes(50), "broken")
    with pytest.raises(nbbn.FileError, match="does not exist; check the path"):
        open_model(tmp_path / "none")
    with pytest.raises(nbbn.FileError, match="is a folder; give the name of a model file"):
        open_model(tmp_path)
    with pytest.raises(nbbn.FileError, match="is no path"):
        open_model("a\0b")


def test_what_is_imported():
    """None of the heavy packages comes with the import of nbbn."""
    import subprocess
    import sys

    heavy = "{'onnx', 'h5py', 'torch', 'keras', 'skl2onnx', 'onnxruntime'}"
    code = f"import sys, nbbn, nbbn.interop; nbbn.interop.from_keras; nbbn.interop.from_torch; nbbn.interop.from_onnx; \
nbbn.interop.to_onnx; nbbn.interop.open_model; nbbn.interop.register_skl2onnx; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
