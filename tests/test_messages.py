"""What the library says of the usual mistakes: which, the rule, what came, what to do."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import nbbn
from nbbn import layers as L
from nbbn import runtime
from nbbn.training_loop import diverged

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 4))
Y = RNG.integers(0, 3, 200)


def mlp(**given):
    return nbbn.MLPClassifier((8,), **{"max_iter": 20, "random_state": 0, **given})


def regressor(**given):
    given = {"hidden_layer_sizes": (8,), "max_iter": 20, "random_state": 0, "normalize_y": False,
             **given}
    return nbbn.MLPRegressor(**given)


def dense(rate=10.0, **given):
    model = nbbn.Sequential([L.Dense(8, "relu", input_shape=(4,)), L.Dense(1)])
    model.compile(nbbn.optimizers.SGD(rate, **given), "mse")
    return model


# -- fits that diverge


@pytest.mark.parametrize(("losses", "text"), [
    ([], ""), ([1.0], ""), ([1.0, 0.5, 0.2], ""), ([1.0, 9.9], ""), ([0.0, 1.0], ""),
    ([1.0, 0.1, 10.5], "the loss grew from 1 in the first epoch to 10.5 in the last"),
    ([2.0, np.nan, np.nan], "the loss is nan from epoch 2 of 3 on"),
    ([np.inf], "the loss is inf from epoch 1 of 1 on"),
])
def test_what_is_taken_for_divergence(losses, text):
    assert diverged(losses) == text


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(("make", "y"), [(mlp, Y), (regressor, X[:, 0])])
def test_a_diverging_estimator_says_so_once(make, y, batch_norm):
    model = make(learning_rate_init=1e9, batch_norm=batch_norm)
    with pytest.warns(ConvergenceWarning, match="Training diverged: the loss grew from 1.* to "
                                                ".*e.* in the last; lower learning_rate_init, "
                                                "scale X, or set clip_norm") as caught:
        model.fit(X, y)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert model.loss_curve_[-1] > 10 * model.loss_curve_[0]


def test_a_fit_that_goes_well_says_nothing_of_divergence():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mlp().fit(X, Y)
    assert [str(w.message)[:21] for w in caught] == ["Stochastic Optimizer:"]


def test_a_diverging_estimator_of_layers_says_so():
    layers = [L.Dense(8, "relu"), L.Dense(1)]
    model = nbbn.SequentialRegressor(layers, optimizer=nbbn.optimizers.Adam(1e3), epochs=3,
                                     batch_size=200,
                                     random_state=0)
    with pytest.warns(ConvergenceWarning, match="Training diverged: the loss grew"):
        model.fit(X, X[:, 0])


def test_a_diverging_model_says_so():
    with pytest.warns(UserWarning, match="training diverged: the loss is nan from epoch 1 of 3 on; "
                                         "lower the learning rate, scale x, or clip gradients "
                                         r"\(clipnorm\)") as caught:
        history = dense().fit(X, X[:, :1], epochs=3, verbose=0)
    assert np.isnan(history.history["loss"]).all() and caught[0].filename == __file__


def test_a_callback_that_ends_the_fit_has_said_so(capsys):
    dense().fit(X, X[:, :1], epochs=3, verbose=0, callbacks=[nbbn.callbacks.TerminateOnNaN()])
    assert ", training stops" in capsys.readouterr().out


def test_a_warning_points_at_the_line_that_calls_a_pipeline_or_a_search():
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for make in (lambda: make_pipeline(StandardScaler(), mlp(max_iter=2)),
                 lambda: GridSearchCV(mlp(max_iter=2), {"alpha": [0.1]}, cv=2)):
        with pytest.warns(ConvergenceWarning, match="Maximum iterations") as caught:
            make().fit(X, Y)
        assert {w.filename for w in caught} == {__file__}


# -- one class, one row, many threads


def test_one_class_is_said_so():
    with pytest.warns(RuntimeWarning, match="y holds one class, 'ash': predict gives it whatever"):
        model = mlp(tol=1e9, n_iter_no_change=1).fit(X, np.full(len(X), "ash"))
    assert (model.predict(-X) == "ash").all() and model.classes_.tolist() == ["ash"]
    for use in (model.fold, model.for_inference, lambda: nbbn.fold(model)):
        with pytest.raises(ValueError, match=r"fitted on one class, 'ash', .*nothing to fold or to "
                                             "write; fit it on rows of two classes"):
            use()


def test_one_row():
    with pytest.raises(ValueError, match=r"at least 2 rows to train on, got 1 sample.*; give more "
                                         "rows, or leave batch norm out"):
        mlp().fit(X[:1], Y[:1])


def test_more_threads_than_there_are(monkeypatch):
    monkeypatch.setattr(runtime, "_default", None)
    most = runtime._most()
    with pytest.warns(UserWarning, match=rf"set_num_threads\({most + 98}\): calls use {most}, as "
                                         "many as there are cores, or as .*NUMBA_NUM_THREADS") as w:
        nbbn.set_num_threads(most + 98)
    assert w[0].filename == __file__ and nbbn.get_num_threads() == most
    nbbn.set_num_threads(most)


def test_the_number_of_threads_is_known_without_a_compiler():
    code = ("import sys, nbbn; nbbn.set_num_threads(3); "
            "assert 'numba' not in sys.modules; print(nbbn.runtime._most())")
    env = {"NUMBA_NUM_THREADS": "3", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True,
                          text=True, env=env, timeout=60)
    assert (done.stdout, done.stderr) == ("3\n", "")


# -- what was meant


def test_set_params_knows_other_names():
    with pytest.raises(ValueError, match=r"^Invalid parameter 'epochs' for estimator MLPClassifier; "
                                         r"did you mean 'max_iter'\? Valid parameters are: \['act"):
        mlp().set_params(epochs=5)
    with pytest.raises(ValueError, match=r"'zzz' for estimator MLPRegressor. Valid parameters are:"):
        regressor().set_params(zzz=5)
    assert mlp().set_params(max_iter=3, alpha=1.0).get_params()["max_iter"] == 3


@pytest.mark.parametrize("model", [mlp(), nbbn.SequentialClassifier([L.Dense(3)])])
def test_validation_rows_are_given_by_name(model):
    kind = type(model).__name__
    with pytest.raises(TypeError, match=rf"^{kind}.fit\(\) takes X, y, sample_weight by position, got "
                                        "4 arguments; give the others by name: X_val, y_val"):
        model.fit(X, Y, X[:9], Y[:9])


def test_methods_know_what_is_meant():
    model = dense()
    with pytest.raises(TypeError, match=r"Sequential.fit\(\) got an .*'epoch'; did you mean 'epochs'"):
        model.fit(X, X[:, :1], epoch=3)
    with pytest.raises(TypeError, match=r"Sequential.compile\(\) got an unexpected keyword argument "
                                        "'optimiser'; did you mean 'optimizer'"):
        model.compile(optimiser="adam", loss="mse")


@pytest.mark.parametrize(("given", "words"), [
    (np.ones((2, 3)), r"Dense is called on an array; layers are called on what Input\(\.\.\.\) and "
                      r"other layers give, models on arrays"),
    (3, r"Dense is called on int; layers are called on what Input\(\.\.\.\) and other layers give: "
        r"x = Dense\(3\)\(Input\(\(4,\)\)\)"),
])
def test_a_layer_is_called_on_no_numbers(given, words):
    with pytest.raises(TypeError, match=words):
        L.Dense(3)(given)


def test_one_layer_is_no_list():
    with pytest.raises(TypeError, match=r"layers must be a list of layers, got one Dense; write "
                                        r"Sequential\(\[Dense\(\.\.\.\), \.\.\.\]\)"):
        nbbn.Sequential(L.Dense(3))


@pytest.mark.parametrize("layers", [
    [L.Conv2D(3, 3, input_shape=(1, 28, 28))],
    [L.Conv2D(3, 3, input_shape=(1, 28, 28), padding="same"), L.MaxPooling2D()],
])
def test_channels_first(layers):
    with pytest.raises(L.LayerError, match=r"rows of shape \(1, 28, 28\) look like images with "
                                           r"their channels first: .* last, \(28, 28, 1\), as "
                                           r"x.transpose\(0, 2, 3, 1\)"):
        nbbn.Sequential(layers)


def test_small_images_with_channels_last_are_no_suspects():
    with pytest.raises(L.LayerError, match=r"use padding='same'$"):
        nbbn.Sequential([L.Conv2D(3, 5, input_shape=(3, 4, 2))])


def test_fold_of_a_namesake_names_its_module():
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((3,), max_iter=200, tol=1.0).fit(X, Y)
    with pytest.raises(TypeError, match=r"got sklearn's MLPClassifier; fit nbbn.MLPClassifier, which "
                                        "takes the same arguments"):
        nbbn.fold(model)
    with pytest.raises(TypeError, match="got str; open the file first"):
        nbbn.fold("model.safetensors")
    with pytest.raises(TypeError, match="got GridSearchCV; of a pipeline or search"):
        from sklearn.model_selection import GridSearchCV

        nbbn.fold(GridSearchCV(mlp(), {}))


# -- what is shown


def test_show_config_is_not_shown_twice(capsys):
    text = nbbn.show_config()
    assert capsys.readouterr().out == f"{text}\n" and text.startswith("nbbn ")
    assert repr(text) == "<the lines above>"
    text._ipython_display_()
    assert capsys.readouterr().out == ""
