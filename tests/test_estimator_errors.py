"""What is refused, and what the errors say."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from estimator_helpers import arrays, assert_close, assert_same_bits, kinds, three_classes
from sklearn.exceptions import NotFittedError

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(rows=203, features=13):
    return three_classes(rows, features, 8)


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (20, 7), "max_iter": 4, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


def spoiled(X, value):
    """X with one number replaced."""
    X = X.copy()
    X[17, 3] = value
    return X


@kinds
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_layer_sizes", 0), ("activation", "swash"), ("solver", "nope"), ("alpha", -1.0),
        ("batch_size", 0), ("learning_rate_init", 0.0), ("max_iter", 0), ("momentum", 1.5),
        ("n_iter_no_change", 0), ("validation_fraction", 1.5), ("batch_norm", "middle"),
        ("bn_momentum", -0.1), ("bn_epsilon", 0.0), ("dtype", "float16"), ("n_jobs", "all"),
    ],
)
def test_bad_parameter(kind, name, value):
    X, y = data()
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {kind} must be"):
        make(kind, **{name: value}).fit(X, y)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"batch_norm": [True]}, "batch_norm"), ({"batch_norm": [True, "middle"]}, "batch_norm"),
        ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes"), ({"batch_size": 1}, "batch_size"),
    ],
    ids=str,
)
def test_bad_parameter_for_this_network(params, match):
    X, y = data()
    with pytest.raises(ValueError, match=match):
        make(**params).fit(X, y)


def test_momentum_of_another_library():
    X, y = data()
    with pytest.warns(UserWarning, match="bn_momentum") as caught:
        make(bn_momentum=0.1).fit(X, y)
    assert caught[0].filename == __file__


def test_batch_larger_than_the_data():
    X, y = data(50)
    with pytest.warns(UserWarning, match="clipped") as caught:
        got = make(batch_size=64).fit(X, y)
    assert caught[0].filename == __file__
    assert_same_bits(got, make(batch_size=50).fit(X, y))


@kinds
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda X, y: (spoiled(X, np.nan), y), "NaN"),
        (lambda X, y: (spoiled(X, np.inf), y), "infinity"), (lambda X, y: (X[:, 0], y), "1D array"),
        (lambda X, y: (X[None], y), "dim 3"), (lambda X, y: (X[:0], y[:0]), "0 sample"),
        (lambda X, y: (X[:, :0], y), "0 feature"), (lambda X, y: (X[:1], y[:1]), "1 sample"),
        (lambda X, y: (X[:-1], y), "inconsistent numbers of samples"),
        (lambda X, y: (X, np.where(y == 1, np.nan, y)), "NaN"),
    ],
    ids=[
        "nan", "infinity", "1-D", "3-D", "no rows", "no columns", "one row", "lengths", "nan in y",
    ],
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
        (lambda X: X[:, :12], "expecting 13 features"), (lambda X: X[0], "1D array"),
        (lambda X: X[:0], "0 sample"), (lambda X: spoiled(X, np.nan), "NaN"),
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
        make("MLPRegressor", batch_norm=False, solver="sgd", learning_rate_init=1e100).fit(
            X, 1e3 * y
        )


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"batch_norm": [True]}, "batch_norm has 1 entries for 2 hidden layers"),
        ({"activation": ["relu"] * 3}, "activation has 3 entries for 2 hidden layers"),
        ({"dropout": (0.1,)}, "dropout has 1 entries for 2 hidden layers"),
        ({"activation": ["relu", "swash"]}, "activation entries must be among"),
        ({"activation": ["relu", 3]}, "activation entries must be among"),
        ({"dropout": [0.1, 1.0]}, "dropout entries must be numbers from 0 to below 1"),
        ({"dropout": [0.1, "x"]}, "dropout entries"),
        ({"solver": "lbfgs", "dropout": 0.5}, "solver='lbfgs' does not support dropout=0.5"),
        ({"solver": "lbfgs", "clip_norm": 1.0}, "solver='lbfgs' does not support clip_norm=1.0"),
        (
            {"solver": "lbfgs", "learning_rate": "cosine"},
            "solver='lbfgs' does not support learning_rate='cosine'",
        ),
        (
            {"solver": "lbfgs", "learning_rate": float},
            "solver='lbfgs' does not support learning_rate",
        ),
        (
            {"solver": "lbfgs", "early_stopping": "loss"},
            "solver='lbfgs' does not support early_stopping='loss'",
        ),
        ({"solver": "lbfgs", "checkpoint": "x"}, "solver='lbfgs' does not support checkpoint='x'"),
        ({"n_jobs": 0}, "n_jobs == 0"),
    ],
    ids=str,
)
def test_what_does_not_go_together(params, match):
    X, y = data()
    estimator = make(**params)
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y)
    assert not hasattr(estimator, "coefs_")


def test_partial_fit_with_a_checkpoint():
    X, y = data()
    with pytest.raises(ValueError, match="partial_fit does not support checkpoint"):
        make(checkpoint="x").partial_fit(X, y, classes=[0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"batchnorm": True},
            r"unexpected keyword argument 'batchnorm'; did you mean 'batch_norm'\?",
        ),
        ({"hidden_layers": (3,)}, "did you mean 'hidden_layer_sizes'"),
        ({"epochs": 5}, "did you mean 'max_iter'"),
        ({"lr": 0.1}, "did you mean 'learning_rate_init'"),
        ({"optimizer": "adam"}, "did you mean 'solver'"),
        ({"xyz": 1}, "unexpected keyword argument 'xyz'$"),
    ],
    ids=str,
)
@kinds
def test_unknown_parameter(kind, arguments, match):
    with pytest.raises(TypeError, match=f"{kind} got an .*{match}"):
        getattr(nbbn, kind)(**arguments)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"activation": "swish"}, r"Got 'swish' instead\. Did you mean 'silu'\?"),
        ({"activation": ["ReLU", "relu"]}, "got 'ReLU'. Did you mean 'relu'"),
        ({"activation": "sigmoid"}, "Did you mean 'logistic'"),
        ({"solver": "AdamW"}, "Did you mean 'adamw'"),
        ({"learning_rate": "cosin"}, "Did you mean 'cosine'"),
        ({"learning_rate": 0.01}, r"Got 0\.01 instead\. A number goes in learning_rate_init=0\.01"),
        (
            {"loss": (32, 16)},
            r"Got \(32, 16\) instead\. .* name the other: hidden_layer_sizes=\(32, 16\)",
        ),
        ({"loss": "mse"}, "Did you mean 'squared_error'"),
        ({"dtype": np.float32}, "Did you mean 'float32'"),
        ({"solver": "xyz"}, r"Got 'xyz' instead\.$"),
    ],
    ids=str,
)
def test_unknown_value(params, match):
    X, y = data()
    with pytest.raises(ValueError, match=match):
        make("MLPRegressor", **params).fit(X, y)


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        (
            {"hidden_layer_sizes": (2.5,)},
            TypeError,
            "hidden_layer_sizes must hold whole numbers, got 2.5",
        ),
        (
            {"hidden_layer_sizes": True},
            TypeError,
            "hidden_layer_sizes must hold whole numbers, got True",
        ),
        (
            {"learning_rate": nbbn.schedules.CosineDecay},
            TypeError,
            r"learning_rate is the class CosineDecay; make an object",
        ),
        (
            {"early_stopping": True, "validation_fraction": 0.0},
            ValueError,
            "validation_fraction=0 leaves no rows",
        ),
    ],
    ids=str,
)
def test_values_that_are_no_use(params, error, match):
    X, y = data()
    with pytest.raises(error, match=match):
        make(**params).fit(X, y)


def test_numbers_that_are_bools():
    """True is 1, as for scikit-learn."""
    X, y = data()
    params = {"learning_rate_init": True, "epsilon": True, "alpha": True, "beta_1": False}
    assert_same_bits(
        make(**params).fit(X, y),
        make(**{name: float(value) for name, value in params.items()}).fit(X, y),
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda X, y: {"X_val": X[:, :12], "y_val": y},
            "^X_val: X has 12 features, but MLPClassifier is expecting 13",
        ),
        (lambda X, y: {"X_val": spoiled(X, np.nan), "y_val": y}, "^X_val: Input X contains NaN"),
        (
            lambda X, y: {"X_val": X, "y_val": y[:5]},
            "^y_val: Found input variables with inconsistent numbers of samples",
        ),
        (lambda X, y: {"X_val": X, "y_val": y + 1}, "^y_val: `y` has classes not in"),
        (
            lambda X, y: {"X_val": X, "y_val": y, "sample_weight_val": np.ones(3)},
            "^sample_weight_val: .*shape",
        ),
        (
            lambda X, y: {"X_val": X, "y_val": y, "sample_weight_val": 0 * y},
            "^sample_weight_val: .*zero",
        ),
    ],
    ids=["features", "nan", "length", "classes", "weights", "no weight"],
)
def test_bad_validation_data(change, match):
    X, y = data()
    with pytest.raises(ValueError, match=match):
        make().fit(X, y, **change(X, y))
    with pytest.raises(TypeError, match=r"^y_val: Input should have at least 1 dimension"):
        make().fit(X, y, X_val=X, y_val=3)


@pytest.mark.parametrize(
    "form",
    [np.asarray, scipy.sparse.csr_array, lambda X: X.astype(np.longdouble)],
    ids=["array", "sparse", "long"],
)
def test_values_too_large_for_the_computing_dtype(form):
    """1e39 is a number in float64, and infinity in float32."""
    X, y = data()
    large = form(spoiled(X, -1e39))
    fitted = make(dtype="float32").fit(X, y)
    match = (
        r"Input X contains a value too large for dtype\('float32'\), which is computed in: 1e\+39"
    )
    with pytest.raises(ValueError, match=match):
        fitted.predict(large)
    with pytest.raises(ValueError, match=match):
        make(dtype="float32").fit(large, y)
    with pytest.raises(ValueError, match=f"^X_val: {match}"):
        make(dtype="float32").fit(X, y, X_val=large, y_val=y)
    with pytest.raises(ValueError, match=match):
        make(dtype="float32").fit(X, y).recalibrate(large)
    assert np.isfinite(make().fit(X, y).predict_proba(large)).all()


def test_recalibration_needs_two_rows():
    X, y = data()
    with pytest.raises(ValueError, match="recalibrate needs at least 2 rows, got 1 sample"):
        make().fit(X, y).recalibrate(X[:1])
    make(batch_norm=False).fit(X, y).recalibrate(X[:1])


def test_labels_and_targets_of_the_wrong_kind():
    X, y = data()
    with pytest.raises(TypeError, match="y must hold numbers, got dtype <U5"):
        make("MLPRegressor").fit(X, np.array(["ash", "beech", "cedar"])[y])
    with pytest.raises(
        ValueError,
        match=r"Unknown label type: unknown\. y has dtype object and holds others than strings",
    ):
        make().fit(X, y.astype(object))
    with pytest.raises(ValueError, match="y must have 2 columns, as at the first fit; got 1"):
        make("MLPRegressor").partial_fit(X, np.column_stack([y, y])).partial_fit(X, y)
    with pytest.raises(ValueError, match="y must be an indicator matrix of 3 columns"):
        make().partial_fit(X, np.eye(3, dtype=int)[y]).partial_fit(
            X, np.eye(3, dtype=int)[y][:, :2]
        )


def test_lbfgs_ignores_what_scikit_learn_ignores():
    X, y = data()
    got = make(solver="lbfgs", early_stopping=True, learning_rate="adaptive", batch_size=1).fit(
        X, y
    )
    assert_close(got, make(solver="lbfgs").fit(X, y))
