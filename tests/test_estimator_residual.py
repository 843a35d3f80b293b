"""Hidden layers with a shortcut around each: `residual=True`."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import naive
import numpy as np
import pytest
import scipy.sparse
from estimator_helpers import (
    assert_close,
    assert_same_bits,
    assert_same_fit,
    kinds,
    norms,
    numbers,
    objective_of,
    three_classes,
)
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from test_shards import Shards

import nbbn
from nbbn.group import ALONE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def made(kind="MLPClassifier", **params):
    """A small residual estimator."""
    given = {"hidden_layer_sizes": (6, 6, 6), "residual": True, "max_iter": 4, "batch_size": 25,
             "random_state": 1}
    return getattr(nbbn, kind)(**{**given, **params})


def data(kind="MLPClassifier"):
    return three_classes(90, 8, 6) if kind == "MLPClassifier" else numbers()


def by_hand(fitted, X, batch_norm, activation=np.tanh):
    """What each hidden layer gives, from the formula."""
    hidden = [X]
    for h in range(len(fitted.coefs_) - 1):
        z = hidden[-1] @ fitted.coefs_[h] + fitted.intercepts_[h]
        if batch_norm:
            names = ("gammas_", "betas_", "running_means_", "running_vars_")
            z = activation(z) if batch_norm == "post" else z
            z = naive.batch_norm_inference(z, *(getattr(fitted, name)[h] for name in names))
        z = z if batch_norm == "post" else activation(z)
        hidden.append(hidden[-1] + z if h else z)
    return hidden


@kinds
@norms
def test_each_hidden_layer_but_the_first_adds_what_it_reads(kind, batch_norm):
    X, y = data(kind)
    fitted = made(kind, batch_norm=batch_norm, activation="tanh", dropout=0.2).fit(X, y)
    hidden = by_hand(fitted, X, batch_norm)
    for layer, ref in enumerate(hidden):
        np.testing.assert_allclose(fitted.transform(X, layer=layer), ref, rtol=1e-9, atol=1e-12)
    assert list(fitted.get_feature_names_out()) == [f"{kind.lower()}{k}" for k in range(6)]
    out = hidden[-1] @ fitted.coefs_[-1] + fitted.intercepts_[-1]
    if kind == "MLPRegressor":
        np.testing.assert_allclose(fitted.predict(X), out[:, 0], rtol=1e-9, atol=1e-12)
    else:
        exp = np.exp(out - out.max(1, keepdims=True))
        np.testing.assert_allclose(fitted.predict_proba(X), exp / exp.sum(1, keepdims=True),
                                   rtol=1e-9, atol=1e-12)


@kinds
@norms
def test_gradients_are_central_differences(kind, batch_norm):
    X, y = data(kind)
    fitted = made(kind, batch_norm=batch_norm, activation="tanh", alpha=0.1).fit(X, y)
    objective = objective_of(fitted, np.ascontiguousarray(X), y)
    vector = objective.pack()
    gradient = objective(vector)[1].copy()
    for k in range(0, len(vector), 7):
        step = np.zeros(len(vector))
        step[k] = 1e-6
        change = (objective(vector + step)[0] - objective(vector - step)[0]) / 2e-6
        assert change == pytest.approx(gradient[k], rel=1e-4, abs=1e-7)


def test_it_is_the_model_of_these_layers():
    """The same numbers as a functional model of Add layers, from the same weights."""
    X, y = data()
    fitted = made(activation="relu").fit(X, y)
    layers = nbbn.layers
    inputs = x = layers.Input((8,))
    for h in range(3):
        z = layers.BatchNormalization(epsilon=1e-5)(layers.Dense(6, use_bias=False)(x))
        z = layers.ReLU()(z)
        x = layers.Add()([x, z]) if h else z
    model = nbbn.Model(inputs, layers.Dense(3, activation="softmax")(x))
    weights = []
    for h in range(3):
        weights += [fitted.coefs_[h], fitted.gammas_[h], fitted.betas_[h],
                    fitted.running_means_[h], fitted.running_vars_[h]]
    model.set_weights([*weights, fitted.coefs_[3], fitted.intercepts_[3]])
    np.testing.assert_allclose(model.predict(X.astype("f4")), fitted.predict_proba(X), atol=1e-5)


@kinds
def test_all_batch_norms_fold(kind):
    X, y = data(kind)
    fitted = made(kind).fit(X, y)
    folded = fitted.fold(strict=True, check=X)
    assert (folded.report.n_folded, folded.report.n_total) == (3, 3)
    np.testing.assert_allclose(folded.predict(X), fitted.predict(X), rtol=1e-6)


@kinds
@norms
def test_saved_loaded_and_gone_on_with(kind, batch_norm, tmp_path):
    X, y = data(kind)
    fitted = made(kind, batch_norm=batch_norm, warm_start=True).fit(X, y)
    fitted.save(tmp_path / "m.safetensors")
    loaded = nbbn.load(tmp_path / "m.safetensors")
    assert loaded.residual is True
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    loaded.set_params(random_state=3).fit(X, y)
    fitted.set_params(random_state=3).fit(X, y)
    if kind == "MLPClassifier":
        assert_same_bits(loaded, fitted)
    else:  # a file holds the output layer in the targets' units, a rounding away
        assert_close(loaded, fitted, rtol=1e-9)
    fitted.residual = False
    with pytest.raises(ValueError, match="residual or a parameter of batch norm was changed"):
        fitted.save(tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match="dropout, residual or loss differ from the fitted"):
        fitted.fit(X, y)


def test_partial_fit_and_checkpoint(tmp_path):
    X, y = data()
    one, other = made().fit(X, y), made()
    for _ in range(4):
        other.partial_fit(X, y, classes=[0, 1, 2])
    assert len(other.loss_curve_) == len(one.loss_curve_) == 4
    made(max_iter=2, checkpoint=tmp_path / "c").fit(X, y)
    assert_same_fit(made(checkpoint=tmp_path / "c").fit(X, y), one)
    with pytest.raises(ValueError, match="residual"):
        made(checkpoint=tmp_path / "c", residual=False).fit(X, y)


@kinds
@norms
def test_lbfgs(kind, batch_norm):
    X, y = data(kind)
    fitted = made(kind, solver="lbfgs", batch_norm=batch_norm, max_iter=30, alpha=1e-3).fit(X, y)
    assert fitted.loss_curve_[-1] < 0.5 * fitted.loss_curve_[0]
    hidden = by_hand(fitted, X, batch_norm, lambda z: np.maximum(z, 0))
    np.testing.assert_allclose(fitted.transform(X), hidden[-1], rtol=1e-9, atol=1e-12)


def test_sparse_rows_have_the_bits_of_dense_ones():
    X, y = data()
    X = np.where(np.abs(X) > 0.7, X, 0.0)
    rows = scipy.sparse.csr_matrix(X)
    dense, sparse = made().fit(X, y), made().fit(rows, y)
    assert_same_bits(sparse, dense)
    np.testing.assert_array_equal(sparse.transform(rows), dense.transform(X))
    np.testing.assert_allclose(sparse.fold().predict_proba(rows), dense.predict_proba(X), atol=1e-9)


def test_the_same_bits_on_any_number_of_threads():
    X, y = three_classes(400, 20, 6)
    params = {"hidden_layer_sizes": (48,) * 4, "batch_size": 100, "dropout": 0.1}
    assert_same_bits(made(**params, n_jobs=2).fit(X, y), made(**params, n_jobs=1).fit(X, y))


@norms
def test_what_is_added_starts_at_a_tenth(batch_norm):
    """Of the scale and the bias that the layers would start with alone; nothing else changes."""
    X, y = data()
    params = {"batch_norm": batch_norm, "learning_rate_init": 1e-300, "alpha": 0, "max_iter": 1}
    own, plain = made(**params).fit(X, y), made(**params, residual=False).fit(X, y)
    for a, b in zip(own.coefs_, plain.coefs_):
        np.testing.assert_array_equal(a, b)
    for h, part in enumerate((1, 0.1, 0.1)):
        for name in ("gammas_", "betas_") if batch_norm else ():
            np.testing.assert_allclose(getattr(own, name)[h], part * getattr(plain, name)[h])


def test_one_hidden_layer_has_no_shortcut():
    X, y = data()
    plain = made(hidden_layer_sizes=(6,), residual=False).fit(X, y)
    assert_same_bits(made(hidden_layer_sizes=(6,)).fit(X, y), plain)
    assert made(hidden_layer_sizes=()).fit(X, y).n_layers_ == 2


@kinds
def test_hidden_layers_of_other_widths_are_refused(kind):
    X, y = data(kind)
    estimator = made(kind, hidden_layer_sizes=(8, 8, 4))
    with pytest.raises(ValueError, match=r"all must have one width, got hidden_layer_sizes="
                                         r"\[8, 8, 4\]; give each as many units, or use"):
        estimator.fit(X, y)
    with pytest.raises(ValueError, match="The 'residual' parameter of"):
        made(kind, residual="yes").fit(X, y)


def test_clones_and_searches():
    X, y = data()
    assert clone(made()).residual is True
    search = GridSearchCV(made(), {"residual": [True, False], "hidden_layer_sizes": [(6, 6)]}, cv=2)
    assert len(search.fit(X, y).cv_results_["params"]) == 2


@norms
def test_exact_statistics(batch_norm):
    X, y = data()
    fitted = made(batch_norm=batch_norm).fit(X, y).recalibrate(X)
    if batch_norm is False:
        assert fitted.running_means_ == [None] * 3
        return
    hidden = by_hand(fitted, X, batch_norm, lambda z: np.maximum(z, 0))
    for h in range(3):
        z = hidden[h] @ fitted.coefs_[h]
        z = np.maximum(z, 0) if batch_norm == "post" else z
        np.testing.assert_allclose(fitted.running_means_[h], z.mean(0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(fitted.running_vars_[h], z.var(0), rtol=1e-9, atol=1e-12)


def test_partitions():
    X, y = data()
    parts = nbbn.Partitions([(X[:50], y[:50]), (X[50:], y[50:])])
    fitted = made().fit(parts, None)
    assert fitted.predict(X).shape == (90,) and fitted.residual


def test_shards_of_a_batch_train_as_a_whole():
    """As the processes of nbbn.distributed share it."""
    X, y = data()
    layers, found = nbbn.layers, []
    for group in (ALONE, Shards([0, 2, 3, 3, 20, 90])):
        nbbn.set_random_seed(0)
        inputs = x = layers.Input((8,), dtype="float64")
        for h in range(3):
            z = layers.Dense(6, use_bias=False, dtype="float64")(x)
            z = layers.Activation("tanh")(layers.BatchNormalization(dtype="float64")(z))
            x = layers.Add()([x, z]) if h else z
        model = nbbn.Model(inputs, layers.Dense(3, activation="softmax", dtype="float64")(x))
        model.compile(nbbn.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
        losses = model._fit(group, X, y, 90, 3, 0).history["loss"]
        found.append((losses, model.get_weights()))
    (losses, weights), (of_shards, its_weights) = found
    np.testing.assert_allclose(of_shards, losses, rtol=1e-11)
    for one, other in zip(its_weights, weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_onnx():
    pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    X, y = data()
    fitted = made(dtype="float32").fit(X, y)
    for fold in (True, False):
        model = nbbn.interop.to_onnx(fitted, None, fold=fold)
        session = ort.InferenceSession(model.SerializeToString(),
                                       providers=["CPUExecutionProvider"])
        got = session.run(None, {session.get_inputs()[0].name: X.astype("f4")})[-1]
        np.testing.assert_allclose(got, fitted.predict_proba(X), atol=1e-5)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_c(tmp_path):
    X, y = data()
    fitted = made().fit(X, y)
    fitted.fold().to_c(tmp_path / "m.c")
    subprocess.run(["cc", "-std=c99", "-O1", "-fPIC", "-shared", "m.c", "-o", "m.so", "-lm"],
                   cwd=tmp_path, check=True)
    out, rows = np.empty((90, 3)), np.ascontiguousarray(X)
    library = ctypes.CDLL(str(tmp_path / "m.so"))
    names = [ctypes.c_void_p(a.ctypes.data) for a in (rows, out)]
    library.m_predict(*names, ctypes.c_size_t(90))
    np.testing.assert_allclose(out, fitted.predict_proba(X), atol=1e-9)
