"""Equal probabilities.

One sigmoid at 0.5 exactly and outputs that are the same, in everything that decides about a class.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_csource import call, compiled, needs_compiler
from test_onnx import run

import nbbn
from nbbn import compiler
from nbbn.folded_model import FoldedModel
from nbbn.layers import Dense
from nbbn.network import Network

# Outputs before the activation, and which class is meant. The last of each are the nearest to a
# tie.
SIGMOID = [([0.0], 0), ([-0.0], 0), ([1.0], 1), ([-1.0], 0), ([3e-7], 1), ([-3e-7], 0)]
SOFTMAX = [
    ([0, 0, 0], 0), ([0, 1, 1], 1), ([1, 0, 1], 0), ([-1, -2, -1], 0), ([0, 0, 3e-7], 2),
    ([-200, -300, -200], 0),
]
CASES = {"sigmoid": SIGMOID, "softmax": SOFTMAX}


def model_of(activation, dtype, kind="classifier", classes=None):
    """A model whose only layer hands its rows on to the activation."""
    units = len(CASES[activation][0][0])
    weights = [{"kernel": np.eye(units, dtype=dtype), "bias": np.zeros(units, dtype)}]
    classes = (
        np.array(["first", "second", "third"][: max(units, 2)]) if classes is None else classes
    )
    return FoldedModel(
        Network((Dense(units, activation),), (units,), weights, np.dtype(dtype)),
        kind=kind,
        classes=classes,
    )


def rows_of(activation, dtype):
    return np.array([row for row, _ in CASES[activation]], dtype), np.array(
        [index for _, index in CASES[activation]]
    )


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


activations = pytest.mark.parametrize("activation", CASES)


@activations
def test_the_ties_are_ties(activation, dtype):
    """Or this file tests nothing."""
    x, _ = rows_of(activation, dtype)
    p = model_of(activation, dtype).predict_proba(x)
    equal = (np.sort(p)[:, -1] == np.sort(p)[:, -2]).tolist()
    assert equal == (
        [True, True] + [False] * 4 if activation == "sigmoid" else [True] * 4 + [False, True]
    )
    if activation == "sigmoid":
        assert (p[:2] == 0.5).all()


@activations
@pytest.mark.parametrize("jit", [True, False])
def test_folded_model(activation, dtype, jit, monkeypatch):
    monkeypatch.setattr(compiler, "available", lambda: jit)
    x, index = rows_of(activation, dtype)
    model = model_of(activation, dtype)
    assert model.predict(x).tolist() == model.classes_[index].tolist()


@needs_compiler
@activations
def test_c(activation, dtype, tmp_path):
    x, index = rows_of(activation, dtype)
    library = compiled(model_of(activation, dtype).to_c(), tmp_path)
    assert call(library.model_classify, x, 1, np.uintp)[:, 0].tolist() == index.tolist()


@activations
def test_onnx(activation, dtype):
    x, index = rows_of(activation, dtype)
    model = model_of(activation, dtype)
    assert run(model.to_onnx(), x)["label"].tolist() == model.classes_[index].tolist()


def test_each_label_for_itself(dtype):
    """A label is given above 0.5 only."""
    x = np.array([[row[0]] for row, _ in SIGMOID], dtype)
    model = model_of("sigmoid", dtype, "multilabel", np.arange(1))
    wanted = [[index] for _, index in SIGMOID]
    assert model.predict(x).tolist() == wanted
    assert run(model.to_onnx(), x)["label"].tolist() == wanted


LABELS = {"sigmoid": ["b", "a"] * 3, "softmax": ["b", "a", "c"] * 2}
X = np.arange(12, dtype=np.float32).reshape(-1, 2)


@activations
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_mlp(activation):
    model = nbbn.MLPClassifier((), max_iter=1, batch_norm=False).fit(X, LABELS[activation])
    for array in (*model.coefs_, *model.intercepts_):
        array[...] = 0
    assert set(model.predict(X)) == {"a"}
    assert len(np.unique(model.predict_proba(X))) == 1


@activations
def test_sequential_classifier(activation):
    units = len(CASES[activation][0][0])
    layers = [Dense(units, activation, kernel_initializer="zeros", bias_initializer="zeros")]
    model = nbbn.SequentialClassifier(layers, optimizer=nbbn.optimizers.SGD(0.0), epochs=1).fit(
        X, LABELS[activation]
    )
    assert set(model.predict(X)) == {"a"}
    assert len(np.unique(model.predict_proba(X))) == 1
