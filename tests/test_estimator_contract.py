"""What users rely on: scikit-learn's contract, its errors, and what batch norm adds to it."""

from __future__ import annotations

import inspect
import pickle

import naive
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ["MLPClassifier", "MLPRegressor"]
kinds = pytest.mark.parametrize("kind", KINDS)
STATE = ("coefs_", "intercepts_", "gammas_", "betas_", "running_means_", "running_vars_")


def data(rows=203, features=13):
    X, y = make_classification(rows, features, n_informative=8, n_classes=3, class_sep=1.5, random_state=0)
    return X, y


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (20, 7), "max_iter": 4, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


def arrays(estimator):
    """Every trained array of an estimator."""
    return [a for name in STATE for a in getattr(estimator, name) if a is not None]


def assert_same_bits(got, ref):
    for g, r in zip(arrays(got), arrays(ref), strict=True):
        assert g.dtype == r.dtype
        np.testing.assert_array_equal(g, r)
    assert got.loss_curve_ == ref.loss_curve_


@parametrize_with_checks(
    [
        getattr(nbbn, kind)(hidden_layer_sizes=(20,), max_iter=60, learning_rate_init=0.02, random_state=0, batch_norm=norm)
        for kind in KINDS
        for norm in (True, False)
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# Parameters and the life of an estimator


@kinds
def test_parameters(kind):
    estimator = make(kind, bn_momentum=0.8, batch_norm=["pre", False])
    params = estimator.get_params()
    assert params["bn_momentum"] == 0.8
    assert params["bn_epsilon"] == 1e-5
    assert getattr(nbbn, kind)().batch_norm is True
    assert clone(estimator).get_params() == params
    assert estimator.set_params(bn_epsilon=1e-3).bn_epsilon == 1e-3
    first = () if kind == "MLPClassifier" else ("huber",)
    assert getattr(nbbn, kind)(*first, (9,), "tanh").activation == "tanh"
    with pytest.raises(TypeError):
        getattr(nbbn, kind)(*first, (9,), "relu", False)


def test_shares_scikit_learns_signatures():
    """Every parameter of scikit-learn's, in its place and with its default; the others by keyword alone."""
    from sklearn import neural_network

    for kind in KINDS:
        for method in ("__init__", "fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "score"):
            if kind == "MLPRegressor" and "proba" in method:
                continue
            ours, theirs = (
                inspect.signature(getattr(getattr(library, kind), method)).parameters for library in (nbbn, neural_network)
            )
            shared = {name: (p.default, p.kind) for name, p in ours.items() if name in theirs}
            assert shared == {name: (p.default, p.kind) for name, p in theirs.items()}, (kind, method)
            positional = [name for name, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
            assert positional == [name for name, p in theirs.items() if p.kind is p.POSITIONAL_OR_KEYWORD], (kind, method)
    assert nbbn.MLPClassifier().loss == neural_network.MLPClassifier().loss == "log_loss"


@kinds
def test_pickle(kind):
    X, y = data()
    fitted = make(kind).fit(X, y)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict(X), fitted.predict(X))
    assert_same_bits(copy, fitted)
    assert_same_bits(copy.partial_fit(X, y), fitted.partial_fit(X, y))


@kinds
def test_fit_starts_anew(kind):
    X, y = data()
    estimator = make(kind)
    assert estimator.fit(X, y) is estimator
    first = pickle.loads(pickle.dumps(estimator))
    assert_same_bits(estimator.fit(X, y), first)
    assert_same_bits(clone(estimator).fit(X, y), first)
    estimator.set_params(hidden_layer_sizes=(5,)).fit(X[:, :4], y)
    assert estimator.coefs_[0].shape == (4, 5)


def test_pipeline_and_grid_search():
    X, y = data()
    pipeline = make_pipeline(StandardScaler(), make(max_iter=10, learning_rate_init=0.01))
    assert pipeline.fit(X, y).score(X, y) > 0.7
    grid = {"mlpclassifier__batch_norm": [True, "post", False], "mlpclassifier__alpha": [1e-4, 1e-1]}
    one, two = (GridSearchCV(pipeline, grid, cv=2, n_jobs=n).fit(X, y) for n in (1, 2))
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    assert one.best_params_ == two.best_params_


def test_attributes():
    X, y = data()
    fitted = make().fit(X, y)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 4
    assert fitted.t_ == 4 * len(X)
    assert fitted.n_layers_ == 4
    assert fitted.n_outputs_ == 3
    assert fitted.out_activation_ == "softmax"
    assert fitted.n_features_in_ == 13
    assert fitted.loss_ == fitted.loss_curve_[-1]
    assert fitted.best_loss_ == min(fitted.loss_curve_)
    np.testing.assert_array_equal(fitted.classes_, [0, 1, 2])
    for name in ("gammas_", "betas_", "running_means_", "running_vars_"):
        assert [a.shape for a in getattr(fitted, name)] == [(20,), (7,)], name
    assert [w.shape for w in fitted.coefs_] == [(13, 20), (20, 7), (7, 3)]
    assert make().fit(X, y == 1).out_activation_ == "logistic"
    assert make("MLPRegressor").fit(X, y).out_activation_ == "identity"


def test_feature_names():
    pandas = pytest.importorskip("pandas")
    X, y = data()
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    fitted = make().fit(frame, y)
    assert list(fitted.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(fitted.predict(frame), make().fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[frame.columns[::-1]])


# Labels and targets


@pytest.mark.parametrize("labels", [["ash", "beech", "cedar"], [-5, 0, 70], [1.0, 2.0, 3.0]], ids=str)
def test_any_labels(labels):
    X, y = data()
    labels = np.array(labels)
    fitted, ref = make().fit(X, labels[y]), make().fit(X, y)
    np.testing.assert_array_equal(fitted.classes_, labels)
    np.testing.assert_array_equal(fitted.predict(X), labels[ref.predict(X)])
    np.testing.assert_array_equal(fitted.predict_proba(X), ref.predict_proba(X))


def test_continuous_labels():
    X, y = data()
    with pytest.raises(ValueError, match="Unknown label type"):
        make().fit(X, y + X[:, 0])


def test_probabilities():
    X, y = data()
    for target in (y, y == 1):
        fitted = make().fit(X, target)
        probability = fitted.predict_proba(X)
        assert probability.shape == (len(X), len(fitted.classes_))
        np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_array_equal(fitted.classes_[probability.argmax(axis=1)], fitted.predict(X))
        np.testing.assert_allclose(fitted.predict_log_proba(X), np.log(probability), rtol=1e-6, atol=1e-12)
        assert fitted.score(X, target) == (fitted.predict(X) == target).mean()


def test_probabilities_of_extreme_rows():
    X, y = data()
    probability = make().fit(X, y).predict_proba(1e6 * X)
    assert np.isfinite(probability).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-12)


def test_regression_targets():
    X, y = data()
    single = make("MLPRegressor", max_iter=30, learning_rate_init=0.02).fit(X, y.astype(float))
    assert single.predict(X).shape == (len(X),)
    double = make("MLPRegressor").fit(X, np.column_stack([y, -y]).astype(float))
    assert double.predict(X).shape == (len(X), 2)
    assert single.score(X, y) > 0


# The data as they come


@kinds
def test_dtype(kind):
    X, y = data()
    for dtype, force, expected in (
        (np.float64, None, np.float64),
        (np.float32, None, np.float32),
        (np.float64, "float32", np.float32),
        (np.float32, "float64", np.float64),
        (np.int64, None, np.float64),
    ):
        fitted = make(kind, dtype=force).fit(X.astype(dtype), y)
        assert {a.dtype for a in arrays(fitted)} == {np.dtype(expected)}
        if kind == "MLPClassifier":
            assert fitted.predict_proba(X.astype(dtype)).dtype == expected


def test_images_of_bytes():
    """uint8 rows give the bits of the same numbers in floating point."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (150, 30), dtype=np.uint8), rng.integers(0, 3, 150)
    for dtype in ("float32", "float64"):
        got, ref = make(dtype=dtype).fit(X, y), make(dtype=dtype).fit(X.astype(dtype), y)
        assert_same_bits(got, ref)
        np.testing.assert_array_equal(got.predict_proba(X), ref.predict_proba(X.astype(dtype)))


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[:, ::-1].copy()[:, ::-1],
        lambda a: a.tolist(),
    ],
    ids=["fortran", "strided", "reversed", "list"],
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_layout_of_x(layout, shuffle):
    X, y = data()
    X.setflags(write=False)
    before = X.copy()
    ref = make(shuffle=shuffle).fit(X, y)
    got = make(shuffle=shuffle).fit(layout(X), y)
    np.testing.assert_array_equal(X, before)
    for g, r in zip(arrays(got), arrays(ref), strict=True):
        np.testing.assert_allclose(g, r, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.predict_proba(layout(X)), ref.predict_proba(X), rtol=1e-9)


def test_prediction_of_a_row_is_its_own():
    """A row's answer does not depend on the rows beside it."""
    X, y = data()
    fitted = make().fit(X, y)
    together = fitted.predict_proba(X)
    alone = np.vstack([fitted.predict_proba(row[None]) for row in X[:40]])
    np.testing.assert_allclose(alone, together[:40], rtol=1e-12)


# Training


@kinds
@pytest.mark.parametrize("solver", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("batch_norm", [True, "post", False])
def test_partial_fit_continues(kind, solver, batch_norm):
    """n calls of partial_fit are n epochs of fit, bit for bit."""
    X, y = data()
    params = {"solver": solver, "batch_norm": batch_norm, "shuffle": False}
    whole = make(kind, max_iter=5, **params).fit(X, y)
    parts = make(kind, **params)
    extra = {"classes": [0, 1, 2]} if kind == "MLPClassifier" else {}
    for _ in range(5):
        assert parts.partial_fit(X, y, **extra) is parts
    assert_same_bits(parts, whole)
    assert parts.t_ == whole.t_
    np.testing.assert_array_equal(parts.predict(X), whole.predict(X))


def test_partial_fit_sees_classes_later():
    X, y = data()
    estimator = make().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    for _ in range(30):
        estimator.partial_fit(X, y)
    np.testing.assert_array_equal(np.unique(estimator.predict(X)), [0, 1, 2])


def test_shuffling():
    X, y = data()
    ref = make(shuffle=True).fit(X, y)
    assert_same_bits(make(shuffle=True).fit(X, y), ref)
    assert make(shuffle=False).fit(X, y).loss_curve_ != ref.loss_curve_
    assert make(shuffle=True, random_state=2).fit(X, y).loss_curve_ != ref.loss_curve_
    by_instance = make(random_state=np.random.RandomState(1)).fit(X, y)
    assert_same_bits(by_instance, ref)


def test_stops_without_improvement():
    X, y = data()
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\)"):
        make(max_iter=3).fit(X, y)
    fitted = make(max_iter=100, tol=10.0, n_iter_no_change=2).fit(X, y)
    # The first epoch improves on infinity; the next three do not, which is more than two.
    assert fitted.n_iter_ == 4


@kinds
def test_early_stopping(kind):
    X, y = data(400)
    fitted = make(kind, early_stopping=True, validation_fraction=0.25, max_iter=200, n_iter_no_change=5).fit(X, y)
    assert fitted.n_iter_ == len(fitted.validation_scores_) < 200
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    assert fitted.best_loss_ is None
    assert fitted.t_ == fitted.n_iter_ * 300


@kinds
def test_validation_data(kind):
    X, y = data(300)
    train, held_out = (X[:200], y[:200]), (X[200:], y[200:])
    fitted = make(kind).fit(*train, X_val=held_out[0], y_val=held_out[1])
    assert len(fitted.validation_scores_) == len(fitted.validation_loss_curve_) == 4
    assert fitted.validation_scores_[-1] == pytest.approx(fitted.score(*held_out), rel=1e-12)
    if kind == "MLPClassifier":
        loss = log_loss(held_out[1], fitted.predict_proba(held_out[0]))
    else:
        loss = mean_squared_error(held_out[1], fitted.predict(held_out[0])) / 2
    assert fitted.validation_loss_curve_[-1] == pytest.approx(loss, rel=1e-9)
    assert_same_bits(fitted, make(kind).fit(*train))


@pytest.mark.parametrize("batch_norm", [True, "post", False])
def test_best_epoch_is_restored_whole(batch_norm):
    """Weights of the best epoch with the running statistics of the last would score differently."""
    X, y = data(300)
    labels = np.array(["ash", "beech", "cedar"])[y]
    estimator = make(early_stopping=True, learning_rate_init=0.3, max_iter=12, batch_norm=batch_norm)
    estimator.fit(X[:200], labels[:200], X_val=X[200:], y_val=labels[200:])
    scores = estimator.validation_scores_
    assert scores[-1] < max(scores), "the last epoch is the best: the test shows nothing"
    assert estimator.score(X[200:], labels[200:]) == pytest.approx(max(scores), abs=1e-12)
    assert estimator.best_validation_score_ == max(scores)


def test_validation_data_come_in_pairs():
    X, y = data()
    with pytest.raises(ValueError, match="y_val"):
        make().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="X_val"):
        make().fit(X, y, y_val=y)
    with pytest.raises(ValueError, match="12 features"):
        make().fit(X, y, X_val=X[:, :12], y_val=y)


@kinds
def test_callbacks(kind):
    X, y = data()
    seen = []
    estimator = make(kind, callbacks=[lambda estimator, logs: seen.append((estimator, dict(logs)))])
    estimator.fit(X, y, X_val=X, y_val=y)
    assert [logs["epoch"] for _, logs in seen] == [1, 2, 3, 4]
    assert [logs["loss"] for _, logs in seen] == estimator.loss_curve_
    assert [logs["val_loss"] for _, logs in seen] == estimator.validation_loss_curve_
    assert [logs["val_score"] for _, logs in seen] == estimator.validation_scores_
    assert all(who is estimator and logs["epochs"] == 4 and logs["seconds"] >= 0 for who, logs in seen)
    assert all(("accuracy" in logs) == (kind == "MLPClassifier") for _, logs in seen)
    assert all(0 <= logs.get("accuracy", 0.5) <= 1 for _, logs in seen)
    seen.clear()
    estimator.fit(X, y)
    assert not {"val_loss", "val_score"} & set(seen[0][1])


def test_callback_stops_training():
    X, y = data()
    stopped = make(max_iter=50, callbacks=[lambda _, logs: logs["epoch"] == 3]).fit(X, y)
    assert stopped.n_iter_ == 3
    np.testing.assert_array_equal(stopped.predict(X), make(max_iter=3).fit(X, y).predict(X))


def test_callback_sees_the_network_of_its_epoch():
    X, y = data()
    outputs = []
    make(shuffle=False, callbacks=[lambda estimator, logs: outputs.append(estimator.predict_proba(X))]).fit(X, y)
    for epochs, got in enumerate(outputs, start=1):
        np.testing.assert_array_equal(got, make(shuffle=False, max_iter=epochs).fit(X, y).predict_proba(X))


def test_error_in_a_callback_comes_through():
    X, y = data()

    def fail(estimator, logs):
        raise ZeroDivisionError("mine")

    estimator = make(callbacks=[fail])
    with pytest.raises(ZeroDivisionError, match="mine"):
        estimator.fit(X, y)
    assert_same_bits(estimator.set_params(callbacks=None).fit(X, y), make().fit(X, y))


@pytest.mark.parametrize("batch_norm", [True, "post"])
def test_running_statistics_are_right_after_ten_steps(batch_norm):
    """From their start at 0 and 1, plain moving averages would be a third of the way off."""
    rng = np.random.default_rng(0)
    X = rng.normal(5, 3, (320, 20))
    y = (X[:, :10].sum(axis=1) > X[:, 10:].sum(axis=1)).astype(int)
    fitted = make(hidden_layer_sizes=(16,), max_iter=1, batch_norm=batch_norm).fit(X, y)
    inside = X @ fitted.coefs_[0]
    inside = inside if batch_norm is True else np.maximum(inside, 0)
    alive = inside.var(axis=0) > 1e-3
    assert alive.sum() > 8
    mean, var = fitted.running_means_[0][alive], fitted.running_vars_[0][alive]
    np.testing.assert_allclose(var, inside.var(axis=0)[alive], rtol=0.3, atol=0.5)
    assert (np.abs(mean - inside.mean(axis=0)[alive]) < 0.3 * inside.std(axis=0)[alive]).all()
    assert np.abs(var - 1).max() > 1

    network = naive.MLP(fitted.coefs_, fitted.intercepts_, ["pre" if batch_norm is True else "post"])
    network.gammas, network.betas = fitted.gammas_, fitted.betas_
    training_mode = ((network.forward_train(X)[0][:, 0] > 0) == y).mean()
    assert fitted.score(X, y) == pytest.approx(training_mode, abs=0.05)


@pytest.mark.parametrize("verbose", [True, False])
def test_verbose(verbose, capsys):
    X, y = data()
    make(verbose=verbose).fit(X, y)
    out, err = capsys.readouterr()
    assert bool(out + err) == verbose


# Errors


def spoiled(X, value):
    """X with one number replaced."""
    X = X.copy()
    X[17, 3] = value
    return X


@kinds
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_layer_sizes", 0),
        ("activation", "swash"),
        ("solver", "nope"),
        ("alpha", -1.0),
        ("batch_size", 0),
        ("learning_rate_init", 0.0),
        ("max_iter", 0),
        ("momentum", 1.5),
        ("n_iter_no_change", 0),
        ("validation_fraction", 1.5),
        ("batch_norm", "middle"),
        ("bn_momentum", -0.1),
        ("bn_epsilon", 0.0),
        ("dtype", "float16"),
        ("n_jobs", "all"),
    ],
)
def test_bad_parameter(kind, name, value):
    X, y = data()
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {kind} must be"):
        make(kind, **{name: value}).fit(X, y)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"batch_norm": [True]}, "batch_norm"),
        ({"batch_norm": [True, "middle"]}, "batch_norm"),
        ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes"),
        ({"batch_size": 1}, "batch_size"),
    ],
    ids=str,
)
def test_bad_parameter_for_this_network(params, match):
    X, y = data()
    with pytest.raises(ValueError, match=match):
        make(**params).fit(X, y)


def test_momentum_of_another_library():
    X, y = data()
    with pytest.warns(UserWarning, match="bn_momentum"):
        make(bn_momentum=0.1).fit(X, y)


def test_batch_larger_than_the_data():
    X, y = data(50)
    with pytest.warns(UserWarning, match="clipped"):
        got = make(batch_size=64).fit(X, y)
    assert_same_bits(got, make(batch_size=50).fit(X, y))


@kinds
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda X, y: (spoiled(X, np.nan), y), "NaN"),
        (lambda X, y: (spoiled(X, np.inf), y), "infinity"),
        (lambda X, y: (X[:, 0], y), "1D array"),
        (lambda X, y: (X[None], y), "dim 3"),
        (lambda X, y: (X[:0], y[:0]), "0 sample"),
        (lambda X, y: (X[:, :0], y), "0 feature"),
        (lambda X, y: (X[:1], y[:1]), "1 sample"),
        (lambda X, y: (X[:-1], y), "inconsistent numbers of samples"),
        (lambda X, y: (X, np.where(y == 1, np.nan, y)), "NaN"),
    ],
    ids=["nan", "infinity", "1-D", "3-D", "no rows", "no columns", "one row", "lengths", "nan in y"],
)
def test_bad_data(kind, change, match):
    X, y = data()
    estimator = make(kind)
    with pytest.raises(ValueError, match=match):
        estimator.fit(*change(X, y))
    assert not hasattr(estimator, "coefs_")


@kinds
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda X: X[:, :12], "expecting 13 features"),
        (lambda X: X[0], "1D array"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: spoiled(X, np.nan), "NaN"),
    ],
    ids=["features", "1-D", "no rows", "nan"],
)
def test_bad_data_in_predict(kind, change, match):
    X, y = data()
    fitted = make(kind).fit(X, y)
    before = fitted.predict(X)
    with pytest.raises(ValueError, match=match):
        fitted.predict(change(X))
    with pytest.raises(ValueError, match=match):
        fitted.partial_fit(change(X), y[: len(change(X))])
    np.testing.assert_array_equal(fitted.predict(X), before)


@kinds
def test_predict_before_fit(kind):
    X, _ = data()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        make(kind).predict(X)


def test_partial_fit_errors():
    X, y = data()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        make().partial_fit(X, y)
    fitted = make().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"classes not in `self.classes_`"):
        fitted.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="early_stopping"):
        make(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])


def test_one_row_for_a_trained_network():
    """partial_fit with one row would leave statistics without a variance."""
    X, y = data()
    fitted = make().fit(X, y)
    before = [a.copy() for a in arrays(fitted)]
    with pytest.raises(ValueError, match="1 sample"):
        fitted.partial_fit(X[:1], y[:1])
    for got, ref in zip(arrays(fitted), before, strict=True):
        np.testing.assert_array_equal(got, ref)


def test_divergence_is_an_error():
    X, y = data()
    with pytest.raises(ValueError, match="non-finite"):
        make("MLPRegressor", batch_norm=False, solver="sgd", learning_rate_init=1e100).fit(X, 1e3 * y)
