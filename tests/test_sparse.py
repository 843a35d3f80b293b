"""Rows of stored elements: the numbers, the bits and the memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from estimator_helpers import assert_same_bits, assert_same_fit

import nbbn
from nbbn import layers
from nbbn.errors import LayerError
from nbbn.fallback import NumpyBlocks
from nbbn.network import Network, computation
from nbbn.optimizers import SGD
from nbbn.predictor import Predictor
from nbbn.program.training import lower_training
from nbbn.sparse_rows import stored_elements

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROWS, FEATURES = 61, 37


def data(seed=0, rows=ROWS, features=FEATURES):
    """Rows of which some are empty, columns of which some are, and three classes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, features)) * (rng.random((rows, features)) < 0.2)
    X[::9], X[:, ::7] = 0, 0
    return X, rng.integers(0, 3, rows)


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (43, 5), "max_iter": 3, "batch_size": 17, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


def fitted(X, y, kind="MLPClassifier", **params):
    return make(kind, **params).fit(X, y)


# Numbers


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize("batch_size", [ROWS, 25])
def test_steps_of_least_squares(dtype, tolerance, batch_size):
    """Against the formula, with dense arrays."""
    X, _ = data()
    Y = X @ np.random.default_rng(2).normal(size=(FEATURES, 19))
    model = make(
        "MLPRegressor", hidden_layer_sizes=(), solver="sgd", momentum=0.0, alpha=0.7, dtype=dtype,
        learning_rate_init=0.05, shuffle=False, batch_size=batch_size, batch_norm=False,
    )
    start = fitted(X, Y, "MLPRegressor", **{**model.get_params(), "learning_rate_init": 1e-200})
    W, b = start.coefs_[0].astype(np.float64), start.intercepts_[0].astype(np.float64)
    for _ in range(model.max_iter):
        for first in range(0, ROWS, batch_size):
            x, t = X[first : first + batch_size], Y[first : first + batch_size]
            d = (x @ W + b - t) / len(x)
            W, b = W - 0.05 * (x.T @ d + 0.7 * W / len(x)), b - 0.05 * d.sum(0)
    model.fit(scipy.sparse.csr_array(X), Y)
    np.testing.assert_allclose(model.coefs_[0], W, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(model.intercepts_[0], b, rtol=tolerance, atol=tolerance)
    answers = model.predict(scipy.sparse.csr_array(X))
    np.testing.assert_allclose(answers, X @ W + b, rtol=tolerance, atol=tolerance)


# The bits of dense rows

FITS = {
    "defaults": {},
    "behind": {"batch_norm": "post", "activation": "tanh"},
    "no norm": {"batch_norm": False},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "narrow": {"hidden_layer_sizes": (3,), "activation": "logistic"},
    "float32": {"dtype": "float32", "hidden_layer_sizes": (70,)},
    "momentum": {"solver": "sgd", "learning_rate": "adaptive"},
    "plain sgd": {"solver": "sgd", "momentum": 0.0, "alpha": 0.0},
    "adamw": {"solver": "adamw"},
    "rmsprop": {"solver": "rmsprop"},
    "clipped": {"clip_norm": 0.5},
    "in order": {"shuffle": False, "dropout": 0.3},
    "early stopping": {"early_stopping": True},
    "single rows": {"batch_size": 1, "batch_norm": False, "max_iter": 1},
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs, no norm": {"solver": "lbfgs", "batch_norm": False},
}


@pytest.mark.parametrize("name", FITS)
def test_the_bits_of_dense_rows(name):
    X, y = data()
    weights = np.linspace(0, 2, ROWS)
    sparse = scipy.sparse.csr_array(X)
    got = make(**FITS[name]).fit(sparse, y, weights)
    ref = make(**FITS[name]).fit(X, y, weights)
    assert_same_fit(got, ref)
    for method in ("predict", "predict_proba", "transform"):
        np.testing.assert_array_equal(getattr(got, method)(sparse), getattr(ref, method)(X))
    np.testing.assert_array_equal(got.transform(sparse, layer=0), ref.transform(X, layer=0))
    a, b = got.recalibrate(sparse).running_vars_, ref.recalibrate(X).running_vars_
    np.testing.assert_array_equal(a[:1], b[:1])


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_calls_of_partial_fit(kind):
    """Each with other rows: more elements, fewer, other kinds."""
    known = {"classes": [0, 1, 2]} if kind == "MLPClassifier" else {}
    got, ref = make(kind), make(kind)
    for seed, form in enumerate(["csr", "csc", "csr", "dense", "coo"]):
        X, y = data(seed, rows=(20, 50, 30, 40, 60)[seed])
        rows = X if form == "dense" else getattr(scipy.sparse, f"{form}_array")(X)
        got.partial_fit(rows, y, **known)
        ref.partial_fit(X, y, **known)
        assert_same_bits(got, ref)


@pytest.mark.parametrize("of_fit, of_validation", [("csr", "dense"), ("dense", "csr")])
def test_validation_rows_of_the_other_kind(of_fit, of_validation):
    X, y = data()
    kinds = {"csr": scipy.sparse.csr_array(X), "dense": X}
    got, ref = (
        make(early_stopping=True).fit(kinds[a], y, X_val=kinds[b], y_val=y)
        for a, b in ((of_fit, of_validation), ("dense", "dense"))
    )
    assert_same_fit(got, ref)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_same_bits_at_any_number_of_threads(dtype, batch_norm):
    X, y = data(rows=400)
    sparse, found = scipy.sparse.csr_array(X), []
    for threads in (1, 2, 3, 8):
        with nbbn.num_threads(threads):
            model = fitted(sparse, y, dtype=dtype, batch_norm=batch_norm, batch_size=90)
            rows = stored_elements(sparse)
            predictor = Predictor(model.network(), sparse=True)
            predictor._blocks._work_per_row = 1 << 20  # as if it were worth a team
            found.append((model, predictor(rows), model.predict_proba(sparse)))
    for model, outputs, proba in found[1:]:
        assert_same_fit(model, found[0][0])
        np.testing.assert_array_equal(outputs, found[0][1])
        np.testing.assert_array_equal(proba, found[0][2])


def test_another_order_of_elements_changes_no_bit():
    X, y = data()
    rows = scipy.sparse.csr_array(X)
    turned = scipy.sparse.csr_array(
        (rows.data[::-1], rows.indices[::-1], np.append(0, np.cumsum(np.diff(rows.indptr)[::-1]))),
        rows.shape,
    )
    assert not turned.has_sorted_indices
    assert_same_bits(fitted(turned, y[::-1].copy()), fitted(X[::-1].copy(), y[::-1].copy()))


# What comes in


def unsorted(rows, columns, dtype=np.float64):
    """A matrix whose rows hold columns twice and in no order, and a row without any."""
    rng = np.random.default_rng(5)
    per_row = rng.integers(0, 9, rows)
    per_row[3] = 0
    indptr = np.append(0, np.cumsum(per_row))
    indices = rng.integers(0, columns, indptr[-1])
    return scipy.sparse.csr_matrix(
        (rng.normal(size=indptr[-1]).astype(dtype), indices, indptr), (rows, columns)
    )


@pytest.mark.parametrize("columns", [11, 2000], ids=["more elements", "more columns"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_the_callers_matrix_stays_as_it_is(columns, index):
    X, y = unsorted(60, columns), data()[1][:60]
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    for array in (X.data, X.indices, X.indptr):
        array.setflags(write=False)
    before = [array.copy() for array in (X.data, X.indices, X.indptr)]
    got, ref = fitted(X, y), fitted(X.toarray(), y)
    for array, old in zip((X.data, X.indices, X.indptr), before):
        assert array.dtype == old.dtype
        np.testing.assert_array_equal(array, old)
    for a, b in zip(got.coefs_, ref.coefs_):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got.predict_proba(X), ref.predict_proba(X.toarray()), rtol=1e-10)


def test_stored_zeros():
    X, y = data()
    sparse = scipy.sparse.csr_array(X)
    sparse.data[::3] = 0
    assert_same_bits(fitted(sparse, y), fitted(sparse.toarray(), y))


def test_columns_changed_after_scipy_looked_at_them():
    """Scipy keeps whether rows are sorted, and does not look again."""
    X, y = scipy.sparse.csr_array(np.ones((20, 6))), np.arange(20) % 2
    assert X.has_canonical_format
    X.indices[:6] = X.indices[:6][::-1].copy()
    X.data[:] = np.linspace(-1, 1, len(X.data))
    assert_same_bits(fitted(X, y), fitted(X.toarray(), y))


@pytest.mark.parametrize("column", [-1, 6, 2**31 - 1])
def test_columns_that_there_are_not(column):
    X, y = scipy.sparse.csr_array(np.ones((20, 6))), np.arange(20) % 2
    model = fitted(X, y)
    X.indices[5] = column
    for call in (lambda: make().fit(X, y), lambda: model.predict(X)):
        with pytest.raises(ValueError, match=r"X is no valid sparse matrix: .*ind(ex|ices)"):
            call()


def test_more_columns_than_can_be_numbered():
    X = scipy.sparse.csr_array((20, 2**31))
    with pytest.raises(ValueError, match="X has 2147483648 columns: sparse rows may have 2147483647"):
        make().fit(X, np.arange(20) % 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    X, y = data()
    sparse = scipy.sparse.csr_array(X)
    model = fitted(sparse, y)
    sparse.data[-1] = value
    for call in (
        lambda: make().fit(sparse, y), lambda: model.predict(sparse),
        lambda: make().fit(X, y, X_val=sparse, y_val=y), lambda: model.recalibrate(sparse),
    ):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            call()


def test_rows_too_large_for_float32():
    X, y = data()
    sparse = scipy.sparse.csr_array(X * 1e300)
    with pytest.raises(ValueError, match="too large for dtype"):
        make(dtype="float32").fit(sparse, y)


def test_rows_by_slice_and_by_number():
    X, _ = data()
    rows = stored_elements(scipy.sparse.csr_matrix(X))
    for which in (slice(5, 20), slice(0, 0), slice(50, 99), np.array([7, 0, 7, 50]), np.array([9])):
        np.testing.assert_array_equal(rows[which].toarray(), X[which])
        np.testing.assert_array_equal(rows[3:][which].toarray(), X[3:][which])
    np.testing.assert_array_equal(np.concatenate([*rows.dense_parts()]), X)


# Networks


def network(*made):
    shape, rng, weights = (FEATURES,), np.random.default_rng(4), []
    for layer in made:
        drawn = {n: rng.random(s) for n, s in layer.weight_shapes(shape).items()}
        weights.append(drawn)
        shape = layer.output_shape(shape)
    return Network(made, (FEATURES,), weights, np.dtype("float64"))


NETWORKS = {
    "dense": network(layers.Dense(9, "relu"), layers.Dense(2)),
    "norm first": network(layers.BatchNormalization(), layers.Dense(9)),
    "images behind": network(
        layers.Dense(12), layers.Reshape((2, 2, 3)), layers.Conv2D(3, 2), layers.Flatten()
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sparse", [True, False])
def test_networks_that_read_elements_and_others(name, sparse):
    X, _ = data()
    rows = stored_elements(scipy.sparse.csr_array(X))
    ref = Predictor(NETWORKS[name])(X)
    np.testing.assert_array_equal(Predictor(NETWORKS[name], sparse=sparse)(rows), ref)
    assert Predictor(NETWORKS[name], sparse=sparse)(rows[:0]).shape == ref[:0].shape
    np.testing.assert_allclose(NumpyBlocks(NETWORKS[name]).run(rows), ref, rtol=1e-12)


def test_a_network_that_cannot_be_trained_on_elements():
    parts = [layers.BatchNormalization(), layers.Dense(3)]
    with pytest.raises(LayerError, match="begins with a Dense layer"):
        lower_training(
            computation(parts, (5,)), np.dtype("f4"), 9, "squared_error", SGD(0.1), sparse=True
        )


# Memory


@pytest.mark.parametrize(
    "params",
    [{}, {"batch_norm": False, "early_stopping": True}, {"solver": "lbfgs", "max_fun": 3},
     {"solver": "lbfgs", "max_fun": 3, "batch_norm": False}],
    ids=str,
)  # fmt: skip
def test_no_block_of_rows_becomes_dense(params):
    """The rows would take 4.8 GB, a batch of them 960 MB: the kernel and its like take 2 each."""
    rng = np.random.default_rng(0)
    rows, columns = 10_000, 60_000
    indices = rng.integers(0, columns, 5 * rows)
    X = scipy.sparse.csr_matrix(
        (rng.random(5 * rows), indices, np.arange(0, 5 * rows + 1, 5)), (rows, columns)
    )
    y = rng.integers(0, 2, rows)
    model = make(hidden_layer_sizes=(4,), batch_size=2000, max_iter=1, **params)
    tracemalloc.start()
    try:
        model.fit(X, y)
        of_fit = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        model.predict(X)
        model.recalibrate(X)
        after = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert of_fit < 120 << 20
    assert after < 60 << 20


# Folded models


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "array"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_folded_model_reads_stored_elements(form, dtype):
    X, y = data()
    model = fitted(X, y, dtype=dtype).fold()
    rows = {
        "csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix,
        "coo": scipy.sparse.coo_matrix, "array": scipy.sparse.csr_array,
    }[form](X.astype(dtype))
    dense = model.predict_proba(X.astype(dtype))
    np.testing.assert_array_equal(model.predict_proba(rows), dense)
    np.testing.assert_array_equal(model.predict(rows), model.predict(X.astype(dtype)))
    assert model.predict_proba(rows[:0] if form != "coo" else rows.tocsr()[:0]).shape == (0, 3)


def test_a_folded_model_refuses_sparse_rows_of_another_width():
    X, y = data()
    model = fitted(X, y).fold()
    with pytest.raises(ValueError, match="X has 36 features, but the model expects 37"):
        model.predict(scipy.sparse.csr_matrix(X[:, 1:]))
    with pytest.raises(TypeError, match="X must be numeric, got dtype complex128"):
        model.predict(scipy.sparse.csr_matrix(X * 1j))
