"""Files that an earlier version wrote: they open, say what they said, and training goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

WRITTEN = Path(__file__).parent / "written"
X = np.random.default_rng(0).normal(size=(40, 4)).round(3)
LABELS = np.array(["ash", "beech", "cedar"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.3)]
TARGETS = {"mlp_classifier": LABELS, "mlp_regressor": X[:, :2], "sequential_classifier": LABELS,
           "sequential_regressor": X[:, 0], "sequential": X[:, :2]}  # fmt: skip
CLASS_WEIGHT = {"ash": 1.0, "beech": 2.5, "cedar": 0.5}
_CLASSES = [
    [0.207254, 0.160769, 0.631977], [0.183962, 0.179667, 0.636371], [0.329773, 0.097764, 0.572464],
]  # fmt: skip
OUTPUTS = {
    "mlp_classifier": _CLASSES,
    "mlp_regressor": [[1.338709, 0.842975], [2.575646, 2.216848], [0.066752, -0.538426]],
    "sequential_classifier": [[0.161871, 0.732519, 0.105609], [0.111684, 0.83062, 0.057696],
                              [0.172257, 0.718529, 0.109214]],
    "sequential_regressor": [0.085265, 0.870017, -0.430781],
    "sequential": [[-0.148945, 0.256815], [-0.836264, 1.184948], [0.017639, 0.035839]],
    "folded": _CLASSES,
}  # fmt: skip


def opened(name: str, rows=X):
    """The model, and the rows as it knows them."""
    model = nbbn.load(WRITTEN / f"{name}.safetensors")
    if hasattr(model, "feature_names_in_"):
        rows = pytest.importorskip("pandas").DataFrame(rows, columns=list("abcd"))
    return model, rows


@pytest.mark.parametrize("name", OUTPUTS)
def test_answers(name):
    model, rows = opened(name)
    outputs = model.predict_proba(rows) if hasattr(model, "classes_") else model.predict(rows)
    np.testing.assert_allclose(outputs[:3], OUTPUTS[name], atol=2e-6)
    if hasattr(model, "classes_"):
        np.testing.assert_array_equal(model.predict(rows), model.classes_[outputs.argmax(1)])


@pytest.mark.parametrize("name", TARGETS)
def test_training_goes_on(name):
    model, rows = opened(name)
    again = {"epochs": 1, "verbose": 0} if name == "sequential" else {}
    step = model.fit if name == "sequential" else model.set_params(early_stopping=False).partial_fit
    step(rows, TARGETS[name], **again)
    outputs = model.predict_proba(rows) if hasattr(model, "classes_") else model.predict(rows)
    assert np.isfinite(outputs).all() and not np.allclose(outputs[:3], OUTPUTS[name], atol=2e-6)


def test_parameters_of_an_mlp():
    model, _ = opened("mlp_classifier")
    params = model.get_params()
    assert params["n_iter_no_change"] == np.inf and params["class_weight"] == CLASS_WEIGHT
    assert params["hidden_layer_sizes"] == (3, 2) and params["batch_norm"] == ("pre", False)
    assert params["activation"] == ("relu", "tanh") and params["dropout"] == (0.1, 0.0)
    assert params["learning_rate"] == nbbn.schedules.ExponentialDecay(0.01, 3, 0.5)
    assert params["callbacks"] is None and params["early_stopping"] is True
    assert list(model.feature_names_in_) == list("abcd")
    assert list(model.classes_) == ["ash", "beech", "cedar"]
    np.testing.assert_allclose(model.loss_curve_, [1.8617469, 1.8449892, 1.8078842])
    assert model.n_iter_ == 3 and model.t_ == 90 and len(model.validation_scores_) == 3
    regressor, _ = opened("mlp_regressor")
    assert regressor.loss == "huber" and regressor.huber_delta == 0.5
    assert regressor.hidden_layer_sizes == (3,) and regressor.batch_norm == "post"
    assert regressor.learning_rate == "constant" and regressor.alpha == 0.01


def test_parameters_around_layers():
    model, _ = opened("sequential_classifier")
    assert model.class_weight == CLASS_WEIGHT and model.tol == 0.5 and model.epochs == 3
    assert model.loss == nbbn.losses.CategoricalCrossentropy(label_smoothing=0.1)
    assert model.optimizer.learning_rate == nbbn.schedules.CosineDecay(0.1, 20)
    assert model.optimizer.momentum == 0.9
    assert list(model.feature_names_in_) == list("abcd")
    assert list(model.classes_) == ["ash", "beech", "cedar"]
    np.testing.assert_allclose(model.loss_curve_, [1.0911953, 0.8861735, 0.7733943], rtol=1e-5)
    names = [type(layer).__name__ for layer in model.layers]
    assert names == ["Dense", "BatchNormalization", "ReLU"]
    regressor, _ = opened("sequential_regressor")
    assert regressor.loss == "mean_absolute_error" and regressor.optimizer == "adam"
    assert regressor.n_iter_ == 2


def test_a_checkpoint_is_resumed(tmp_path):
    path = tmp_path / "fit"
    path.write_bytes((WRITTEN / "fit.checkpoint").read_bytes())
    seen, params = [], {
        "batch_size": 16, "max_iter": 5, "random_state": 0, "dropout": 0.1, "early_stopping": True,
        "validation_fraction": 0.25, "n_iter_no_change": 9, "learning_rate_init": 0.001,
        "alpha": 0.0001,
    }  # fmt: skip
    got = nbbn.MLPClassifier((3,), checkpoint=path, **params)
    got.set_params(callbacks=lambda model, logs: seen.append(logs["epoch"])).fit(X, LABELS)
    assert seen == [3, 4, 5]
    # The figures of the whole fit, by the version that wrote the file.
    np.testing.assert_allclose(
        got.loss_curve_,
        [
            1.3110880141926013, 1.1772381294759857, 1.2229350234504703, 1.1331702813106417,
            1.0826080502440085,
        ],
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        got.predict_proba(X)[:4],
        [
            [0.23315853836822856, 0.4748046974777517, 0.29203676415401975],
            [0.25310765908197375, 0.36427352242288946, 0.3826188184951369],
            [0.20467528714452501, 0.5809809098428668, 0.21434380301260827],
            [0.17478484466761565, 0.467053755461462, 0.3581613998709224],
        ],
        rtol=1e-9,
    )
