"""Models, files and names of other programs: each is told the way, and nothing is written."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

import nbbn
from nbbn.layers import BatchNormalization, Dense, Input

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def model_of(module):
    """An object whose class is of a module of another package."""
    base = type("Module", (), {"__module__": module})
    return type("Net", (base,), {"__module__": "users_own"})()


@pytest.mark.parametrize(
    "model, way",
    [
        (model_of("torch.nn.modules.module"), r"from_torch\(model.state_dict\(\), layers\)"),
        (model_of("keras.src.models.model"), r"save it as .keras and give .*from_keras"),
        (model_of("tensorflow.python.keras"), r"save it as .keras and give .*from_keras"),
        (model_of("sklearn.pipeline"), r"fold the network within: model\[-1\]"),
        ("model.onnx", r"open the file first, nbbn.load\(path\).*nbbn fold IN OUT"),
    ],
)
def test_fold(model, way):
    with pytest.raises(TypeError, match=f"fold takes a fitted .*; .*{way}"):
        nbbn.fold(model)


def test_load(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    (tmp_path / "m.onnx").write_bytes(b"\x08\x09" + bytes(99))
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04" + bytes(99))
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    ways = {
        "m.keras": "is a Keras file; open it with nbbn.interop.from_keras",
        "m.h5": "is a Keras file; open it with nbbn.interop.from_keras",
        "m.onnx": "is an ONNX file; open it with nbbn.interop.from_onnx",
        "m.pkl": "is a pickle: PyTorch's weights are read with nbbn.interop.from_torch",
        "m.pt": "is a pickle: PyTorch's weights are read with nbbn.interop.from_torch",
        "saved": "is a TensorFlow SavedModel; save the model as .keras",
    }
    for name, way in ways.items():
        with pytest.raises(nbbn.FileError, match=way):
            nbbn.load(tmp_path / name)
    with pytest.raises(nbbn.FileError, match="is a folder"):
        nbbn.load(tmp_path)


@pytest.fixture(scope="module")
def models():
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    estimator = nbbn.MLPClassifier((4,), max_iter=1, random_state=0).fit(x, y)
    sequential = nbbn.Sequential([Input((3,)), Dense(4), BatchNormalization(), Dense(2)])
    return [estimator, sequential, estimator.fold()]


@pytest.mark.parametrize(
    "suffix, way",
    [
        (".pkl", "joblib.dump"), (".joblib", "joblib.dump"), (".onnx", "to_onnx"), (".C", "to_c"),
        (".pt", "ONNX"), (".npz", "ONNX"),
    ],
)
def test_names_of_other_formats_are_refused(models, suffix, way, tmp_path):
    for model in models:
        with pytest.raises(nbbn.FileError, match=rf"call the file .safetensors, or for .* use .*{way}"):
            model.save(tmp_path / f"model{suffix}")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_names_that_tutorials_give_are_written_with_a_word(models, name, tmp_path):
    for model in models:
        with pytest.warns(UserWarning, match="holds nbbn's own format, which nbbn.load opens"):
            model.save(tmp_path / name)
        assert type(nbbn.load(tmp_path / name)) is type(model)


def test_other_names_are_free(models, tmp_path):
    for model in models:
        for name in ("model", "model.safetensors", "model.nbbn", "v1.2"):
            model.save(tmp_path / name)
            assert type(nbbn.load(tmp_path / name)) is type(model)
