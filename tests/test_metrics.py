"""Metrics by hand, in pieces and whole, in fits, and beside Keras where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn import metrics as M

RNG = np.random.default_rng(6)
P = RNG.dirichlet(np.ones(4), 50)
LABELS = RNG.integers(0, 4, 50)
ONE_HOT = np.eye(4)[LABELS]
BITS = RNG.integers(0, 2, (50, 4)).astype(float)
Y = RNG.normal(size=(50, 4))
IDS = RNG.integers(0, 4, 50)
METRICS = {
    "Accuracy": ({}, LABELS[:, None], IDS[:, None]),
    "BinaryAccuracy": ({"threshold": 0.3}, BITS, P),
    "CategoricalAccuracy": ({}, ONE_HOT, P),
    "SparseCategoricalAccuracy": ({}, LABELS, P),
    "TopKCategoricalAccuracy": ({"k": 2}, ONE_HOT, P),
    "SparseTopKCategoricalAccuracy": ({"k": 2}, LABELS, P),
    "MeanSquaredError": ({}, Y[::-1], Y),
    "RootMeanSquaredError": ({}, Y[::-1], Y),
    "MeanAbsoluteError": ({}, Y[::-1], Y),
    "MeanAbsolutePercentageError": ({}, Y[::-1], Y),
    "MeanSquaredLogarithmicError": ({}, BITS, np.abs(Y)),
    "LogCoshError": ({}, Y[::-1], Y),
    "Hinge": ({}, BITS, Y),
    "SquaredHinge": ({}, BITS, Y),
    "CategoricalHinge": ({}, ONE_HOT, Y),
    "KLDivergence": ({}, P[::-1], P),
    "Poisson": ({}, BITS, P),
    "CosineSimilarity": ({}, Y[::-1], Y),
    "BinaryCrossentropy": ({"label_smoothing": 0.1}, BITS, P),
    "BinaryCrossentropy logits": ({"from_logits": True}, BITS, Y),
    "CategoricalCrossentropy": ({"label_smoothing": 0.1}, ONE_HOT, P),
    "SparseCategoricalCrossentropy": ({"from_logits": True}, LABELS, Y),
    "PearsonCorrelation": ({}, Y[::-1], Y),
    "ConcordanceCorrelation": ({}, Y[::-1], Y),
    "TruePositives": ({"thresholds": [0.2, 0.5]}, BITS, P),
    "FalsePositives": ({}, BITS, P),
    "TrueNegatives": ({"thresholds": 0.3}, BITS, P),
    "FalseNegatives": ({}, BITS, P),
    "Precision": ({}, BITS, P),
    "Precision thresholds": ({"thresholds": [0.6, 0.1, 0.3]}, BITS, P),
    "Precision top": ({"top_k": 2}, BITS, P),
    "Recall": ({"class_id": 2, "thresholds": 0.2}, BITS, P),
    "Recall top": ({"top_k": 2, "class_id": 1}, BITS, P),
    "AUC": ({}, BITS, P),
    "AUC few": ({"num_thresholds": 7, "summation_method": "majoring"}, BITS, P),
    "AUC pr": ({"curve": "PR"}, BITS, P),
    "AUC pr minoring": ({"curve": "PR", "summation_method": "minoring"}, BITS, P),
    "AUC by label": ({"multi_label": True, "label_weights": [1.0, 2.0, 3.0, 4.0]}, BITS, P),
    "AUC thresholds": ({"thresholds": [0.2, 0.3, 0.7]}, BITS, P),
    "AUC logits": ({"from_logits": True}, BITS, Y),
    "SensitivityAtSpecificity": ({"specificity": 0.7}, BITS, P),
    "SpecificityAtSensitivity": ({"sensitivity": 0.7, "num_thresholds": 30}, BITS, P),
    "PrecisionAtRecall": ({"recall": 0.6}, BITS, P),
    "RecallAtPrecision": ({"precision": 0.5, "class_id": 1}, BITS, P),
    "F1Score": ({}, ONE_HOT, P),
    "F1Score macro": ({"average": "macro", "threshold": 0.3}, BITS, P),
    "FBetaScore": ({"average": "weighted", "beta": 2.0, "threshold": 0.3}, BITS, P),
    "FBetaScore micro": ({"average": "micro", "beta": 0.5}, ONE_HOT, P),
    "R2Score": ({}, Y[::-1], Y),
    "R2Score each": ({"class_aggregation": None}, Y[::-1], Y),
    "R2Score adjusted": (
        {"class_aggregation": "variance_weighted_average", "num_regressors": 3}, Y[::-1], Y),
    "IoU": ({"num_classes": 4, "target_class_ids": [0, 2]}, LABELS, IDS),
    "MeanIoU": ({"num_classes": 4, "ignore_class": 3}, LABELS, IDS),
    "MeanIoU outputs": ({"num_classes": 4, "sparse_y_pred": False}, LABELS, P),
    "OneHotIoU": ({"num_classes": 4, "target_class_ids": [1]}, ONE_HOT, P),
    "OneHotMeanIoU": ({"num_classes": 4}, ONE_HOT, P),
    "BinaryIoU": ({"threshold": 0.3}, BITS, P),
}
each = pytest.mark.parametrize("name", METRICS)


def made(name, library=M):
    return getattr(library, name.split()[0])(**METRICS[name][0])


@each
def test_rows_in_pieces_are_the_same(name):
    _, t, y = METRICS[name]
    whole, pieces, w = made(name), made(name), np.ones(50)
    expected = np.asarray(whole(t, y))
    for part in (slice(0, 7), slice(7, 31), slice(31, 50)):
        pieces.update_state(t[part], y[part])
    np.testing.assert_allclose(pieces.result(), expected, rtol=1e-12)
    np.testing.assert_allclose(whole.measured(t, y), expected, rtol=1e-12)
    whole.reset_state()
    np.testing.assert_allclose(whole(t, y, sample_weight=w), expected, rtol=1e-12)
    twice = np.where(np.arange(50) < 20, 2, 1)  # a weight of 2 is a row given twice
    other = made(name)
    again = np.repeat(np.arange(50), twice)
    whole.reset_state()
    if name != "R2Score adjusted":
        np.testing.assert_allclose(whole(t, y, sample_weight=twice), other(t[again], y[again]),
                                   rtol=1e-9)


BY_HAND = [
    (M.Precision(), [[1], [0], [0]], [[0.9], [0.8], [0.1]], 0.5),
    (M.Precision(thresholds=[0.5, 0.85]), [[1], [0], [0]], [[0.9], [0.8], [0.1]], [0.5, 1.0]),
    (M.Recall(top_k=1), [[1, 1, 0], [0, 1, 0]], [[3, 2, 1], [1, 3, 2]], 2 / 3),
    (M.AUC(), [0, 0, 1, 1], [0.1, 0.4, 0.3, 0.8], 0.75),
    (M.AUC(num_thresholds=3), [0, 0, 1, 1], [0, 0.5, 0.3, 0.9], 0.75),
    (M.AUC(num_thresholds=3, curve="PR", summation_method="interpolation"),
     [0, 0, 1, 1], [0, 0.5, 0.3, 0.9], 0.5 + (1 + 2 / 3 * np.log(4)) / 6),
    (M.F1Score("micro", threshold=0.5), [[1, 1], [0, 1]], [[0.9, 0.2], [0.8, 0.7]], 2 / 3),
    (M.F1Score(threshold=0.5), [[1, 1], [0, 1]], [[0.9, 0.2], [0.8, 0.7]], [2 / 3, 2 / 3]),
    (M.R2Score(), [[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.0]], 0.5),
    (M.MeanIoU(num_classes=2), [0, 0, 1, 1], [0, 1, 0, 1], 1 / 3),
    (M.BinaryIoU(), [0, 1, 0, 1], [0.1, 0.2, 0.4, 0.7], (2 / 3 + 1 / 2) / 2),
    (M.TrueNegatives(), [[1], [0], [0]], [[0.9], [0.8], [0.1]], 1),
    (M.SensitivityAtSpecificity(0.5), [0, 0, 1, 1], [0, 0.5, 0.3, 0.8], 1),
    (M.CosineSimilarity(), [[0, 1], [1, 1]], [[1, 0], [1, 1]], 0.5),
    (M.TopKCategoricalAccuracy(k=1), [[0, 0, 1], [0, 1, 0]], [[1, 2, 9], [0.1, 0.9, 0]], 1),
]


@pytest.mark.parametrize("metric, t, y, value", BY_HAND, ids=[m.name for m, *_ in BY_HAND])
def test_by_hand(metric, t, y, value):
    metric.reset_state()
    np.testing.assert_allclose(metric(np.array(t), np.array(y)), value, atol=1e-4)


def test_mean_and_sum():
    mean, total = M.Mean(name="loss"), M.Sum()
    assert mean.result() == 0
    for x in (1.0, 2.0, 6.0):
        mean(x)
        total.update_state([x, x])
    assert mean.result() == 3 and mean.result().numpy() == 3 and total.result() == 18
    mean.reset_state()
    mean.update_state([1.0, 2.0], sample_weight=[3.0, 1.0])
    assert mean.result() == 1.25 and mean.name == "loss"


class Largest(M.Metric):
    """As Keras's programs have them."""

    def __init__(self, name="largest", **more):
        super().__init__(name=name, **more)
        self.found = self.add_weight(name="found", initializer="zeros")
        self.calls = self.add_weight(shape=(2,), name="calls")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.found.assign(np.maximum(self.found, np.abs(y_pred - y_true).max()))
        self.calls.assign_add([1, 1])

    def result(self):
        return self.found


def error(y_true, y_pred):
    return np.abs(y_true - y_pred).mean(-1)


def total_error(y_true, y_pred):
    return np.abs(y_true - y_pred).mean()


def test_metrics_of_ones_own_in_a_fit():
    model = nbbn.Sequential([L.Dense(4, input_shape=(4,))])
    model.compile("sgd", "mse", metrics=[error, total_error, Largest(), "mae", "r2_score", "logcosh",
                                         M.mean_squared_error])
    history = model.fit(Y, Y[::-1], epochs=2, verbose=2, validation_data=(Y, P)).history
    assert list(history)[:8] == ["loss", "error", "total_error", "largest", "mae", "r2_score",
                                 "logcosh", "mean_squared_error"]
    np.testing.assert_allclose(history["error"], history["mae"], rtol=1e-6)
    found = model.predict(Y, verbose=0)
    assert history["val_largest"][-1] == pytest.approx(np.abs(found - P).max())
    # A number for all rows of a batch counts once, however many rows there are: 32, 18.
    errors = [total_error(P[part], found[part]) for part in (slice(0, 32), slice(32, 50))]
    assert history["val_total_error"][-1] == pytest.approx(np.mean(errors))


def outputs_before_each_step(model, x, y, size):
    """What a model gives for batches in turn, each before it is trained on."""
    found = []
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        found.append(model.predict(x[part], verbose=0))
        model.train_on_batch(x[part], y[part])
    return found


def test_figures_of_an_epoch_are_of_the_outputs_that_training_had():
    def make():
        nbbn.set_random_seed(0)
        model = nbbn.Sequential([L.Dense(4, input_shape=(4,), dtype="float64")])
        model.compile(nbbn.optimizers.SGD(0.3), "mse", metrics=[Largest(), total_error, "r2_score"])
        return model

    targets = Y[::-1]
    history = make().fit(Y, targets, batch_size=20, shuffle=False, verbose=0).history
    found = outputs_before_each_step(make(), Y, targets, 20)
    errors = [np.abs(own - targets[20 * k : 20 * k + 20]) for k, own in enumerate(found)]
    assert history["largest"] == [pytest.approx(max(own.max() for own in errors))]
    assert history["total_error"] == [pytest.approx(np.mean([own.mean() for own in errors]))]
    assert history["r2_score"] == [pytest.approx(M.R2Score()(targets, np.concatenate(found)))]
    after = make().train_on_batch(Y, targets, return_dict=True)
    first = make().predict(Y, verbose=0)
    assert after["largest"] == pytest.approx(np.abs(first - targets).max())


@pytest.mark.parametrize("loss, end", [
    ("categorical_crossentropy", "softmax"), ("binary_crossentropy", "sigmoid"), ("mse", "tanh"),
])
@pytest.mark.parametrize("pixels", [False, True])
def test_kept_outputs_are_those_behind_the_last_activation(loss, end, pixels):
    """With dropout and batch norm before it, of rows and of pixels, whole batches of one epoch."""
    nbbn.set_random_seed(0)
    if pixels:
        x, first = RNG.normal(size=(12, 3, 3, 2)), L.Conv2D(5, 1, input_shape=(3, 3, 2))
        y = np.eye(4)[RNG.integers(0, 4, (12, 3, 3))]
    else:
        x, y, first = Y, ONE_HOT, L.Dense(5, input_shape=(4,))
    last = L.Conv2D(4, 1, activation=end) if pixels else L.Dense(4, activation=end)
    model = nbbn.Sequential([first, L.BatchNormalization(), L.ReLU(), last])
    model.compile(nbbn.optimizers.SGD(0.0), loss, metrics=["mae"])
    found = np.asarray(model(x, training=True))
    got = model.fit(x, y, batch_size=len(x), verbose=0).history["mae"]
    assert got == [pytest.approx(np.abs(found - y).mean(), rel=1e-5)]
    assert model.train_on_batch(x, y)[1] == pytest.approx(got[0], rel=1e-5)


def test_kept_outputs_of_several_outputs():
    nbbn.set_random_seed(0)
    x = L.Input((4,))
    hidden = L.Dense(6, activation="relu")(x)
    model = nbbn.Model(x, [L.Dense(4, activation="softmax", name="a")(hidden),
                           L.Dense(4, name="b")(hidden)])
    model.compile(nbbn.optimizers.SGD(0.0), ["categorical_crossentropy", "mse"],
                  metrics=[["accuracy", "mae"], ["mae", total_error]])
    history = model.fit(Y, [ONE_HOT, P], batch_size=50, verbose=0).history
    a, b = model.predict(Y, verbose=0)
    assert history["a_accuracy"] == [pytest.approx((a.argmax(1) == LABELS).mean())]
    assert history["a_mae"] == [pytest.approx(np.abs(a - ONE_HOT).mean())]
    assert history["b_mae"] == [pytest.approx(np.abs(b - P).mean())]
    assert history["b_total_error"] == [pytest.approx(history["b_mae"][0])]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras's
def test_figures_are_keras_figures():
    """Of training, validation and evaluation; of built-in metrics and of one's own."""
    keras = pytest.importorskip("keras")
    x, one_hot = RNG.normal(size=(75, 5)).astype("float32"), np.eye(3)[RNG.integers(0, 3, 75)]

    def figures(lib, own, weights):
        layers, names = lib.layers, lib.metrics
        model = lib.Sequential([
            layers.Dense(6, name="one"), layers.BatchNormalization(momentum=0.9),
            layers.Activation("relu"), layers.Dense(3, activation="softmax")])
        model.build((None, 5))
        model.set_weights(weights or model.get_weights())
        weights = model.get_weights()
        model.compile(lib.optimizers.SGD(0.1), "categorical_crossentropy", metrics=[
            own, names.AUC(name="auc"), names.F1Score(name="f1"), names.R2Score(name="r2"),
            names.MeanAbsoluteError(name="mae"), names.CategoricalAccuracy(name="acc")])
        history = model.fit(x, one_hot, batch_size=32, epochs=2, shuffle=False, verbose=0,
                            validation_data=(x, one_hot)).history
        measured = model.evaluate(x, one_hot, batch_size=20, verbose=0, return_dict=True)
        step = model.train_on_batch(x, one_hot, return_dict=True)
        return weights, {**history, **{f"evaluated {k}": v for k, v in measured.items()},
                         **{f"stepped {k}": v for k, v in step.items()}}

    def mean_error(y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred))

    def total(y_true, y_pred):
        return total_error(y_true, y_pred)

    total.__name__ = "mean_error"
    weights, ref = figures(keras, mean_error, None)
    _, got = figures(nbbn, total, weights)
    assert set(got) == set(ref)
    for name, values in ref.items():
        np.testing.assert_allclose(np.array(got[name]), np.array(values), rtol=2e-4, atol=2e-5,
                                   err_msg=name)


def test_a_number_for_each_class_in_a_fit(capsys):
    model = nbbn.Sequential([L.Dense(4, activation="softmax", input_shape=(4,))])
    model.compile("sgd", "categorical_crossentropy", metrics=[M.F1Score(), "accuracy"])
    history = model.fit(Y, ONE_HOT, epochs=2, verbose=2).history
    assert history["f1_score"][-1].shape == (4,)
    ref = M.F1Score()(ONE_HOT, model.predict(Y, verbose=0))
    np.testing.assert_array_equal(model.evaluate(Y, ONE_HOT, verbose=0)[1], ref)
    assert "f1_score" in capsys.readouterr().out


def test_overlap_of_pixels_in_a_fit():
    x, t = RNG.normal(size=(6, 3, 3, 2)), RNG.integers(0, 4, (6, 3, 3))
    model = nbbn.Sequential([L.Conv2D(4, 1, activation="softmax", input_shape=(3, 3, 2))])
    model.compile("sgd", "sparse_categorical_crossentropy",
                  metrics=[M.MeanIoU(4, sparse_y_pred=False, name="iou"), "accuracy"])
    model.fit(x, t, verbose=0)
    found = model.predict(x, verbose=0).argmax(-1)
    shares = [((found == k) & (t == k)).sum() / max(1, ((found == k) | (t == k)).sum())
              for k in range(4)]
    _, iou, accuracy = model.evaluate(x, t, verbose=0)
    there = [(found == k).any() or (t == k).any() for k in range(4)]
    assert iou == pytest.approx(sum(shares) / sum(there), rel=1e-6)
    assert accuracy == pytest.approx((found == t).mean())


REFUSED = {
    "curve": (lambda: M.AUC(curve="DET"), ValueError, "curve must be one of ROC, PR"),
    "thresholds": (lambda: M.Precision(thresholds=2), ValueError, r"thresholds must lie in \[0, 1\]"),
    "average": (lambda: M.F1Score("mean"), ValueError, "average must be None, 'micro'"),
    "class": (lambda: M.IoU(2, [2]), ValueError, "target_class_ids must lie in 0 to 1"),
    "level": (lambda: M.PrecisionAtRecall(2), ValueError, r"recall must be a number in \[0, 1\]"),
    "exact": (lambda: M.AUC(num_thresholds=None, curve="PR"), ValueError, "exact area under one"),
    "function": (lambda: M.MeanMetricWrapper(3), TypeError, "fn must be a function"),
    "shapes": (lambda: M.MeanSquaredError()(Y, P[:, :3]), ValueError, "of one shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


@each
def test_is_keras_s(name):
    keras = pytest.importorskip("keras")
    _, t, y = METRICS[name]
    ref, got = made(name, keras.metrics), made(name)
    for w in (None, RNG.integers(1, 4, 50)):
        if w is not None and name in ("AUC by label", "BinaryIoU"):  # Keras takes none there
            continue
        t32, y32 = t.astype("float32"), y.astype("float32") if y.dtype.kind == "f" else y
        ref.update_state(t32, y32, sample_weight=w)
        got.update_state(t32, y32, sample_weight=w)
        np.testing.assert_allclose(np.asarray(got.result()), np.asarray(ref.result()), rtol=2e-5,
                                   atol=1e-6)
