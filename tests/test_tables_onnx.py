"""Whole pipelines of scikit-learn's as one ONNX file, run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

import nbbn
from nbbn.interop import to_onnx

pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
ort = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install skl2onnx")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ROWS = 200


@pytest.fixture
def frame(rng):
    found = pandas.DataFrame({
        "age": rng.integers(18, 90, ROWS).astype(float), "income": rng.normal(4e4, 1e4, ROWS),
        "city": rng.choice(["K\u00f6ln", "Berlin", "Rome", "Oslo"], ROWS, p=[0.5, 0.3, 0.15, 0.05]),
        "rooms": rng.integers(1, 5, ROWS), "unused": rng.normal(size=ROWS),
    })  # fmt: skip
    found.loc[rng.random(ROWS) < 0.2, "age"] = np.nan
    return found


def network(dtype=None, cls=nbbn.MLPClassifier):
    return cls(hidden_layer_sizes=(8,), max_iter=3, random_state=0, dtype=dtype)


def run(model, feeds):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})


def feeds_of(frame, dtype=np.float64):
    """Each column as an input of its name."""
    kinds = {"f": dtype, "i": np.int64}
    return {name: frame[[name]].to_numpy().astype(kinds.get(frame[name].dtype.kind, object))
            for name in frame}


ENCODERS = [
    OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3, sparse_output=False),
    OneHotEncoder(handle_unknown="ignore"), OrdinalEncoder(),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_column_transformer(frame, encoder, dtype):
    steps = ColumnTransformer([
        ("n", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["age", "income"]),
        ("c", encoder, ["city", "rooms"]), ("u", "drop", ["unused"]),
    ])
    y = np.where(frame.income > 4e4, "high", "low")
    pipeline = make_pipeline(steps, network(dtype)).fit(frame, y)
    label, proba = run(to_onnx(pipeline), feeds_of(frame, dtype))
    np.testing.assert_allclose(
        proba, pipeline.predict_proba(frame), atol=1e-12 if dtype == "float64" else 1e-5)
    assert np.mean(label == pipeline.predict(frame)) > 0.99


def test_an_unknown_category_is_what_it_is_in_the_pipeline(frame):
    steps = ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), ["city"])],
                              remainder="drop")
    pipeline = make_pipeline(steps, network()).fit(frame, frame.rooms)
    new = frame[:3].assign(city=["Oslo", "Paris", ""])
    model = to_onnx(pipeline)
    assert [value.name for value in model.graph.input] == ["city"]
    _, proba = run(model, feeds_of(new))
    np.testing.assert_allclose(proba, pipeline.predict_proba(new), atol=1e-12)


def test_columns_by_place_and_what_remains(frame):
    frame = frame.drop(columns="unused")
    steps = ColumnTransformer([("c", OneHotEncoder(), [2]), ("n", SimpleImputer(), slice(0, 1))],
                              remainder=MinMaxScaler())
    pipeline = make_pipeline(steps, network()).fit(frame, frame.income > 4e4)
    _, proba = run(to_onnx(pipeline), {**feeds_of(frame), "rooms": frame[["rooms"]].to_numpy(float)})
    np.testing.assert_allclose(proba, pipeline.predict_proba(frame), atol=1e-12)


def test_a_regressor_of_arrays_and_its_file(tmp_path, rng):
    x = rng.normal(size=(ROWS, 4)) * [1, 10, 100, 1000]
    pipeline = make_pipeline(StandardScaler(), network(cls=nbbn.MLPRegressor)).fit(x, x[:, 0])
    to_onnx(pipeline, tmp_path / "p.onnx")
    session = ort.InferenceSession(str(tmp_path / "p.onnx"), providers=["CPUExecutionProvider"])
    assert [(i.name, i.type) for i in session.get_inputs()] == [("x", "tensor(double)")]
    found = session.run(None, {"x": x})[0][:, 0]
    np.testing.assert_allclose(found, pipeline.predict(x), atol=1e-10)


def test_a_pipeline_of_float64_takes_float32_where_it_is_asked_to(rng):
    x = rng.normal(size=(ROWS, 4))
    pipeline = make_pipeline(StandardScaler(), network()).fit(x, x[:, 0] > 0)
    found = run(to_onnx(pipeline, dtype="float32"), {"x": x.astype(np.float32)})[1]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pipeline.predict_proba(x), atol=1e-5)
    with pytest.raises(ValueError, match="dtype must be None"):
        to_onnx(pipeline, dtype="int8")


def test_an_imputer_of_an_empty_column(rng):
    x = rng.normal(size=(ROWS, 3))
    x[:, 1], x[::3, 2] = np.nan, np.nan
    steps = SimpleImputer(add_indicator=True, keep_empty_features=False)
    with pytest.warns(UserWarning, match="Skipping features without any observed values"):
        pipeline = make_pipeline(steps, network()).fit(x, x[:, 0] > 0)
        model = to_onnx(pipeline)
        want = pipeline.predict_proba(x)
    np.testing.assert_allclose(run(model, {"x": x})[1], want, atol=1e-12)


def test_what_is_refused(frame, rng, monkeypatch):
    x, y = rng.normal(size=(ROWS, 3)), np.arange(ROWS) % 2
    with pytest.raises(TypeError, match="this one ends in LogisticRegression"):
        to_onnx(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y))
    pipeline = make_pipeline(FunctionTransformer(np.sin), network()).fit(x, y)
    with pytest.raises(ValueError, match=r"skl2onnx cannot express a step .* to_onnx\(pipeline\[-1\]\)"):
        to_onnx(pipeline)
    pipeline = make_pipeline(SelectKBest(k=2), network()).fit(x, y)
    with pytest.raises(ValueError, match="a pipeline is written folded; leave fold=True"):
        to_onnx(pipeline, fold=False)
    to_onnx(pipeline)
    with pytest.raises(Exception, match="not fitted"):
        to_onnx(make_pipeline(StandardScaler(), network()))
    with pytest.raises(TypeError, match="takes a fitted"):
        to_onnx(TransformedTargetRegressor(network(cls=nbbn.MLPRegressor)).fit(x, x[:, 0]))
    pipeline[0].get_support = lambda indices=False: np.array([1, 2])  # what skl2onnx reads
    monkeypatch.setattr(type(pipeline[0]), "transform", lambda self, X: X[:, :2])
    with pytest.raises(ValueError, match="outputs differ from the pipeline's by"):
        to_onnx(pipeline)
