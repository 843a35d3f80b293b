"""Estimators on partitions: the numbers of the fit in memory where they can be, and its rules."""

from __future__ import annotations

import threading
import tracemalloc
import warnings
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from estimator_helpers import STATE, arrays, assert_same_bits, kinds, numbers, three_classes

import nbbn
from nbbn import FileError, Partitions
from nbbn.estimators.mlp import streamed_data

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(kind="MLPClassifier", rows=230):
    if kind == "MLPRegressor":
        return numbers(rows)
    X, y = three_classes(rows, 9, 7)
    return X, y


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (12, 5), "max_iter": 4, "batch_size": 16, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


def cut(*given, sizes=(50, 31, 0, 64, 20, 65), **options):
    """Partitions of arrays of 230 rows."""
    ends = np.cumsum([0, *sizes])
    parts = [tuple(array[a:b] for array in given) for a, b in pairwise(ends)]
    return Partitions(parts, **{"window": 2, **options})


def assert_same_trained(got, ref):
    """The same arrays; curves to rounding, since sums are taken window by window."""
    for a, b in zip(arrays(got), arrays(ref), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(got.loss_curve_, ref.loss_curve_, rtol=1e-12)
    assert (got.t_, got.n_iter_, got.n_features_in_) == (ref.t_, ref.n_iter_, ref.n_features_in_)


# -- the numbers of a fit in memory


@kinds
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("more", [{}, {"early_stopping": True}, {"batch_norm": False}], ids=str)
def test_one_window_is_the_fit_in_memory(kind, shuffle, more):
    X, y = data(kind)
    ref = make(kind, shuffle=shuffle, **more).fit(X, y)
    got = make(kind, shuffle=shuffle, **more).fit(cut(X, y, window=6))
    assert_same_bits(got, ref)
    assert_same_bits(make(kind, shuffle=shuffle, **more).fit(Partitions([(X, y)], window=1)), ref)


@kinds
@pytest.mark.parametrize(
    "more",
    [
        {}, {"batch_norm": "post", "solver": "sgd"}, {"dropout": 0.2, "dtype": "float32"},
        {"batch_size": 64, "learning_rate": "cosine"}, {"batch_size": 500}, {"clip_norm": 0.1},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Got `batch_size`")
def test_unshuffled_steps_are_those_in_memory(kind, more):
    X, y = data(kind)
    ref = make(kind, shuffle=False, **more).fit(X, y)
    for window in (1, 2, 5):
        got = make(kind, shuffle=False, **more).fit(cut(X, y, window=window))
        assert_same_trained(got, ref)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64", "float16", "bool"])
def test_dtypes_are_those_in_memory(dtype):
    X, y = data()
    X = (np.abs(X) * 3).astype(dtype)
    ref = make(shuffle=False).fit(X, y)
    assert_same_trained(make(shuffle=False).fit(cut(X, y)), ref)


@kinds
def test_weights_are_those_in_memory(kind):
    X, y = data(kind)
    weights = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    weights[32:96] = 0  # whole batches, and a whole partition of them
    ref = make(kind, shuffle=False).fit(X, y, weights)
    assert_same_trained(make(kind, shuffle=False).fit(cut(X, y, weights)), ref)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0, 2: 0.5}], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_are_those_in_memory(class_weight, weighted):
    X, y = data()
    given = [X, np.array(["b", "a", "c"])[y] if class_weight == "balanced" else y]
    if weighted:
        given.append(np.random.default_rng(0).uniform(size=len(X)))
    ref = make(shuffle=False, class_weight=class_weight).fit(*given)
    got = make(shuffle=False, class_weight=class_weight).fit(cut(*given))
    assert_same_trained(got, ref)
    assert got.classes_.tolist() == ref.classes_.tolist()


def test_several_outputs_and_labels():
    X, y = numbers(230, 3)
    assert_same_trained(make("MLPRegressor", shuffle=False).fit(cut(X, y)),
                        make("MLPRegressor", shuffle=False).fit(X, y))
    labels = (y > 0).astype(int)
    got = make(shuffle=False).fit(cut(X, labels))
    assert_same_trained(got, make(shuffle=False).fit(X, labels))
    assert got.predict(cut(X, labels)).shape == (230, 3)
    with pytest.raises(ValueError, match="for several labels a row needs all rows in memory"):
        make(class_weight="balanced").fit(cut(X, labels))
    column = make("MLPRegressor", shuffle=False).fit(cut(X, y[:, :1]))
    assert_same_trained(column, make("MLPRegressor", shuffle=False).fit(X, y[:, 0]))


def test_a_class_that_one_partition_holds():
    X, y = data()
    order = np.argsort(y, kind="stable")
    got = make(max_iter=30).fit(cut(X[order], y[order], window=3))
    assert got.classes_.tolist() == [0, 1, 2]
    assert got.score(X, y) > 0.7


@kinds
def test_partial_fit(kind):
    X, y = data(kind)
    classes = {"classes": [0, 1, 2]} if kind == "MLPClassifier" else {}
    ref = make(kind, shuffle=False, max_iter=3).fit(X, y)
    got, parts = make(kind, shuffle=False), cut(X, y)
    for _ in range(3):
        got.partial_fit(parts, **classes)
    for name in STATE:
        for a, b in zip(getattr(got, name), getattr(ref, name), strict=True):
            np.testing.assert_array_equal(a, b)
    if classes:
        with pytest.raises(ValueError, match="classes must be passed"):
            make(kind).partial_fit(parts)


def test_warm_start():
    X, y = data()
    ref = make(warm_start=True, shuffle=False).fit(X, y).fit(X, y)
    got = make(warm_start=True, shuffle=False).fit(cut(X, y)).fit(cut(X, y))
    assert_same_trained(got, ref)
    with pytest.raises(ValueError, match="warm_start can only be used"):
        got.fit(cut(X, y % 2))
    with pytest.raises(ValueError, match="partition 1: X has 8 features, but MLPClassifier is exp"):
        got.fit(cut(X[:, 1:], y))


# -- shuffled


@kinds
def test_bits_follow_from_the_seed_alone(kind):
    X, y = data(kind)
    parts = cut(X, y)
    ref = make(kind, n_jobs=1).fit(parts)
    assert_same_bits(make(kind, n_jobs=2).fit(parts), ref)
    functions = [lambda part=part: part for part in parts]
    assert_same_bits(make(kind).fit(Partitions(functions, window=2)), ref)
    other = make(kind, random_state=2).fit(parts)
    assert not np.array_equal(other.coefs_[0], ref.coefs_[0])
    assert not np.array_equal(make(kind).fit(cut(X, y, window=3)).coefs_[0], ref.coefs_[0])


def test_shuffled_partitions_learn():
    X, y = three_classes(3000, 9, 7)
    order = np.argsort(y, kind="stable")  # the worst case: partitions of one class each
    ends = np.arange(0, 3001, 100)
    sorted_parts = [(X[order[a:b]], y[order[a:b]]) for a, b in pairwise(ends)]
    ref = make(max_iter=20).fit(X, y).score(X, y)
    assert make(max_iter=20).fit(Partitions(sorted_parts, window=8)).score(X, y) > ref - 0.1


@pytest.mark.parametrize("more", [{}, {"early_stopping": True, "dropout": 0.1}], ids=str)
def test_a_resumed_fit_has_the_bits_of_an_undisturbed_one(more, tmp_path):
    X, y = data()
    ref = make(max_iter=6, **more).fit(cut(X, y))

    def fail(estimator, logs):
        if logs["epoch"] == 3:
            raise ZeroDivisionError

    path = tmp_path / "fit"
    with pytest.raises(ZeroDivisionError):
        make(max_iter=6, checkpoint=path, callbacks=fail, **more).fit(cut(X, y))
    seen = []
    got = make(max_iter=6, checkpoint=path, **more,
               callbacks=lambda estimator, logs: seen.append(logs["epoch"])).fit(cut(X, y))
    assert seen == [4, 5, 6]
    assert_same_bits(got, ref)
    with pytest.raises(FileError, match="differs in X;"):
        make(max_iter=6, checkpoint=path, **more).fit(cut(X, y, window=1))
    with pytest.raises(FileError, match="differs in X"):
        make(max_iter=6, checkpoint=path, **more).fit(X, y)


# -- validation


def test_rows_held_out(monkeypatch):
    X, y = data()
    X[:, 0] = np.arange(len(X))  # a row's number
    seen = {}
    make(early_stopping=True, validation_fraction=0.2, max_iter=1, callbacks=[]).fit(cut(X, y))
    real = streamed_data.StreamedData.split

    def split(self, *args):
        seen["data"] = real(self, *args)
        return seen["data"]

    monkeypatch.setattr(streamed_data.StreamedData, "split", split)
    got = make(early_stopping=True, validation_fraction=0.2, max_iter=2).fit(cut(X, y))
    kept, held = seen["data"], seen["data"].validation
    trained = np.concatenate([part.X[:, 0] for part in kept.given])
    assert sorted([*trained, *held.x[:, 0]]) == list(range(230))
    assert len(held) == 46 and kept.rows == 184 and got.t_ == 2 * 184
    sizes = np.histogram(held.x[:, 0], np.cumsum([0, 50, 31, 64, 20, 65.5]))[0]
    assert (abs(sizes - 0.2 * np.array([50, 31, 64, 20, 65])) <= 1).all()
    assert len(got.validation_scores_) == 2
    np.testing.assert_array_equal(held.y, y[held.x[:, 0].astype(int)])
    monkeypatch.setattr(streamed_data, "HELD_BYTES", 9 * 8 * 23)
    make(early_stopping=True, validation_fraction=0.2).fit(cut(X, y))
    assert len(seen["data"].validation) == 23
    with pytest.raises(ValueError, match="validation set is too small"):
        make(early_stopping=True, validation_fraction=0.001).fit(cut(X, y))
    with pytest.raises(ValueError, match="validation_fraction=0 leaves no rows"):
        make(early_stopping=True, validation_fraction=0.0).fit(cut(X, y))


def test_partitions_that_are_gone_over_in_order_hold_no_rows_out():
    class Again:
        def __iter__(self):
            return iter(parts)

    X, y = data()
    parts = list(cut(X, y))
    got = make(shuffle=False).fit(Partitions(Again(), window=2))
    assert_same_trained(got, make(shuffle=False).fit(X, y))
    assert make(max_iter=20).fit(Partitions(Again(), window=3)).score(X, y) > 0.8
    with pytest.raises(ValueError, match="rows of an iterable cannot be held out"):
        make(early_stopping=True).fit(Partitions(Again()))
    make(early_stopping=True).fit(Partitions(Again()), X_val=X, y_val=y)


@kinds
@pytest.mark.parametrize("streamed", [False, True])
def test_partitions_to_validate_on(kind, streamed):
    X, y = data(kind)
    weights = np.random.default_rng(0).uniform(size=len(X))
    given = {"X_val": X, "y_val": y, "sample_weight_val": weights}
    ref = make(kind, shuffle=False, early_stopping=True).fit(X, y, **given)
    train = (cut(X, y),) if streamed else (X, y)
    got = make(kind, shuffle=False, early_stopping=True).fit(*train, X_val=cut(X, y, weights))
    np.testing.assert_allclose(got.validation_loss_curve_, ref.validation_loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(got.validation_scores_, ref.validation_scores_, rtol=1e-12)
    with pytest.raises(ValueError, match="X_val: partition 2: X has 3 features"):
        make(kind).fit(*train, X_val=Partitions([(X, y), (X[:, :3], y)]))
    with pytest.raises(ValueError, match="y_val is given beside X_val"):
        make(kind).fit(*train, X_val=cut(X, y), y_val=y)
    with pytest.raises(ValueError, match="X_val: some partitions have a sample_weight"):
        make(kind).fit(*train, X_val=Partitions([(X, y), (X, y, weights)]))


# -- after the fit


@kinds
def test_answers(kind):
    X, y = data(kind)
    weights = np.random.default_rng(0).uniform(size=len(X))
    model, parts = make(kind).fit(X, y), cut(X, y, weights)
    np.testing.assert_array_equal(model.predict(parts), model.predict(X))
    np.testing.assert_array_equal(model.predict(Partitions([X[:99], X[99:]])), model.predict(X))
    np.testing.assert_allclose(model.transform(parts), model.transform(X), rtol=1e-6)
    np.testing.assert_allclose(model.transform(parts, 1), model.transform(X, 1), rtol=1e-6)
    assert model.score(parts) == pytest.approx(model.score(X, y, weights), rel=1e-12)
    assert model.score(cut(X, y)) == pytest.approx(model.score(X, y), rel=1e-12)
    if kind == "MLPClassifier":
        np.testing.assert_allclose(model.predict_proba(parts), model.predict_proba(X), rtol=1e-6)
        log_p = model.predict_log_proba(X)
        np.testing.assert_allclose(model.predict_log_proba(parts), log_p, rtol=1e-6)
    with pytest.raises(ValueError, match="score needs targets"):
        model.score(Partitions([X]))
    with pytest.raises(ValueError, match="is given beside X"):
        model.score(parts, y)
    with pytest.raises(ValueError, match="partition 2: X has 2 features"):
        model.predict(Partitions([lambda: X, lambda: X[:, :2]]))
    with pytest.raises(ValueError, match="hold no rows"):
        model.predict(Partitions([X[:0]]))


@kinds
def test_recalibrate(kind):
    X, y = data(kind, 9000)
    ref = make(kind, max_iter=1, batch_size=500).fit(X, y)
    got = make(kind, max_iter=1, batch_size=500).fit(X, y)
    ref.recalibrate(X)
    got.recalibrate(Partitions([X[:10], X[10:5000], X[5000:5000], X[5000:]]))
    assert_same_bits(got, ref)
    with pytest.raises(ValueError, match="at least 2 rows, got 1 sample"):
        got.recalibrate(Partitions([X[:1], X[:0]]))


def test_names_of_columns():
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    X, y = data()
    frame = pandas.DataFrame(X, columns=list("abcdefghi"))
    parts = Partitions([(frame[:100], y[:100]), (frame[100:], y[100:])], window=1)
    whole = Partitions([(frame, y)])
    for given in (parts, whole):
        got = make().fit(given)
        assert got.feature_names_in_.tolist() == list("abcdefghi")
        got.predict(frame), got.predict(parts), got.predict(cut(X, y)), got.score(parts)
        got.recalibrate(parts), got.set_params(warm_start=True).fit(given)
        with pytest.raises(ValueError, match="partition 1: The feature names should match"):
            got.predict(Partitions([frame[list("bacdefghi")]]))
        with pytest.raises(ValueError, match=r"(?s)unseen at fit time:.- z.*now missing:.- a"):
            got.predict(Partitions([frame.rename(columns={"a": "z"})]))
    got.fit(cut(X, y))
    assert got.set_params(warm_start=False).fit(X, y) and not hasattr(got, "feature_names_in_")
    got.set_output(transform="pandas")
    assert got.transform(parts).shape == (230, 5)


def test_tables(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    import pyarrow.parquet as parquet

    X, y = data()
    columns = {f"c{j}": X[:, j] for j in range(9)}
    labels = np.array(["no", "perhaps", "yes"])[y]
    for i in range(5):
        own = slice(46 * i, 46 * i + 46)
        table = {"label": labels[own], **{name: c[own] for name, c in columns.items()}}
        parquet.write_table(pyarrow.table(table), tmp_path / f"{i}.parquet", row_group_size=10)
    parts = Partitions.from_files(f"{tmp_path}/*.parquet", target="label", window=2)
    ref = make(shuffle=False).fit(X, labels)
    got = make(shuffle=False).fit(parts)
    assert_same_trained(got, ref)
    assert got.feature_names_in_.tolist() == list(columns)
    assert got.predict(parts).tolist() == ref.predict(X).tolist()
    assert got.score(parts) == ref.score(X, labels)
    got.save(tmp_path / "m.safetensors")
    assert nbbn.load(tmp_path / "m.safetensors").predict(parts).tolist() == ref.predict(X).tolist()


# -- memory


def test_memory_does_not_grow_with_the_partitions():
    """Of 30 partitions of a megabyte two windows of two are there, and the one that is read."""

    def part(i):
        X = np.random.default_rng(i).normal(size=(4096, 32))
        return X, (X[:, 0] > 0).astype(int)

    def peak(count):
        parts = Partitions([partial(part, i) for i in range(count)], window=2)
        tracemalloc.start()
        try:
            model = make(max_iter=1, batch_size=256, early_stopping=True, validation_fraction=0.01)
            model.fit(parts).predict(parts)
            return tracemalloc.get_traced_memory()[1] / 2**20
        finally:
            tracemalloc.stop()

    peak(6)  # compiles
    few, many = peak(6), peak(30)
    assert few < 14 and many < few + 3


# -- errors


def no_threads():
    return [t for t in threading.enumerate() if t.name == "nbbn read-ahead"] == []


@pytest.mark.parametrize("window", [1, 9], ids=["streamed", "in memory"])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda X, y: (X[:, :5], y), r"third: X has 5 features, but first has 9"),
        (lambda X, y: (np.where(X == X[4, 4], np.nan, X), y), "third: Input X contains NaN"),
        (lambda X, y: (X * np.inf, y), "third: Input X contains infinity"),
        (lambda X, y: (X, y + 0.5), "Unknown label type: continuous"),
        (lambda X, y: (X, np.where(y == 1, np.nan, y)), "contains NaN"),
        (lambda X, y: (X, y.astype(str)), "Mix of label input types|third: y mixes numbers with text"),
        (lambda X, y: (X, y, np.ones(len(y))), "third: has a sample_weight, unlike the partitions before"),
        (lambda X, y: (X,), "y"), (lambda X, y: (X.astype("c16"), y), "third: Complex data"),
        (lambda X, y: (X.astype(str), y), "third: "),
        (lambda X, y: (X, np.stack([y > 0, y > 1], 1).astype(int)), r"third: y has .* shape \(2,\)"),
    ],
    ids=["columns", "nan", "inf", "continuous", "nan in y", "mixed", "weights", "no y", "complex",
         "text", "labels"],
)  # fmt: skip
def test_a_bad_partition_is_named(change, match, window):
    X, y = data()
    parts = [(X[:80], y[:80]), (X[80:160], y[80:160]), change(X[160:], y[160:])]
    model = make().fit(X, y)
    before = {name: getattr(model, name) for name in STATE}
    for given in (parts, [lambda part=part: part for part in parts]):
        with pytest.raises((ValueError, TypeError), match=match), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(Partitions(given, window=window, names=["first", "second", "third"]))
        assert no_threads()
    assert all(getattr(model, name) is value for name, value in before.items())


def test_refused_before_any_training():
    X, y = data()
    calls = []
    with pytest.raises(ValueError, match="y is given beside X"):
        make().fit(cut(X, y), y)
    with pytest.raises(ValueError, match="sample_weight is given beside X"):
        make().fit(cut(X, y), sample_weight=y)
    with pytest.raises(ValueError, match="requires y to be passed"):
        make().fit(X, None)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        make().fit(X)
    assert_same_bits(make().fit(X=cut(X, y)), make().fit(cut(X, y), None))
    with pytest.raises(ValueError, match="solver='lbfgs' needs all rows in memory"):
        make(solver="lbfgs").fit(cut(X, y))
    assert_same_bits(make(solver="lbfgs").fit(cut(X, y, window=9)), make(solver="lbfgs").fit(X, y))
    with pytest.raises(ValueError, match="hold no rows"):
        make().fit(cut(X, y, sizes=(0, 0, 0)))
    with pytest.raises(ValueError, match="Found array with dim 4"):
        make().fit(Partitions([(np.ones((3, 2, 2, 1)), [0, 1, 1])] * 3, window=1))
    with pytest.raises(ValueError, match="sample_weight is zero for every row"):
        make().fit(cut(X, y, 0 * y))
    with pytest.raises(ValueError, match="partition 4: Negative values in sample_weight"):
        make().fit(cut(X, y, np.where(np.arange(230) == 100, -1.0, 1.0)))
    with pytest.raises(ValueError, match=r"partition 5: .*too large for dtype"):
        make(dtype="float32").fit(cut(np.where(np.arange(230)[:, None] == 150, 1e99, X), y))
    with pytest.raises(ValueError, match="partial_fit, which does not know all rows"):
        make(class_weight="balanced").partial_fit(cut(X, y), classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"partition 4: Some value\(s\) of y are out of the valid"):
        counts = np.where(np.arange(230) == 100, -1, 1)
        make("MLPRegressor", loss="poisson").fit(cut(X, counts))
    with pytest.raises(ValueError, match="classes not in"):
        make().partial_fit(cut(X, y), classes=[0, 1])
    assert calls == [] and no_threads()


def test_an_error_in_the_middle():
    X, y = data()
    calls = []

    def vanishes():
        calls.append(1)
        if len(calls) > 4:
            raise FileError("data/3.npz: does not exist; check the path")
        return X[160:], y[160:]

    model = make(max_iter=9)
    with pytest.raises(FileError, match=r"^data/3.npz: does not exist"):
        model.fit(Partitions([(X[:80], y[:80]), (X[80:160], y[80:160]), vanishes], window=1))
    assert len(calls) == 5 and no_threads() and not hasattr(model, "coefs_")


def test_interruption_keeps_what_is_trained():
    X, y = data()

    def interrupt(estimator, logs):
        if logs["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        got = make(max_iter=9, callbacks=interrupt).fit(cut(X, y))
    assert got.n_iter_ == 2 and no_threads()
    assert_same_bits(got, make(max_iter=2).fit(cut(X, y)))


def test_callbacks_see_a_fitted_model():
    X, y = data()
    seen = []
    make(callbacks=lambda model, logs: seen.append(model.score(cut(X, y)))).fit(cut(X, y))
    assert len(seen) == 4
    stopped = make(callbacks=lambda model, logs: logs["epoch"] == 2).fit(cut(X, y))
    assert stopped.n_iter_ == 2 and no_threads()
