"""Rows, targets and labels of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from estimator_helpers import assert_same_bits, three_classes
from sklearn.utils.multiclass import unique_labels

import nbbn
from nbbn.estimators import lazy_rows as rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr"]


def data(count=150, features=11):
    X, y = three_classes(count, features, 7)
    return np.where(np.abs(X) > 0.7, X, 0).round(3), y


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (9,), "max_iter": 4, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


# Sparse rows


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("container", ["array", "matrix"])
def test_sparse_rows_give_the_bits_of_dense_ones(form, container):
    X, y = data()
    sparse = getattr(scipy.sparse, f"{form}_{container}")(X)
    before = sparse.copy()
    got, ref = make().fit(sparse, y), make().fit(X, y)
    assert_same_bits(got, ref)
    for method in ("predict", "predict_proba", "transform"):
        np.testing.assert_array_equal(getattr(got, method)(sparse), getattr(ref, method)(X))
    assert got.score(sparse, y) == ref.score(X, y)
    assert (before != sparse).nnz == 0 and sparse.format == form


@pytest.mark.parametrize(
    "params",
    [
        {"early_stopping": True}, {"solver": "lbfgs"}, {"solver": "lbfgs", "batch_norm": False},
        {"shuffle": False}, {"dropout": 0.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_sparse_rows_in_parts(params, kind, monkeypatch):
    """Made dense 40 rows at a time, within an epoch as well."""
    monkeypatch.setattr(rows, "PART_BYTES", 40 * 11 * 8)
    X, y = data()
    weights = np.linspace(0.5, 2, len(X))
    sparse = scipy.sparse.csr_array(X)
    got, ref = (
        make(kind, **params).fit(x, y, weights, X_val=v, y_val=y)
        if "early_stopping" not in params
        else make(kind, **params).fit(x, y, weights)
        for x, v in ((sparse, sparse), (X, X))
    )
    for a, b in zip(got.coefs_ + got.intercepts_, ref.coefs_ + ref.intercepts_, strict=True):
        if "solver" not in params:
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(got.loss_curve_, ref.loss_curve_, rtol=1e-12)
    assert got.validation_scores_ == pytest.approx(ref.validation_scores_)
    np.testing.assert_allclose(got.predict(sparse), ref.predict(X))
    np.testing.assert_allclose(
        got.recalibrate(sparse).running_vars_[0] if got.running_vars_[0] is not None else 0,
        ref.recalibrate(X).running_vars_[0] if ref.running_vars_[0] is not None else 0, rtol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, bool])
def test_sparse_rows_of_other_dtypes(dtype):
    X, y = data()
    X = np.abs(X * 3).astype(dtype)
    got, ref = make().fit(scipy.sparse.csr_array(X), y), make().fit(X, y)
    assert_same_bits(got, ref)
    assert got.coefs_[0].dtype == (np.float32 if dtype == np.float32 else np.float64)


def test_sparse_rows_with_duplicate_entries():
    y = data()[1]
    row, column = np.repeat(np.arange(30), 10), np.tile(np.arange(10) % 5, 30)
    sparse = scipy.sparse.coo_array((np.ones(300), (row, column)), shape=(30, 5))
    assert_same_bits(
        make(batch_size=9).fit(sparse, y[:30]), make(batch_size=9).fit(sparse.toarray(), y[:30])
    )


def test_sparse_rows_that_are_not_finite():
    X, y = data()
    sparse = scipy.sparse.csr_array(X)
    sparse.data[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make().fit(sparse, y)
    with pytest.raises(ValueError, match="NaN"):
        make().fit(X, y).predict(sparse)


def test_partial_fit_of_sparse_rows():
    X, y = data()
    got, ref = make(), make()
    for _ in range(3):
        got.partial_fit(scipy.sparse.csr_array(X), y, classes=[0, 1, 2])
        ref.partial_fit(X, y, classes=[0, 1, 2])
    assert_same_bits(got, ref)


# Dense rows of every kind


FORMS = {
    "fortran": np.asfortranarray, "read-only": lambda X: (X.setflags(write=False), X)[1],
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2], "reversed": lambda X: X[::-1].copy()[::-1],
    "list": lambda X: X.tolist(), "object": lambda X: X.astype(object),
    "strings": lambda X: X.astype(str).astype(object),
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "long double": lambda X: X.astype(np.longdouble),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_dense_rows(form):
    X, y = data()
    ref = make().fit(X, y)
    got = make().fit(form(X.copy()), y)
    assert_same_bits(got, ref)
    np.testing.assert_array_equal(got.predict_proba(form(X.copy())), ref.predict_proba(X))


def test_memory_mapped_rows(tmp_path):
    X, y = data()
    np.save(tmp_path / "x.npy", X)
    for mode in ("r", "c"):
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        got = make().fit(mapped, y)
        assert_same_bits(got, make().fit(X, y))
        np.testing.assert_array_equal(got.predict(mapped), got.predict(X))


@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "bool", "float16"],
)
@pytest.mark.parametrize("compute", [None, "float32"])
def test_other_numbers(dtype, compute):
    X, y = data()
    X = np.abs(X * 5).astype(dtype)
    got = make(dtype=compute).fit(X, y)
    assert_same_bits(got, make(dtype=compute).fit(X.astype(compute or "float64"), y))
    np.testing.assert_array_equal(
        got.predict_proba(X), got.predict_proba(X.astype(compute or "float64"))
    )


def test_complex_rows():
    X, y = data()
    with pytest.raises(ValueError, match="Complex data not supported"):
        make().fit(X + 1j, y)


@pytest.mark.parametrize("kind", ["numbers", "mixed", "extension", "one dtype"])
def test_frames(kind):
    pandas = pytest.importorskip("pandas")
    X, y = data()
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    if kind == "mixed":
        frame = frame.assign(f0=(X[:, 0] * 5).astype(int), f1=(X[:, 1] > 0))
    elif kind == "extension":
        frame = frame.assign(f0=pandas.array((X[:, 0] * 5).astype(int), dtype="Int64"),
                             f1=pandas.array(X[:, 1], dtype="Float64"))  # fmt: skip
    elif kind == "one dtype":
        frame = frame.astype("float32")
    target = pandas.Series(np.array(["ash", "beech", "cedar"])[y], index=np.arange(len(y))[::-1])
    got = make().fit(frame, target, sample_weight=pandas.Series(np.ones(len(y))))
    plain = np.asarray(frame, dtype=np.float32 if kind == "one dtype" else np.float64)
    assert_same_bits(got, make().fit(plain, target.to_numpy(), np.ones(len(y))))
    assert list(got.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(
        got.predict(frame), make().fit(plain, target.to_numpy(), np.ones(len(y))).predict(plain)
    )
    with pytest.raises(ValueError, match="feature names"):
        got.predict(frame[frame.columns[::-1]])


def test_polars_frames():
    polars = pytest.importorskip("polars")
    X, y = data()
    frame = polars.DataFrame({f"f{i}": X[:, i] for i in range(X.shape[1])})
    got = make().fit(frame, polars.Series(y))
    assert list(got.feature_names_in_) == frame.columns
    np.testing.assert_array_equal(got.predict(frame), make().fit(X, y).predict(X))


# Labels


LABELS = {
    "strings": np.array(["ash", "beech", "cedar"]),
    "objects": np.array(["ash", "beech", "cedar"], dtype=object),
    "integers": np.array([-7, 0, 500]),
    "bytes": np.array([3, 9, 27], dtype=np.uint8),
    "floats": np.array([-1.0, 0.0, 4.0]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_labels(labels, early_stopping):
    X, y = data()
    weights = np.linspace(0.5, 2, len(X))
    got, ref = (make(early_stopping=early_stopping).fit(X, t, weights) for t in (labels[y], y))
    assert_same_bits(got, ref)
    np.testing.assert_array_equal(got.predict(X), labels[ref.predict(X)])
    assert got.predict(X).dtype == got.classes_.dtype == unique_labels(labels).dtype


@pytest.mark.parametrize("labels", [[False, True], ["no", "yes"], [-1, 1], [1.0, 2.0]], ids=str)
def test_two_labels(labels):
    X, y = data()
    labels = np.array(labels)
    got, ref = (
        make(early_stopping=True).fit(X, labels[(y > 0) * 1]),
        make(early_stopping=True).fit(X, (y > 0) * 1),
    )
    assert_same_bits(got, ref)
    np.testing.assert_array_equal(got.predict(X), labels[ref.predict(X)])


@pytest.mark.parametrize(
    "form",
    [np.asarray, np.ndarray.tolist, lambda y: y.astype(bool), scipy.sparse.csr_matrix],
    ids=["array", "list", "bool", "sparse"],
)
def test_many_labels(form):
    X, y = data()
    many = np.column_stack([y == 0, y > 0, X[:, 0] > 0]).astype(int)
    got, ref = make().fit(X, form(many)), make().fit(X, many)
    assert_same_bits(got, ref)
    answers = got.predict(X)
    np.testing.assert_array_equal(
        answers.toarray() if scipy.sparse.issparse(answers) else answers, ref.predict(X)
    )
    assert got.predict_proba(X).shape == (len(X), 3)


def test_several_numbers():
    X, y = data()
    both = np.column_stack([y, -y, 2 * y])
    model = make("MLPRegressor").fit(X, both)
    assert model.predict(X).shape == (len(X), 3) and model.n_outputs_ == 3
    with pytest.raises(ValueError, match="y must have 3 columns"):
        model.partial_fit(X, both[:, :2])
