"""Whole models as ONNX files: what onnxruntime says of them is what they say themselves."""

import importlib.util
import os
import sys

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nbbn
from nbbn.interop import register_skl2onnx, to_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
)

# A few epochs will do.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TOLERANCES = {np.float32: 5e-6, np.float64: 1e-12}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6)) * [1, 2, 3, 0.5, 1, 1] + 1
THREE = np.digitize(X[:, 0] + X[:, 1], [0.5, 3])
TARGETS = {
    "binary": THREE == 2, "binary strings": np.where(THREE == 2, "yes", "no"),
    "multiclass": THREE * 10 - 7, "strings": np.array(["b", "\N{SNOWMAN}", "a"])[THREE],
    "multilabel": np.stack([THREE == 2, X[:, 2] > 1, X[:, 3] > 1], axis=1).astype(int),
    "regression": X[:, 0] * X[:, 1], "regression of two": X[:, :2] ** 2,
}


def fitted(target, dtype=np.float64, **options):
    cls = nbbn.MLPRegressor if "regression" in target else nbbn.MLPClassifier
    model = cls(hidden_layer_sizes=(8, 5), max_iter=5, random_state=0, **options)
    return model.fit(X.astype(dtype), TARGETS[target])


def run(model, x):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: x}), strict=True))


def same_labels(got, ref):
    assert got.shape == ref.shape
    np.testing.assert_array_equal(
        got.astype(str), np.asarray(ref).astype(int if ref.dtype == bool else ref.dtype).astype(str)
    )


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", TARGETS)
def test_estimators(target, dtype, fold):
    model, x = fitted(target, dtype), X.astype(dtype)
    written = to_onnx(model, fold=fold)
    assert ("BatchNormalization" in [node.op_type for node in written.graph.node]) == (not fold)
    got, scale = (
        run(written, x),
        TOLERANCES[dtype] * max(1, np.abs(model.predict(x)).max() if "regression" in target else 1),
    )
    if "regression" in target:
        assert list(got) == ["output"]
        assert got["output"].dtype == dtype
        np.testing.assert_allclose(
            got["output"].reshape(model.predict(x).shape), model.predict(x), rtol=0, atol=scale
        )
        return
    assert list(got) == ["label", "probabilities"]
    assert got["probabilities"].dtype == dtype
    np.testing.assert_allclose(got["probabilities"], model.predict_proba(x), rtol=0, atol=scale)
    same_labels(got["label"], model.predict(x))


@pytest.mark.parametrize("activation", ["gelu", "selu", "softplus", "leaky_relu"])
def test_other_networks(activation):
    model = fitted(
        "multiclass", np.float32, activation=activation, batch_norm=["post", False], dropout=0.2
    )
    x = X.astype(np.float32)  # onnxruntime has no gelu in float64
    got = run(to_onnx(model), x)
    np.testing.assert_allclose(got["probabilities"], model.predict_proba(x), rtol=0, atol=5e-6)


@pytest.mark.parametrize("fold", [True, False])
def test_models_of_layers(fold):
    layers = [nbbn.layers.Conv2D(4, 2), nbbn.layers.BatchNormalization(), nbbn.layers.Flatten()]
    images = RNG.normal(size=(40, 4, 5, 2)).astype(np.float32)
    model = nbbn.Sequential([nbbn.Input((4, 5, 2)), *layers, nbbn.layers.Dense(3)])
    got = run(to_onnx(model, fold=fold), images)["output"]
    np.testing.assert_allclose(got, model.predict(images), rtol=0, atol=5e-6)
    ends = [*layers, nbbn.layers.Dense(3, activation="softmax")]
    classifier = nbbn.SequentialClassifier(ends, epochs=1)
    y = np.array(["x", "y", "z"])[np.arange(40) % 3]
    got = run(to_onnx(classifier.fit(images, y), fold=fold), images)
    np.testing.assert_allclose(
        got["probabilities"], classifier.predict_proba(images), rtol=0, atol=5e-6
    )
    assert got["label"].tolist() == classifier.predict(images).tolist()


def test_a_folded_model_and_its_file(tmp_path):
    model = fitted("strings")
    written = to_onnx(model.fold(), tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == written
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert written == to_onnx(model)


def test_refuses():
    with pytest.raises(TypeError, match=r"fold takes a fitted MLPClassifier, .*, got int"):
        to_onnx(3)
    with pytest.raises(TypeError, match="to_onnx: fold must be True or False, got 'no'"):
        to_onnx(fitted("binary"), fold="no")


def test_without_packages(monkeypatch):
    model = fitted("binary")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ImportError, match=r"to_onnx needs the package onnx: pip install 'nbbn\[onnx\]'"
    ):
        to_onnx(model)
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(
        ImportError, match="register_skl2onnx needs the package skl2onnx: pip install skl2onnx"
    ):
        register_skl2onnx()


# Pipelines, through skl2onnx


@pytest.mark.skipif(
    importlib.util.find_spec("skl2onnx") is None,
    reason="skl2onnx is not installed: pip install skl2onnx",
)
@pytest.mark.filterwarnings("ignore")  # of that package's own
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", TARGETS)
def test_pipelines(target, dtype):
    import skl2onnx

    register_skl2onnx()
    cls = nbbn.MLPRegressor if "regression" in target else nbbn.MLPClassifier
    pipeline = make_pipeline(
        StandardScaler(), cls(hidden_layer_sizes=(8,), max_iter=5, random_state=0)
    ).fit(X.astype(dtype), TARGETS[target])
    options = {} if "regression" in target else {"options": {"zipmap": False}}
    x = X.astype(dtype)
    got = run(skl2onnx.to_onnx(pipeline, x[:1], **options), x)
    tolerance = (
        10
        * TOLERANCES[dtype]
        * max(1, np.abs(TARGETS[target]).max() if "regression" in target else 1)
    )
    if "regression" in target:
        ref = pipeline.predict(x)
        np.testing.assert_allclose(got["variable"].reshape(ref.shape), ref, rtol=0, atol=tolerance)
        return
    np.testing.assert_allclose(
        got["probabilities"], pipeline.predict_proba(x), rtol=0, atol=tolerance
    )
    same_labels(got["label"], pipeline.predict(x))
    alone = nbbn.interop.from_onnx(skl2onnx.to_onnx(pipeline[-1], x[:1], **options))
    scaled = pipeline[0].transform(x)
    same_labels(alone.predict(scaled), pipeline.predict(x))
    np.testing.assert_allclose(
        alone.predict_proba(scaled), pipeline.predict_proba(x), rtol=0, atol=tolerance
    )
