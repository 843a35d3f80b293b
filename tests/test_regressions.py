"""Mistakes that were made once: each test names the one that it keeps away."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import naive
import numpy as np
import pytest
import sklearn.neural_network
from scipy.special import log_expit, log_softmax
from sklearn.exceptions import NotFittedError

import nbbn
from nbbn.functional import batch_norm_backward, batch_norm_inference, batch_norm_train
from nbbn.layers import Activation, BatchNormalization, Dense
from nbbn.program.layout import aligned_bytes
from nbbn.thread_choice import ThreadChoice

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}


def data(rows=240, features=6, classes=3, dtype=np.float64):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(rows, features)).astype(dtype)
    return X, (X @ rng.normal(size=(features, classes))).argmax(axis=1)


ROWS, LABELS = data()


def make(units=(9,), **params):
    return nbbn.MLPClassifier(
        units, **{"batch_size": 40, "max_iter": 3, "random_state": 0, **params}
    )


def answers(model, X):
    """Copies of what a user can see of a fitted model."""
    arrays = [
        *model.coefs_, *model.intercepts_, *(a for a in model.running_means_ if a is not None),
    ]
    curves = [
        np.array(model.loss_curve_), np.array(model.t_), np.array(model.n_features_in_),
        np.array(model.classes_),
    ]
    return [model.predict_proba(X), *(a.copy() for a in arrays), *curves]


def assert_unchanged(model, X, before):
    for got, ref in zip(answers(model, X), before, strict=True):
        np.testing.assert_array_equal(got, ref)


@pytest.fixture(scope="module")
def large():
    """A batch norm of 27 MB.

    Results beyond 24 MB are written past the caches where their address allows it.
    """
    rng = np.random.default_rng(3)
    x, dy = rng.normal(0.5, 2, (2, 27_000, 256)).astype(np.float32)
    gamma, beta = rng.normal(1, 0.5, (2, 256)).astype(np.float32)
    y, mean, var = naive.batch_norm_train(x, gamma, beta)
    return x, dy, gamma, beta, mean, var, y, naive.batch_norm_backward(dy, x, gamma, beta)


def array_at(start, like):
    """An array so many bytes beyond a 64-byte boundary, or None."""
    return (
        None
        if start is None
        else aligned_bytes(like.nbytes + 64)[start : start + like.nbytes]
        .view(like.dtype)
        .reshape(like.shape)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "forward, backward", [(0, 16), (0, None), (16, 0), (None, 16), (None, None)]
)
def test_large_arrays_at_any_address(large, forward, backward):
    """The address of one call's result decided how the next one stored.

    A crash at an address off 64 bytes.
    """
    x, dy, gamma, beta, mean, var, y_ref, (dx_ref, dgamma_ref, dbeta_ref) = large
    y, cache = batch_norm_train(x, gamma, beta, out=array_at(forward, x))
    dx, dgamma, dbeta = batch_norm_backward(dy, cache, out=array_at(backward, x))
    np.testing.assert_allclose(y, y_ref, rtol=2e-6, atol=1e-5)
    np.testing.assert_allclose(dx, dx_ref, rtol=2e-6, atol=1e-5)
    np.testing.assert_allclose([dgamma, dbeta], [dgamma_ref, dbeta_ref], rtol=1e-5, atol=2e-2)
    for start in (forward, backward):
        y = batch_norm_inference(x, gamma, beta, mean, var, out=array_at(start, x))
        np.testing.assert_allclose(y, y_ref, rtol=2e-6, atol=1e-5)


def test_in_place_with_a_short_last_axis():
    """`out=x` with the channels on axis 1 of (n, C, 1) overwrote the x that the gradient needs."""
    rng = np.random.default_rng(1)
    x, dy, gamma = rng.normal(2, 3, (50, 7, 1)), rng.normal(size=(50, 7, 1)), rng.normal(1, 0.3, 7)
    kept = x.copy()
    y, cache = batch_norm_train(x, gamma, axis=1, out=x)
    assert y is x
    np.testing.assert_allclose(
        y, naive.batch_norm_train(kept, gamma, None, axis=1)[0], rtol=1e-12, atol=1e-12
    )
    for got, ref in zip(
        batch_norm_backward(dy, cache), naive.batch_norm_backward(dy, kept, gamma, None, axis=1)
    ):
        np.testing.assert_allclose(got, ref, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("value", [True, False])
def test_numpy_bool_for_batch_norm(value):
    """`batch_norm=np.True_` meant no batch norm."""
    X, y = ROWS, LABELS
    ref, got = make(batch_norm=value).fit(X, y), make(batch_norm=np.bool_(value)).fit(X, y)
    assert (got.gammas_[0] is not None) == value
    for a, b in zip(got.coefs_, ref.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


def test_numbers_for_batch_norm():
    """`batch_norm=[1, 0]` meant something, and not what it looks like."""
    with pytest.raises(
        ValueError, match="batch_norm entries must be True, False, 'pre' or 'post', got 1"
    ):
        make((9, 8), batch_norm=[1, 0]).fit(ROWS, LABELS)


ENDINGS = {
    "norm": lambda n: [Dense(n), BatchNormalization(), Activation("softmax")],
    "norm, relu": lambda n: [
        Dense(n), BatchNormalization(), Activation("relu"), Activation("softmax"),
    ],
    "norm alone": lambda n: [BatchNormalization(), Activation("softmax")],
    "relu": lambda n: [Dense(n, "relu"), Activation("softmax")],
    "sigmoid": lambda n: [Dense(n, "sigmoid"), Activation("softmax")],
    "tanh": lambda n: [Dense(n, "tanh"), Activation("softmax")],
    "softmax alone": lambda n: [Activation("softmax")],
}
ORACLES = {**naive.ACTIVATIONS, "linear": naive.ACTIVATIONS["identity"], "sigmoid": naive.sigmoid}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("units", [3, 10, 17])
@pytest.mark.parametrize("ending", ENDINGS)
def test_padding_takes_no_part_in_a_softmax(ending, units, dtype):
    """Columns beyond the last unit took probability where no dense layer's bias stood just before
    the softmax.
    """
    rng = np.random.default_rng(units)
    layers = tuple(ENDINGS[ending](units))
    features = 5 if isinstance(layers[0], Dense) else units
    x = rng.normal(size=(70, features))
    ref, weights = x, [{} for _ in layers]
    for layer, arrays in zip(layers, weights):
        if isinstance(layer, Dense):
            arrays.update(kernel=rng.normal(size=(features, units)), bias=rng.normal(size=units))
            ref = naive.dense_forward(ref, **arrays)
        elif isinstance(layer, BatchNormalization):
            arrays.update(
                zip(("gamma", "beta", "mean"), rng.normal(size=(3, units))),
                var=rng.uniform(0.5, 2, units),
            )
            ref = naive.batch_norm_inference(ref, **arrays, epsilon=layer.epsilon)
        ref = ORACLES[getattr(layer, "activation", "linear")](ref)
        arrays.update({name: a.astype(dtype) for name, a in arrays.items()})
    model = nbbn.FoldedModel(nbbn.Network(layers, (features,), weights, np.dtype(dtype)))
    for candidate in (model, nbbn.fold(model)):
        got = candidate.predict(x.astype(dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, ref, rtol=30 * TOLERANCE[dtype], atol=TOLERANCE[dtype])
        np.testing.assert_allclose(got.sum(axis=1), 1, rtol=2 * TOLERANCE[dtype])


@pytest.mark.parametrize("classes", [2, 4])
def test_logarithms_of_tiny_probabilities(classes):
    """Probabilities below float32's smallest were 0 in float64 too.

    A logarithm of minus infinity.
    """
    X, y = data(classes=classes)
    model = make(batch_norm=False).fit(X, y)
    hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    model.coefs_[-1] = model.coefs_[-1] * (900 / np.ptp(hidden @ model.coefs_[-1]))
    logits = hidden @ model.coefs_[-1] + model.intercepts_[-1]
    got = model.predict_log_proba(X)
    ref, got = (
        (log_expit(logits[:, 0]), got[:, 1]) if classes == 2 else (log_softmax(logits, axis=1), got)
    )
    assert ref.min() < -300
    within = ref > -700
    np.testing.assert_allclose(got[within], ref[within], rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
@pytest.mark.parametrize(
    "change",
    [
        {"batch_norm": False}, {"hidden_layer_sizes": (5,)}, {"hidden_layer_sizes": (9, 9)},
        {"activation": "tanh"},
    ],
    ids=str,
)
def test_training_goes_on_with_another_network(way, change):
    """Going on after `set_params` mixed the fitted weights with another network."""
    X, y = ROWS, LABELS
    model = make().fit(X, y)
    before = answers(model, X)
    model.set_params(**change, warm_start=way == "warm_start")
    with pytest.raises(ValueError, match=f"{next(iter(change))}.* differ from the fitted network"):
        (model.partial_fit if way == "partial_fit" else model.fit)(X, y)
    assert_unchanged(model, X, before)


NAN_LABELS = np.where(np.arange(len(LABELS)) == 3, np.nan, LABELS)
FAILURES = {  # parameters, arguments of fit, message
    "n_jobs": ({"n_jobs": 0}, {}, "n_jobs == 0"),
    "width of X_val": ({}, {"X_val": np.ones((20, 4)), "y_val": LABELS[:20]}, "features"),
    "NaN in X_val": ({}, {"X_val": ROWS[:20] * np.nan, "y_val": LABELS[:20]}, "NaN"),
    "unknown label in y_val": (
        {}, {"X_val": ROWS[:20], "y_val": LABELS[:20] + 7}, "classes not in",
    ),
    "callbacks": ({"callbacks": [3]}, {}, "callbacks must be functions"),
    "batch_norm": ({"batch_norm": ["middle"]}, {}, "'middle'"),
    "NaN in y": ({}, {"y": NAN_LABELS}, "NaN"),
    "NaN in y of narrower rows": ({}, {"X": ROWS[:, :4], "y": NAN_LABELS}, "NaN"),
}


@pytest.mark.parametrize("fitted", [True, False], ids=["fitted", "new"])
@pytest.mark.parametrize("case", FAILURES)
def test_failed_fit_changes_nothing(case, fitted):
    """A fit that failed had overwritten half of the estimator, or made a new one look fitted."""
    params, arguments, match = FAILURES[case]
    model = make()
    if fitted:
        before = answers(model.fit(ROWS, LABELS), ROWS)
    kept = model.get_params()
    with pytest.raises((ValueError, TypeError), match=match):
        model.set_params(**params).fit(**{"X": ROWS, "y": LABELS, **arguments})
    model.set_params(**kept)
    if fitted:
        assert_unchanged(model, ROWS, before)
    else:
        with pytest.raises(NotFittedError):
            model.predict(ROWS)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("steps, rate", [(1, 1e300), (1, 1e30), (2, 1e30), (3, 1e30)])
def test_divergence_at_the_last_update(steps, rate, batch_norm):
    """Weights that the last update spoilt went unnoticed: the loss is that of the step before."""
    X, y = data(dtype=np.float32)
    model = make(batch_norm=batch_norm, batch_size=len(X)).fit(X, y)
    before, kept = answers(model, X), model.get_params()
    model.set_params(solver="sgd", learning_rate_init=rate, max_iter=steps)
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(X, y)
    assert_unchanged(model.set_params(**kept), X, before)


@pytest.mark.parametrize("size", [1e15, 1e20, 1e25, 1e37])
def test_rows_whose_variance_overflows(size):
    """Rows whose squares overflow gave an estimator that answered NaN, without an error."""
    X, y = data(dtype=np.float32)
    X *= np.float32(size)
    model = make()
    try:
        model.fit(X, y)
    except ValueError as error:
        assert "non-finite" in str(error)
        with pytest.raises(NotFittedError):
            model.predict(X)
    else:
        assert np.isfinite(model.predict_proba(X)).all()


def test_one_class():
    """A single class became a network of one output that answered anything.

    Scikit-learn answers with that class.
    """
    with pytest.warns(RuntimeWarning, match="y holds one class, 7"):
        model = make().fit(ROWS, np.full(len(ROWS), 7))
    np.testing.assert_array_equal(model.classes_, [7])
    np.testing.assert_array_equal(model.predict(ROWS), 7)


@pytest.mark.parametrize("classes", [None, ["a"], ["a", "b"], ["a", "b", "c", "d"]])
def test_classes_of_a_folded_model(classes):
    """A classifier without a class for each output failed at some rows only."""
    network = make().fit(ROWS, LABELS).network()
    with pytest.raises(ValueError, match="3 outputs needs a class for each"):
        nbbn.FoldedModel(network, kind="classifier", classes=classes)


def test_save_after_a_change_of_the_network(tmp_path):
    """A file was written that `load` then refused."""
    model = make().fit(ROWS, LABELS).set_params(hidden_layer_sizes=(5,))
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        model.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 7])
def test_pace_with_another_number_of_threads(runs):
    """A new limit of threads between two runs met times of the old one: a KeyError."""
    pace = ThreadChoice()
    for threads in (2, 4, 1, 3):
        for _ in range(runs):
            way, chunk = pace.next(threads, 1000)
            assert way in (1, threads) and 1 <= chunk <= 1000
            pace.note(way, chunk, 1e-4 * chunk)


def test_one_job_opens_no_team(monkeypatch):
    """With `n_jobs=1` all threads looked a large X over."""

    def refuse(*_args):
        raise AssertionError("a team was opened")

    monkeypatch.setattr(nbbn.runtime, "run_parallel", refuse)
    X, y = data(rows=40_000, features=64, dtype=np.float32)
    model = make((4,), n_jobs=1, max_iter=1, batch_size=4000).fit(X, y)
    assert X.nbytes > 8 << 20
    assert np.isin(model.predict(X), [0, 1, 2]).all()


def test_running_statistics_go_on_after_load(tmp_path):
    """A loaded estimator's first batch replaced the running statistics."""
    X, y = ROWS, LABELS
    make(max_iter=60, tol=0).fit(X, y).save(tmp_path / "model")
    model = nbbn.load(tmp_path / "model")
    old, few = model.running_means_[0].copy(), X[:8] + 3
    batch = (few @ model.coefs_[0]).mean(axis=0)
    model.set_params(batch_size=8).partial_fit(few, y[:8])
    np.testing.assert_allclose(
        model.running_means_[0], 0.9 * old + 0.1 * batch, rtol=1e-9, atol=1e-12
    )


def test_validation_curves_are_saved(tmp_path):
    """Scores of the validation rows were not in the file."""
    model = make(early_stopping=True).fit(ROWS, LABELS)
    model.save(tmp_path / "model")
    got = nbbn.load(tmp_path / "model")
    assert len(got.validation_scores_) == 3
    assert got.validation_scores_ == model.validation_scores_
    assert got.validation_loss_curve_ == model.validation_loss_curve_
    assert (
        got.best_validation_score_ == model.best_validation_score_ == max(model.validation_scores_)
    )


def test_adaptive_rate_persists_over_partial_fit():
    """Each call of `partial_fit` began at the full learning rate again."""
    X, y = ROWS, LABELS
    params = {
        "solver": "sgd", "learning_rate_init": 0.1, "n_iter_no_change": 1, "tol": 10.0,
        "random_state": 0, "batch_size": 40,
    }
    models = [
        sklearn.neural_network.MLPClassifier((9,), learning_rate="adaptive", **params),
        nbbn.MLPClassifier((9,), learning_rate="adaptive", batch_norm=False, **params),
        nbbn.MLPClassifier((9,), learning_rate="constant", batch_norm=False, **params),
    ]
    for _ in range(8):
        for model in models:
            model.partial_fit(X, y, classes=[0, 1, 2])
    ref, got, constant = models
    for a, b in zip(got.coefs_ + got.intercepts_, ref.coefs_ + ref.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert np.abs(constant.coefs_[0] - ref.coefs_[0]).max() > 1e-2


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_predict_converts_integers_by_the_block(dtype):
    """Whole numbers were converted as a whole: eight times the memory of an image's bytes."""
    X = np.random.default_rng(2).integers(0, 200, (200_000, 64)).astype(dtype)
    model = make((4,), max_iter=1).fit(X[:500], X[:500, 0] > X[:500, 1])
    ref = model.predict(X[:5000].astype(np.float64))
    tracemalloc.start()
    try:
        got = model.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(got[:5000], ref)
    assert peak < 0.2 * 8 * X.size


def test_partial_fit_stays_in_its_dtype():
    """float64 rows turned a float32 network into a float64 one."""
    X, y = data(dtype=np.float32)
    model, ref = make().fit(X, y), make().fit(X, y).partial_fit(X, y)
    model.partial_fit(X.astype(np.float64), y)
    for a, b in zip(
        model.coefs_ + model.running_vars_, ref.coefs_ + ref.running_vars_, strict=True
    ):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    assert model.predict_proba(X.astype(np.float64)).dtype == np.float32


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_the_users_own_threads():
    """Threads started by a user's own parallel function did not count.

    The forked child hung or was aborted.
    """
    code = """
        import os
        import numba, numpy as np, nbbn

        @numba.njit(parallel=True)
        def own(a):
            total = 0.0
            for i in numba.prange(len(a)):
                total += a[i]
            return total

        assert own(np.ones(1000)) == 1000
        X = np.random.default_rng(0).normal(size=(2000, 100))
        y = X[:, 0] > 0
        child = os.fork()
        if child == 0:
            model = nbbn.MLPClassifier((200, 90), max_iter=2, random_state=0, n_jobs=2).fit(X, y)
            os._exit(0 if model.score(X, y) > 0.8 else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True,
        timeout=200,
    )
    assert done.stdout.split() == ["0"], done.stderr


def test_warm_start_keeps_the_best_epoch():
    """A second fit without any better epoch ended with its last weights, under the first fit's best
    score.
    """
    X, y = data(rows=600)
    model = make(
        (20,), early_stopping=True, warm_start=True, max_iter=30, solver="sgd",
        learning_rate_init=0.05,
    )
    model.fit(X[:400], y[:400], X_val=X[400:], y_val=y[400:])
    best = model.best_validation_score_
    model.set_params(learning_rate_init=20.0, max_iter=3).fit(
        X[:400], y[:400], X_val=X[400:], y_val=y[400:]
    )
    assert max(model.validation_scores_[-3:]) < best  # or this test says nothing
    assert model.best_validation_score_ == best == model.score(X[400:], y[400:])


@pytest.mark.parametrize("units", [1, 3, 70])
def test_a_relu_ends_a_network_in_training_too(units):
    """The output layer's kernel by rows has no ReLU of its own.

    The loss was that of the numbers before it.
    """
    rng = np.random.default_rng(units)
    x, y = rng.standard_normal((20, 4)), rng.standard_normal((20, units))
    model = nbbn.Sequential([nbbn.layers.Dense(units, "relu", input_shape=(4,), dtype="float64")])
    model.compile(nbbn.optimizers.SGD(1.0), "mse")
    kernel, bias = model.get_weights()
    z = x @ kernel + bias
    dz = 2 * (np.maximum(z, 0) - y) * (z > 0) / z.size
    loss = model.train_on_batch(x, y)
    assert loss == pytest.approx(np.mean((np.maximum(z, 0) - y) ** 2), rel=1e-12)
    np.testing.assert_allclose(model.get_weights()[0], kernel - x.T @ dz, atol=1e-13)
    np.testing.assert_allclose(model.get_weights()[1], bias - dz.sum(0), atol=1e-13)
