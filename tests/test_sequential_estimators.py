"""SequentialClassifier and SequentialRegressor.

Scikit-learn's contract around any list of layers.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import (
    make_classification,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import nbbn
from nbbn import layers as L


def convolutions(**first):
    return [
        L.Conv2D(8, 3, use_bias=False, **first), L.BatchNormalization(momentum=0.9), L.ReLU(),
        L.MaxPooling2D(), L.Flatten(), L.Dense(32), L.BatchNormalization(momentum=0.9),
        L.Activation("relu"),
    ]


def dense(units=16):
    return [L.Dense(units), L.BatchNormalization(momentum=0.9), L.Activation("relu")]


def classifier(layers=None, **params):
    return nbbn.SequentialClassifier(
        dense() if layers is None else layers, **{"epochs": 3, "random_state": 0, **params}
    )


def regressor(layers=None, **params):
    return nbbn.SequentialRegressor(
        dense() if layers is None else layers, **{"epochs": 3, "random_state": 0, **params}
    )


@pytest.fixture(scope="module")
def data():
    return make_classification(300, 8, n_informative=6, n_classes=3, class_sep=2.0, random_state=0)


@pytest.fixture(scope="module")
def numbers():
    X, y = make_regression(400, 6, n_targets=2, random_state=0)
    return X, y / y.std(axis=0)


@parametrize_with_checks(
    [
        nbbn.SequentialClassifier(
            dense(20), epochs=40, batch_size=64, optimizer=nbbn.optimizers.Adam(0.02),
            random_state=0,
        ),
        nbbn.SequentialRegressor(
            dense(20), epochs=60, batch_size=64, optimizer=nbbn.optimizers.Adam(0.02),
            random_state=0,
        ),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# Values


def test_digits_as_images_and_as_rows(digits):
    X, y = digits
    images = X.reshape(-1, 8, 8, 1)
    of_images = classifier(convolutions(), epochs=15).fit(images[:1200], y[:1200])
    of_rows = classifier(convolutions(input_shape=(8, 8, 1)), epochs=15).fit(X[:1200], y[:1200])
    of_input = classifier([L.Input((8, 8, 1)), *convolutions()], epochs=15).fit(X[:1200], y[:1200])
    assert of_images.score(images[1200:], y[1200:]) > 0.9  # the last third is by other writers
    for other in (of_rows, of_input):
        np.testing.assert_array_equal(other.predict_proba(X), of_images.predict_proba(images))
        assert other.n_features_in_ == of_images.n_features_in_ == 64
    # Rows in either form, once fitted; a channel axis of length 1 may be left out.
    np.testing.assert_array_equal(of_rows.predict(images), of_images.predict(X))
    np.testing.assert_array_equal(of_rows.predict(X), of_images.predict(X.reshape(-1, 8, 8)))


def test_attributes_and_probabilities(data):
    X, y = data
    model = classifier(validation_fraction=0.2).fit(X, y)
    assert list(model.history_) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert (
        model.loss_curve_ == model.history_["loss"] and len(model.loss_curve_) == model.n_iter_ == 3
    )
    np.testing.assert_array_equal(model.classes_, [0, 1, 2])
    assert [layer.__class__.__name__ for layer in model.model_.layers] == [
        "Dense", "BatchNormalization", "Activation", "Dense"
    ]  # fmt: skip
    p = model.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(p, model.model_.predict(X))
    np.testing.assert_array_equal(model.predict_log_proba(X), np.log(p))
    np.testing.assert_array_equal(model.predict(X), p.argmax(1))
    assert model.score(X, y) == np.mean(model.predict(X) == y)


def test_equals_sequential(data):
    """The estimator adds an output layer, a loss and labels, and nothing else."""
    X, y = data
    got = classifier().fit(X, y)
    ref = nbbn.Sequential([*dense(), L.Dense(3, activation="softmax", dtype="float64")])
    ref._layers.seed = got.model_._layers.seed
    ref.compile("adam", "sparse_categorical_crossentropy")
    history = ref.fit(X, y, batch_size=32, epochs=3, verbose=0).history
    np.testing.assert_array_equal(got.predict_proba(X), ref.predict(X))
    assert got.loss_curve_ == history["loss"]


def test_regression(numbers):
    X, y = numbers
    both = regressor(epochs=60).fit(X, y)
    assert both.score(X, y) > 0.95 and both.predict(X).shape == (400, 2) and both.n_outputs_ == 2
    assert both.predict(X).dtype == np.float64
    one = regressor(epochs=60, loss="huber").fit(X, y[:, 0])
    assert one.score(X, y[:, 0]) > 0.95 and one.predict(X).shape == (400,)


def test_no_layers_is_a_linear_model(numbers):
    X, y = numbers
    model = regressor([], epochs=200, optimizer=nbbn.optimizers.Adam(0.05)).fit(X, y)
    ref = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y, rcond=None)[0]
    np.testing.assert_allclose(np.vstack(model.model_.get_weights()), ref, atol=1e-3)


@pytest.mark.parametrize("kind", ["str", "object", "bool", "int8", "float"])
def test_labels_of_any_kind(data, kind):
    X, y = data
    labels = {
        "str": np.array(["a", "bb", "ccc"])[y], "object": np.array(["a", "bb", "ccc"], object)[y],
        "bool": y == 1, "int8": (y * 7 - 3).astype(np.int8), "float": y + 4.0,
    }[kind]
    model = classifier(epochs=20).fit(X, labels)
    predicted = model.predict(X)
    assert predicted.dtype == labels.dtype == model.classes_.dtype
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    assert model.score(X, labels) > 0.85
    np.testing.assert_array_equal(model.fold().predict(X), predicted)


# The output layer


def test_an_output_layer_that_is_there_is_used(data, numbers):
    X, y = data
    added = classifier().fit(X, y)
    for end in ([L.Dense(3, activation="softmax")], [L.Dense(3), L.Softmax()]):
        given = classifier([*dense(), *end]).fit(X, y)
        np.testing.assert_allclose(given.predict_proba(X), added.predict_proba(X), rtol=1e-9)
    X, y = numbers
    layers = [*dense(), L.Dense(2)]
    assert len(regressor(layers).fit(X, y).model_.layers) == 4
    assert len(regressor(layers).fit(X, y[:, 0]).model_.layers) == 5
    assert len(regressor([L.Dense(2), L.BatchNormalization()]).fit(X, y).model_.layers) == 3


def test_two_classes(data):
    X, y = data[0], data[1] > 0
    softmax = classifier(epochs=20).fit(X, y)
    assert softmax.model_.output_shape == (None, 2)
    one = classifier([*dense(), L.Dense(1, activation="sigmoid")], epochs=20).fit(X, y)
    added = classifier(loss="binary_crossentropy", epochs=20).fit(X, y)
    assert one.model_.output_shape == added.model_.output_shape == (None, 1)
    np.testing.assert_array_equal(one.predict_proba(X), added.predict_proba(X))
    for model in (softmax, one):
        p = model.predict_proba(X)
        assert p.shape == (300, 2) and model.score(X, y) > 0.85
        np.testing.assert_array_equal(model.predict(X), p[:, 1] > 0.5)
        np.testing.assert_array_equal(model.fold().predict(X), model.predict(X))


def test_categorical_loss_and_smoothing(data):
    X, y = data
    sparse, dense_ = classifier().fit(X, y), classifier(loss="categorical_crossentropy").fit(X, y)
    np.testing.assert_allclose(dense_.predict_proba(X), sparse.predict_proba(X), rtol=1e-6)
    smooth = classifier(
        loss=nbbn.losses.CategoricalCrossentropy(label_smoothing=0.3), epochs=40
    ).fit(X, y)
    assert smooth.predict_proba(X).max() < classifier(epochs=40).fit(X, y).predict_proba(X).max()


def test_the_output_layer_that_cannot_be(data, numbers):
    X, y = data
    with pytest.raises(
        ValueError,
        match=r"layers end with softmax of 5 outputs, but y has 3 classes, .* need softmax of 3",
    ):
        classifier([L.Dense(5, activation="softmax")]).fit(X, y)
    with pytest.raises(
        ValueError, match=r"layers end with sigmoid of 1 outputs, but y has 3 classes"
    ):
        classifier([L.Dense(1, activation="sigmoid")]).fit(X, y)
    with pytest.raises(ValueError, match=r"layers end with rows of shape \(6, 6, 4\).*Flatten\(\)"):
        classifier([L.Conv2D(4, 3, input_shape=(8, 8, 1))]).fit(
            np.random.default_rng(0).random((9, 64)), np.arange(9) % 3
        )
    with pytest.raises(ValueError, match="'binary_crossentropy' is for 2 classes, y has 3"):
        classifier(loss="binary_crossentropy").fit(X, y)
    with pytest.raises(ValueError, match=r"loss 'mean_squared_error' is for regression"):
        classifier(loss="mse").fit(X, y)
    with pytest.raises(ValueError, match="use from_logits=False"):
        classifier(loss=nbbn.losses.SparseCategoricalCrossentropy(from_logits=True)).fit(X, y)
    with pytest.raises(ValueError, match="'categorical_crossentropy' is for classification"):
        regressor(loss="categorical_crossentropy").fit(*numbers)


# The life of an estimator


def test_parameters_and_clone():
    layers = dense()
    model = classifier(layers, batch_size=7)
    assert model.layers is layers and model.get_params()["batch_size"] == 7
    copied = clone(model)
    assert copied.layers == layers and copied.layers is not layers
    callback = nbbn.callbacks.TerminateOnNaN()
    assert clone(classifier(callbacks=[callback])).callbacks[0] is callback
    with pytest.raises(TypeError):
        nbbn.SequentialClassifier(layers, None)


def test_a_fit_leaves_the_parameters_as_they_were(data):
    layers, optimizer = dense(), nbbn.optimizers.Adam(0.01)
    lower = nbbn.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model = classifier(layers, optimizer=optimizer, callbacks=lower).fit(*data)
    assert model.layers is layers and layers == dense()
    assert model.optimizer is optimizer and optimizer.learning_rate == 0.01
    assert model.model_.learning_rate == pytest.approx(0.01 / 8)


def test_layers_of_another_model_are_specifications(data):
    X, y = data
    source = nbbn.Sequential(dense())
    source.build((None, 8))
    got, ref = classifier(source.layers).fit(X, y), classifier().fit(X, y)
    np.testing.assert_array_equal(got.predict_proba(X), ref.predict_proba(X))


def test_same_seed_same_bits(data):
    X, y = data
    layers = [*dense(), L.Dropout(0.3)]
    params = {"validation_fraction": 0.2}
    ref = classifier(layers, **params).fit(X, y)
    for n_jobs in (1, 2):
        got = classifier(layers, n_jobs=n_jobs, **params).fit(X, y)
        np.testing.assert_array_equal(got.predict_proba(X), ref.predict_proba(X))
        assert got.history_ == ref.history_
    other = classifier(layers, random_state=1, **params).fit(X, y)
    assert (other.predict_proba(X) != ref.predict_proba(X)).any()


def test_pipeline_and_grid_search(data):
    X, y = data
    labels = np.array(["a", "b", "c"])[y]
    pipe = make_pipeline(
        StandardScaler(), classifier(epochs=10, optimizer=nbbn.optimizers.Adam(0.02))
    )
    assert cross_val_score(pipe, X, labels, cv=3).min() > 0.8
    search = GridSearchCV(pipe, {"sequentialclassifier__batch_size": [16, 64]}, cv=2, n_jobs=2).fit(
        X, labels
    )
    assert (
        np.isfinite(search.cv_results_["mean_test_score"]).all() and search.score(X, labels) > 0.85
    )
    serial = GridSearchCV(pipe, {"sequentialclassifier__batch_size": [16, 64]}, cv=2).fit(X, labels)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )


def test_grid_search_over_layers(data):
    search = GridSearchCV(classifier(epochs=8), {"layers": [[], dense(4), dense(32)]}, cv=2).fit(
        *data
    )
    assert search.best_params_["layers"] in ([], dense(4), dense(32))


def test_pickle(data):
    X, y = data
    model = classifier(epochs=2).fit(X, y)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    for each in (copied, model):
        each.partial_fit(X, y)
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))


def test_partial_fit_and_warm_start_go_on(data):
    X, y = data
    ref = classifier(epochs=4).fit(X, y)
    warm = classifier(epochs=2, warm_start=True).fit(X, y).fit(X, y)
    part = classifier()
    for _ in range(4):
        part.partial_fit(X, y, classes=[0, 1, 2])
    for got in (warm, part):
        np.testing.assert_array_equal(got.predict_proba(X), ref.predict_proba(X))
        assert got.loss_curve_ == ref.loss_curve_ and got.n_iter_ == 4
    assert classifier(epochs=2).fit(X, y).fit(X, y).n_iter_ == 2
    few = classifier().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    assert few.predict_proba(X).shape == (300, 3)
    both = regressor().partial_fit(X, X[:, :2]).partial_fit(X, X[:, :2])
    np.testing.assert_array_equal(both.predict(X), regressor(epochs=2).fit(X, X[:, :2]).predict(X))


def test_sample_weight(data):
    X, y = data
    ref = classifier().fit(X, y)
    ones = classifier().fit(X, y, sample_weight=np.ones(300))
    np.testing.assert_allclose(ones.predict_proba(X), ref.predict_proba(X), rtol=1e-9)
    heavy = classifier(epochs=10).fit(X, y, np.where(y == 2, 20.0, 1.0))
    assert (heavy.predict(X) == 2).mean() > (ref.predict(X) == 2).mean()
    by_class = classifier(epochs=10, class_weight={2: 20.0}).fit(X, y)
    np.testing.assert_array_equal(by_class.predict_proba(X), heavy.predict_proba(X))
    # Rows of weight 0 teach nothing where no batch statistics are taken.
    wrong = np.where(np.arange(300) < 30, 2 - y, y)
    weights = np.where(np.arange(300) < 30, 0.0, 1.0)
    plain = [L.Dense(8, activation="relu")]
    got, same = (classifier(plain).fit(X, labels, weights) for labels in (wrong, y))
    np.testing.assert_array_equal(got.predict_proba(X), same.predict_proba(X))


def test_balanced_classes_are_named_by_label(data):
    X, y = data
    keep = (y > 0) | (np.arange(300) % 10 == 0)
    X, y = X[keep], np.array(["c", "a", "b"])[y[keep]]
    balanced = classifier(class_weight="balanced").fit(X, y)
    counts = {label: (y == label).sum() for label in "abc"}
    by_hand = classifier().fit(X, y, [len(y) / (3 * counts[label]) for label in y])
    np.testing.assert_array_equal(balanced.predict_proba(X), by_hand.predict_proba(X))


def test_validation_and_early_stopping(data):
    X, y = data
    model = classifier(
        epochs=200, early_stopping=True, n_iter_no_change=3, optimizer=nbbn.optimizers.Adam(0.05)
    )
    model.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    losses = model.history_["val_loss"]
    assert len(losses) == model.n_iter_ < 200
    assert log_loss(y[200:], model.predict_proba(X[200:])) == pytest.approx(min(losses), abs=2e-3)
    held = classifier(
        epochs=200, early_stopping=True, validation_fraction=0.2, n_iter_no_change=3
    ).fit(X, y)
    assert "val_accuracy" in held.history_


def test_dtypes(data):
    X, y = data
    assert classifier().fit(X, y).predict_proba(X).dtype == np.float64
    assert classifier().fit(X.astype(np.float32), y).predict_proba(X).dtype == np.float32
    assert classifier(dtype="float32").fit(X, y).predict_proba(X).dtype == np.float32
    own = [L.Dense(4, dtype="float32"), L.ReLU()]
    assert classifier(own).fit(X, y).predict_proba(X).dtype == np.float32
    with pytest.raises(ValueError, match="dtype='float64', but the layers say dtype='float32'"):
        classifier(own, dtype="float64").fit(X, y)


def test_images_of_uint8(digits):
    X, y = digits
    images = (X * 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    model = classifier([L.BatchNormalization(), *convolutions()], dtype="float32").fit(images, y)
    assert model.score(images, y) > 0.9


def test_names_of_features(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame(X, columns=[f"x{i}" for i in range(8)])
    model = classifier().fit(frame, y)
    assert list(model.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(model.predict(frame), classifier().fit(X, y).predict(X))


# Folding, exact statistics


def test_fold(digits):
    X, y = digits
    labels = np.array(list("abcdefghij"))[y]
    of_rows = classifier(convolutions(input_shape=(8, 8, 1))).fit(X, labels)
    folded = of_rows.fold(check=X, strict=True)
    assert not any(isinstance(layer, L.BatchNormalization) for layer in folded.network.layers)
    assert folded.kind == "classifier" and list(folded.classes_) == list("abcdefghij")
    np.testing.assert_allclose(
        folded.predict_proba(X), of_rows.predict_proba(X), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(folded.predict(X), of_rows.predict(X))
    images = X.reshape(-1, 8, 8, 1)
    of_images = classifier(convolutions()).fit(images, labels).fold()
    np.testing.assert_array_equal(of_images.predict(images), of_rows.predict(X))


def test_fold_of_a_regressor_and_its_file(numbers, tmp_path):
    X, y = numbers
    for targets in (y, y[:, 0]):
        model = regressor().fit(X, targets)
        folded = model.fold()
        assert folded.kind == "regressor"
        np.testing.assert_allclose(folded.predict(X), model.predict(X), rtol=1e-9, atol=1e-12)
        folded.save(tmp_path / "model.nbbn")
        np.testing.assert_array_equal(
            nbbn.load(tmp_path / "model.nbbn").predict(X), folded.predict(X)
        )


def test_recalibrate(digits):
    X, y = digits
    model = classifier(convolutions(input_shape=(8, 8, 1)), epochs=1).fit(X, y)
    assert model.recalibrate(X) is model
    kernel, norm = model.model_.layers[0].get_weights()[0], model.model_.layers[1].get_weights()
    windows = np.lib.stride_tricks.sliding_window_view(X.reshape(-1, 8, 8), (3, 3), axis=(1, 2))
    ref = np.einsum("nijkl,klf->nijf", windows, kernel[:, :, 0])
    np.testing.assert_allclose(norm[2], ref.mean((0, 1, 2)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(norm[3], ref.var((0, 1, 2)), rtol=1e-9)


def test_a_linear_activation_at_the_end_is_none(data, numbers):
    """Layers that end as they should, and a linear activation, are used as they are."""
    X, y = data
    whole = [*dense(), L.Dense(3, activation="softmax")]
    got = classifier([*whole, L.Activation("linear")]).fit(X, y)
    ref = classifier(whole).fit(X, y)
    assert len(got.model_.layers) == len(ref.model_.layers) + 1
    np.testing.assert_array_equal(got.predict_proba(X), ref.predict_proba(X))
    X, y = numbers
    layers = [*dense(), L.Dense(2), L.Activation("linear")]
    assert len(regressor(layers).fit(X, y).model_.layers) == len(layers)


# Errors


def test_errors_of_data(data):
    X, y = data
    hole = X.copy()
    hole[3, 2] = np.nan
    model = classifier()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(hole, y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(hole.reshape(-1, 2, 2, 2), y)
    with pytest.raises(ValueError, match="needs at least 2 classes in y, got only one class"):
        model.fit(X, np.zeros(300, int))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        model.fit(X, X[:, 0])
    with pytest.raises(ValueError, match="Multioutput target data is not supported"):
        model.fit(X, np.eye(3)[y] + y[:, None])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X, y[:-1])
    with pytest.raises(ValueError, match="requires y to be passed"):
        model.fit(X, None)
    with pytest.raises(ValueError, match="zero"):
        model.fit(X, y, np.zeros(300))
    with pytest.raises(ValueError, match=r"[Nn]egative values"):
        model.fit(X, y, -np.ones(300))
    with pytest.raises(ValueError, match="batch norm needs at least 2 rows"):
        classifier().partial_fit(X[:1], y[:1], classes=[0, 1, 2])
    for method in ("predict", "predict_proba", "recalibrate"):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            getattr(model, method)(X)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        model.fold()
    assert vars(model) == vars(classifier(model.layers))  # a fit that raises leaves nothing behind


def test_errors_of_shapes(data, digits):
    X, y = data
    model = classifier().fit(X, y)
    with pytest.raises(
        ValueError, match="X has 7 features, but SequentialClassifier is expecting 8 features"
    ):
        model.predict(X[:, :7])
    with pytest.raises(ValueError, match="Reshape your data"):
        model.predict(X[0])
    with pytest.raises(
        ValueError,
        match=r"X has rows of shape \(2, 2, 2\), but SequentialClassifier expects .* \(8,\)",
    ):
        model.predict(X.reshape(-1, 2, 2, 2))
    X, y = digits
    with pytest.raises(
        ValueError, match=r"X has rows of shape \(64,\), 64 numbers, but .* input_shape=\(8, 8, 3\)"
    ):
        classifier(convolutions(input_shape=(8, 8, 3))).fit(X, y)
    with pytest.raises(ValueError, match=r"expects rows of shape \(8, 8, 1\)"):
        classifier(convolutions(input_shape=(8, 8, 1))).fit(X.reshape(-1, 4, 16, 1), y)
    with pytest.raises(ValueError, match=r"needs rows of shape \(height, width, channels\)"):
        classifier(convolutions()).fit(X, y)


def test_errors_of_parameters(data):
    X, y = data
    with pytest.raises(ValueError, match="'layers' parameter"):
        nbbn.SequentialClassifier(nbbn.Sequential(dense())).fit(X, y)
    with pytest.raises(TypeError, match=r"layers must hold layers of nbbn\.layers, got 16"):
        classifier([16]).fit(X, y)
    with pytest.raises(TypeError, match="argument 'epoch'; did you mean 'epochs'"):
        classifier(epoch=3)
    with pytest.raises(TypeError, match="'layers'"):
        nbbn.SequentialClassifier(epochs=3)
    with pytest.raises(ValueError, match="'epochs' parameter"):
        classifier(epochs=0).fit(X, y)
    with pytest.raises(ValueError, match="unknown optimizer"):
        classifier(optimizer="adamm").fit(X, y)
    with pytest.raises(ValueError, match="early_stopping=True needs rows to validate on"):
        classifier(early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="X_val and y_val must be given together"):
        classifier().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="y holds labels that are not among the classes"):
        classifier().fit(X, y, X_val=X, y_val=y + 1)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        classifier(early_stopping=True).partial_fit(X, y, [0, 1, 2])
    with pytest.raises(
        ValueError, match="class_weight='balanced' is not supported for partial_fit"
    ):
        classifier(class_weight="balanced").partial_fit(X, y, [0, 1, 2])


def test_errors_of_going_on(data):
    X, y = data
    with pytest.raises(
        ValueError, match=r"classes must be passed on the first call to partial_fit"
    ):
        classifier().partial_fit(X, y)
    model = classifier(warm_start=True).fit(X, y)
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="y holds labels that are not among the classes"):
        model.fit(X, y + 1)
    with pytest.raises(ValueError, match="layers differ from those that were fitted"):
        model.set_params(layers=dense(5)).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    fitted = regressor(warm_start=True).fit(X, X[:, :2])
    with pytest.raises(ValueError, match="y has 1 outputs, but the model was fitted with 2"):
        fitted.fit(X, X[:, 0])
    with pytest.raises(ValueError, match="y_val has 1 outputs, but y has 2"):
        regressor().fit(X, X[:, :2], X_val=X, y_val=y)


def test_weights_that_are_not_finite(numbers):
    X, y = numbers
    model = regressor([L.Dense(8)], optimizer=nbbn.optimizers.SGD(1e30), dtype="float32")
    with pytest.raises(ValueError, match="not finite: lower the learning rate"):
        model.fit(X, y)
    assert not hasattr(model, "model_")


def test_weights_are_repetitions(data):
    X, y = data
    weights = np.random.default_rng(0).integers(0, 4, 300)
    params = {"batch_size": 2000, "epochs": 20, "dtype": "float64"}
    weighted = classifier(**params).fit(X, y, sample_weight=weights)
    repeated = classifier(**params).fit(X.repeat(weights, axis=0), y.repeat(weights))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-7)
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-9)
    assert not np.allclose(
        weighted.predict_proba(X), classifier(**params).fit(X, y).predict_proba(X), rtol=1e-2
    )


def test_weights_of_images_count_relative_to_each_other(digits):
    X, y = digits
    layers = [L.Conv2D(4, 3, input_shape=(8, 8, 1)), L.BatchNormalization(), L.ReLU(), L.Flatten()]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    one = classifier(layers, epochs=1).fit(X, y, sample_weight=weights)
    other = classifier(layers, epochs=1).fit(X, y, sample_weight=4 * weights)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
    assert not np.array_equal(
        one.predict_proba(X), classifier(layers, epochs=1).fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize("kind", ["classifier", "regressor", "images", "frame"])
def test_saved_and_loaded(tmp_path, data, numbers, digits, kind):
    path = tmp_path / "model.safetensors"
    if kind == "regressor":
        (X, y), model = (
            numbers,
            regressor(
                loss=nbbn.losses.Huber(0.5), optimizer=nbbn.optimizers.SGD(0.01, momentum=0.9)
            ),
        )
    elif kind == "images":
        layers = [
            L.Conv2D(4, 3, input_shape=(8, 8, 1)), L.BatchNormalization(), L.ReLU(), L.Flatten(),
            L.Dropout(0.3),
        ]
        (X, y), model = digits, classifier(layers, epochs=2)
    else:
        X, y = data
        y, model = (
            np.array(["a", "bb", "ccc"])[y],
            classifier(class_weight={"a": 1.0, "bb": 2, "ccc": 0.5}),
        )
    if kind == "frame":
        X = pytest.importorskip("pandas").DataFrame(
            X, columns=[f"column {i}" for i in range(X.shape[1])]
        )
    model.fit(X, y)
    model.save(path)
    again = nbbn.load(path)
    assert (
        type(again) is type(model)
        and again.history_ == model.history_
        and again.n_iter_ == model.n_iter_
    )
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    for name, value in model.get_params().items():
        if name not in ("random_state", "layers", "loss", "optimizer"):
            assert again.get_params()[name] == value, name
    assert again.score(X, y) == model.score(X, y)
    # Training goes on bit for bit.
    np.testing.assert_array_equal(
        again.partial_fit(X, y).predict(X), model.partial_fit(X, y).predict(X)
    )
    for ours, theirs in zip(again.model_.get_weights(), model.model_.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_an_unfitted_one_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError, match="not fitted"):
        classifier().save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_clones_in_threads_stop_where_they_would_alone(digits):
    joblib = pytest.importorskip("joblib")
    from sklearn.model_selection import cross_val_score

    X, y = digits
    X = X.reshape(len(X), -1)
    stop = nbbn.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    model = classifier(
        dense(), epochs=8, validation_fraction=0.2, callbacks=[stop], random_state=0
    )
    alone = cross_val_score(model, X, y, cv=4)
    with joblib.parallel_config("threading", n_jobs=2):
        assert (cross_val_score(model, X, y, cv=4) == alone).all()


# -- several labels a row


@pytest.fixture(scope="module")
def labels():
    X, y = make_multilabel_classification(300, 8, n_classes=4, random_state=0)
    return StandardScaler().fit_transform(X), y


def test_several_labels_a_row(labels):
    X, y = labels
    rate = nbbn.optimizers.Adam(0.02)
    model = classifier(epochs=40, optimizer=rate).fit(X, y)
    shares = model.predict_proba(X)
    assert shares.shape == (300, 4) and ((shares > 0.5) == model.predict(X)).all()
    assert (model.predict(X) == y).mean() > 0.8 and model.score(X, y) > 0.4
    assert model.classes_.tolist() == [0, 1, 2, 3] and model.history_["accuracy"][-1] > 0.75
    assert model.fold().predict(X).tolist() == model.predict(X).tolist()
    given = classifier([*dense(), L.Dense(4, activation="sigmoid")], epochs=40,
                       optimizer=rate).fit(X, y)
    np.testing.assert_array_equal(given.predict_proba(X), shares)


def test_several_labels_held_out_weighted_and_saved(labels, tmp_path):
    X, y = labels
    model = classifier(validation_fraction=0.25, early_stopping=True, n_iter_no_change=2,
                       class_weight=[{0: 1, 1: 2}] * 4, epochs=5).fit(X, csr_matrix(y))
    assert "val_loss" in model.history_ and model.predict(X).format == "csr"
    model.save(tmp_path / "model.safetensors")
    other = nbbn.load(tmp_path / "model.safetensors")
    assert (other.predict(X) != model.predict(X)).nnz == 0
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    part = classifier().partial_fit(X, y, classes=[0, 1, 2, 3]).partial_fit(X, y)
    assert part.n_iter_ == 2


@pytest.mark.parametrize("params, target, match", [
    ({"loss": "categorical_crossentropy"}, None, "is for one label a row, and y is an indicator"),
    ({"loss": "mse"}, None, "is for one label a row"),
    ({"layers": [L.Dense(4, activation="softmax")]}, None, "layers end with softmax of 4 outputs"),
    ({"layers": [L.Dense(3, activation="sigmoid")]}, None, "layers end with sigmoid of 3 outputs"),
    ({"class_weight": {0: 2}}, None, "give a list of 4 dicts"),
])
def test_several_labels_refused(labels, params, target, match):
    X, y = labels
    with pytest.raises(ValueError, match=match):
        classifier(**params).fit(X, y)


def test_other_labels_than_at_the_first_fit(labels):
    X, y = labels
    model = classifier(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="y must be an indicator matrix of 4 columns"):
        model.fit(X, y[:, :3])
    with pytest.raises(ValueError, match=r"classes must be the numbers of the labels, np.arange\(4\)"):
        classifier().partial_fit(X, y, classes=[0, 1])


# -- the optimiser's own parameters


def test_parameters_of_the_optimiser_in_grids(data):
    X, y = data
    model = classifier(optimizer="sgd")
    assert model.get_params()["optimizer__learning_rate"] == 0.01
    assert "optimizer__learning_rate" not in model.get_params(deep=False)
    mine = nbbn.optimizers.Adam(0.5)
    other = classifier(optimizer=mine).set_params(optimizer__learning_rate=0.01, epochs=2,
                                                  optimizer__beta_1=0.8)
    assert other.optimizer == nbbn.optimizers.Adam(0.01, beta_1=0.8) and mine.learning_rate == 0.5
    assert other.epochs == 2
    search = GridSearchCV(model, {"optimizer__learning_rate": [1e-6, 0.1],
                                  "optimizer__momentum": [0.9]}, cv=2).fit(X, y)
    assert search.best_params_ == {"optimizer__learning_rate": 0.1, "optimizer__momentum": 0.9}
    assert search.best_estimator_.optimizer == nbbn.optimizers.SGD(0.1, momentum=0.9)
    assert clone(search.best_estimator_).get_params()["optimizer__momentum"] == 0.9
    changed = model.set_params(optimizer="adam", optimizer__learning_rate=0.5)
    assert changed.optimizer == nbbn.optimizers.Adam(0.5)
    with pytest.raises(ValueError, match=r"'optimizer__lr' for estimator Seq.*'learning_rate'\?"):
        model.set_params(optimizer__lr=0.5)
    with pytest.raises(ValueError, match="learning_rate"):
        model.set_params(optimizer__learning_rate=-1.0)
    assert "optimizer" in classifier(optimizer="nothing").get_params()
