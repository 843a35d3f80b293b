"""Losses by hand, by central differences, in training, and beside Keras where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn import losses

RNG = np.random.default_rng(3)
P = RNG.uniform(0.05, 0.95, (6, 4))
P /= P.sum(1, keepdims=True)
Y = RNG.normal(size=(6, 4))
ONE_HOT = np.eye(4)[RNG.integers(0, 4, 6)]
BITS = RNG.integers(0, 2, (6, 4)).astype(float)
LABELS = RNG.integers(0, 4, 6)
C = losses.CustomLoss
LOSSES = {
    "MeanSquaredError": ({}, Y[::-1], Y),
    "MeanAbsoluteError": ({}, Y[::-1], Y),
    "MeanAbsolutePercentageError": ({}, Y[::-1], Y),
    "MeanSquaredLogarithmicError": ({}, BITS, np.abs(Y)),
    "Huber": ({"delta": 0.5}, Y[::-1], Y),
    "LogCosh": ({}, Y[::-1], Y),
    "Hinge": ({}, BITS, Y),
    "SquaredHinge": ({}, 2 * BITS - 1, Y),
    "CategoricalHinge": ({}, ONE_HOT, Y),
    "KLDivergence": ({}, P[::-1], P),
    "Poisson": ({}, BITS, P),
    "CosineSimilarity": ({}, Y[::-1], Y),
    "BinaryCrossentropy": ({"label_smoothing": 0.2}, BITS, P),
    "BinaryCrossentropy logits": ({"from_logits": True}, BITS, Y),
    "CategoricalCrossentropy": ({"label_smoothing": 0.2}, ONE_HOT, np.abs(Y)),
    "CategoricalCrossentropy logits": ({"from_logits": True}, ONE_HOT, Y),
    "SparseCategoricalCrossentropy": ({}, LABELS, P),
    "SparseCategoricalCrossentropy logits": ({"from_logits": True}, LABELS, Y),
    "SparseCategoricalCrossentropy ignoring": ({"ignore_class": 2}, LABELS, P),
    "SparseCategoricalCrossentropy of logits ignoring": (
        {"ignore_class": -1, "from_logits": True}, np.where(LABELS == 1, -1, LABELS), Y),
    "BinaryFocalCrossentropy": ({"apply_class_balancing": True, "gamma": 1.5}, BITS, P),
    "BinaryFocalCrossentropy logits": ({"from_logits": True, "label_smoothing": 0.1}, BITS, Y),
    "CategoricalFocalCrossentropy": ({"alpha": (0.1, 0.2, 0.3, 0.4)}, ONE_HOT, P),
    "CategoricalFocalCrossentropy logits": ({"from_logits": True}, ONE_HOT, Y),
    "CategoricalGeneralizedCrossEntropy": ({"q": 0.3}, LABELS, P),
    "Dice": ({}, BITS, P),
    "Dice by row": ({"axis": (1,)}, BITS, P),
    "Tversky": ({"alpha": 0.3, "beta": 0.8}, BITS, P),
    "Tversky by class": ({"axis": 0}, BITS, P),
}
each = pytest.mark.parametrize("name", LOSSES)


def made(name, library=losses, **more):
    return getattr(library, name.split()[0])(**LOSSES[name][0], **more)


@each
def test_gradient(name):
    """By central differences."""
    _, t, y = LOSSES[name]
    losses.check_gradient(made(name), made(name).prepare(t), y)


# Hand values: max(0, 1 - t y), its square, relative errors and so on.
BY_HAND = {
    "Hinge": ([[1, -1]], [[0.5, 0.5]], 1.0),
    "SquaredHinge": ([[1, -1]], [[0.5, 0.5]], 1.25),
    "CategoricalHinge": ([[0, 1, 0]], [[0.5, 0.25, 0.75]], 1.5),
    "KLDivergence": ([[0.5, 0.5]], [[0.25, 0.75]], 0.5 * np.log(2) + 0.5 * np.log(2 / 3)),
    "Poisson": ([[2.0, 0.0]], [[1.0, 3.0]], 2.0),
    "MeanAbsolutePercentageError": ([[2.0, -4.0]], [[1.0, -5.0]], 37.5),
    "MeanSquaredLogarithmicError": ([[0.0]], [[np.e - 1]], 1.0),
    "LogCosh": ([[0.0]], [[1.0]], np.log(np.cosh(1))),
    "CosineSimilarity": ([[3.0, 4.0]], [[4.0, 3.0]], -0.96),
    "BinaryCrossentropy": ([[1.0, 0.0]], [[0.5, 0.75]], (np.log(2) + np.log(4)) / 2),
    "CategoricalCrossentropy": ([[0.0, 1.0]], [[3.0, 1.0]], np.log(4)),
    "SparseCategoricalCrossentropy": ([1], [[3.0, 1.0]], np.log(4)),
    "BinaryFocalCrossentropy": ([[1.0]], [[0.25]], 0.75**2 * np.log(4)),
    "CategoricalFocalCrossentropy": ([[0.0, 1.0]], [[0.75, 0.25]], 0.25 * 0.75**2 * np.log(4)),
    "CategoricalGeneralizedCrossEntropy": ([1], [[0.75, 0.25]], 1.0),
    "Dice": ([[1.0], [0.0]], [[0.5], [0.5]], 0.5),
    "Tversky": ([[1.0], [0.0]], [[0.5], [0.5]], 0.5),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_value_by_hand(name):
    t, y, value = BY_HAND[name]
    found = getattr(losses, name)()(t, y)
    assert found == pytest.approx(value, abs=1e-6) and isinstance(found, float)
    assert found.numpy() == found


def test_reductions_and_weights():
    t, y, w = np.zeros((3, 2)), np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]]), [1.0, 2.0, 5.0]
    rows = np.array([1.0, 2.0, 0.0])
    of = {how: losses.MeanSquaredError(reduction=how) for how in
          ("sum", "none", None, "mean", "mean_with_sample_weight")}
    assert of["mean"](t, y) == 1 and of["mean"](t, y, w) == pytest.approx(5 / 3)
    assert of["sum"](t, y) == 3 and of["sum"](t, y, w) == 5
    np.testing.assert_array_equal(of["none"](t, y).numpy(), rows)
    np.testing.assert_array_equal(of[None](t, y, w), rows * w)
    assert of["mean_with_sample_weight"](t, y, w) == 5 / 8
    assert losses.mean_squared_error(t, y).numpy().tolist() == rows.tolist()
    assert losses.MeanSquaredError()(np.zeros(3), [[1.0], [2.0], [3.0]]) == pytest.approx(14 / 3)


def head(name):
    """What makes such outputs of anything: of its own range."""
    y = LOSSES[name][2]
    if y is Y:
        return []
    return [L.Activation("softmax" if y is P else "softplus")]


def network(name, dtype="float64"):
    nbbn.set_random_seed(4)
    model = nbbn.Sequential([L.Dense(4, dtype=dtype, input_shape=(4,)), *head(name)])
    model.compile(nbbn.optimizers.SGD(0.1), made(name))
    return model


@each
def test_a_step_goes_along_the_gradient(name):
    """Against central differences of the loss as evaluate gives it, along each weight."""
    if name.endswith("logits") and "Focal" not in name:
        pytest.skip("the network's end is the loss's: see test_sequential_numbers")
    t, model = LOSSES[name][1], network(name)
    x = RNG.normal(size=(6, 4))
    kernel, bias = model.get_weights()

    def loss(k):
        model.set_weights([k, bias])
        return model.evaluate(x, t, verbose=0)

    slopes = np.zeros_like(kernel)
    for at in np.ndindex(kernel.shape):
        step = np.zeros_like(kernel)
        step[at] = 1e-6
        slopes[at] = (loss(kernel + step) - loss(kernel - step)) / 2e-6
    model.set_weights([kernel, bias])
    before = model.evaluate(x, t, verbose=0)
    assert model.train_on_batch(x, t) == pytest.approx(before, rel=1e-12)
    got = (kernel - model.get_weights()[0]) / 0.1
    np.testing.assert_allclose(got, slopes, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["Hinge", "CategoricalFocalCrossentropy", "Dice by row"])
def test_threads_change_no_bit(name):
    found = []
    x, t = RNG.normal(size=(40, 4)), np.repeat(LOSSES[name][1], 7, 0)[:40]
    for threads in (1, 2, 3):
        with nbbn.num_threads(threads):
            model = network(name, "float32")
            model.fit(x, t, batch_size=8, epochs=2, verbose=0, sample_weight=np.arange(1, 41) / 20)
            found.append(model.get_weights()[0].tobytes())
    assert len(set(found)) == 1


# -- a loss of one's own


def quartic(t, y):
    return ((y - t) ** 4).mean(-1)


def slope(t, y):
    return 4 * (y - t) ** 3 / y.shape[-1]


class Quartic:
    """A loss of one's own as an object."""

    def value(self, t, y):
        return quartic(t, y)

    def gradient(self, t, y):
        return slope(t, y)


class KerasQuartic(losses.Loss):
    """As Keras's programs have them, with its gradient."""

    def __init__(self, scale=1.0, **more):
        super().__init__(**more)
        self.scale = scale

    def call(self, y_true, y_pred):
        return self.scale * (y_pred - y_true) ** 4

    def gradient(self, y_true, y_pred):
        return self.scale * slope(y_true, y_pred)


@pytest.mark.parametrize("loss", [
    (quartic, slope), [quartic, slope], Quartic(), KerasQuartic(),
    C(quartic, slope, check_gradient=True),
], ids=["pair", "list", "object", "subclass", "checked"])
def test_own_loss(loss):
    model = nbbn.Sequential([L.Dense(2, dtype="float64", kernel_initializer="zeros",
                                     input_shape=(1,))])
    model.compile(nbbn.optimizers.SGD(0.1), loss)
    x, t = np.array([[1.0], [2.0]]), np.array([[1.0, 0.0], [0.5, 1.0]])
    assert model.train_on_batch(x, t) == pytest.approx((t**4).mean())
    expected = 0.1 * (x.T @ (4 * t**3 / 2)) / 2
    np.testing.assert_allclose(model.get_weights()[0], expected)
    history = model.fit(x, t, epochs=2, verbose=0, validation_data=(x, t)).history
    assert history["val_loss"][-1] < (t**4).mean()


def test_own_loss_of_one_of_several_outputs():
    given = L.Input((3,))
    outputs = [L.Dense(2, name="a")(given), L.Dense(2, name="b")(given)]
    got = nbbn.Model(given, outputs)
    ref = nbbn.Model(given, outputs)
    x, t = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 2))
    weights = got.get_weights()
    found = []
    for model, own in ((got, ((lambda t, y: ((y - t) ** 2).mean(-1)),
                              lambda t, y: 2 * (y - t) / 2)), (ref, "mse")):
        model.set_weights(weights)
        model.compile("sgd", ["mae", own], loss_weights=[1.0, 0.5])
        history = model.fit(x, [t, t], batch_size=5, epochs=2, shuffle=False, verbose=0).history
        found.append((history["b_loss"], model.get_weights()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    for a, b in zip(found[0][1], found[1][1]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


WRONG = {
    "gradient": (C(quartic, lambda t, y: slope(t, y) + (np.arange(2) == 1), check_gradient=True),
                 r"gradient at row 0, unit 1 is .*, but central differences of the value give"),
    "factor": (C(quartic, lambda t, y: 2 * slope(t, y), check_gradient=True),
               "derivative of each row's number"),
    "shape": (C(quartic, lambda t, y: slope(t, y)[:, 0]), r"must have the outputs' shape"),
    "rows": (C(lambda t, y: np.zeros(3), slope), r"a number for each of the 4 rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_own_loss_that_is_wrong(name):
    loss, message = WRONG[name]
    model = nbbn.Sequential([L.Dense(2, input_shape=(3,))])
    model.compile("sgd", loss)
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(RNG.normal(size=(4, 3)), np.ones((4, 2)), verbose=0)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


class WithoutGradient(losses.Loss):
    def call(self, y_true, y_pred):
        return y_pred


REFUSED = {
    "function": (quartic, TypeError, r"not supported without their gradient: give a pair"),
    "no gradient": (WithoutGradient(), TypeError, r"'without_gradient' has no gradient"),
    "sum": (losses.Hinge(reduction="sum"), ValueError, r"reduction 'sum' is for calls"),
    "ctc": ("ctc", ValueError, r"'ctc' is not supported: no loss of"),
    "near": ("hing", ValueError, r"did you mean 'hinge'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    loss, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        nbbn.Sequential([L.Dense(2)]).compile("sgd", loss)


def test_what_keras_has_besides():
    with pytest.raises(AttributeError, match=r"no attribute 'CTC'; no loss of"):
        losses.CTC  # noqa: B018


def test_weights_and_axes():
    """A pixel's loss counts as its image's."""
    x = RNG.normal(size=(8, 3, 3, 2)).astype("float32")
    model = nbbn.Sequential([L.Conv2D(4, 1, activation="softmax", input_shape=(3, 3, 2))])
    for loss, t in (("sparse_categorical_crossentropy", RNG.integers(0, 4, (8, 3, 3))),
                    ("kl_divergence", RNG.dirichlet(np.ones(4), (8, 3, 3))),
                    ("squared_hinge", RNG.integers(0, 2, (8, 3, 3, 4)))):
        model.compile("sgd", loss, metrics=["accuracy"])
        w = RNG.uniform(0.5, 2, 8)
        loss_now, accuracy = model.evaluate(x, t, sample_weight=w, verbose=0)
        p = model.predict(x).astype(float)
        values = losses.get(loss).call(losses.get(loss).prepare(t), p)
        assert loss_now == pytest.approx((values.reshape(8, -1).mean(1) * w).mean(), rel=1e-6)
        labels = t if t.ndim == 3 else t.argmax(-1)
        assert accuracy == pytest.approx((p.argmax(-1) == labels).mean())
        assert model.train_on_batch(x, t, sample_weight=w)[0] == pytest.approx(loss_now, rel=1e-5)


def test_a_class_that_does_not_count():
    """The mean is that of the other pixels, in each batch; weights are those of rows."""
    rng = np.random.default_rng(7)
    x, t = rng.normal(size=(8, 3, 3, 2)), rng.integers(0, 4, (8, 3, 3))
    t[0], t[1, 1] = 255, 255
    w, counted = rng.uniform(0.5, 2, 8), t != 255
    nbbn.set_random_seed(5)
    model = nbbn.Sequential([
        L.Conv2D(4, 1, activation="softmax", input_shape=(3, 3, 2), dtype="float64")])
    loss = losses.SparseCategoricalCrossentropy(ignore_class=255)
    model.compile(nbbn.optimizers.SGD(0.5), loss,
                  metrics=["accuracy", "sparse_categorical_crossentropy",
                           nbbn.metrics.SparseTopKCategoricalAccuracy(4)])
    p = model.predict(x)
    values = -np.log(np.take_along_axis(p, np.where(counted, t, 0)[..., None], -1)[..., 0]) * counted
    plain = values.sum() / counted.sum()
    weighed = (values * w[:, None, None]).sum() / counted.sum()
    got, accuracy, entropy, top = model.evaluate(x, t, verbose=0)
    assert got == pytest.approx(plain) == pytest.approx(loss(t, p))
    assert accuracy == pytest.approx((p.argmax(-1) == t).mean())
    assert entropy == pytest.approx(values.mean()) and top == pytest.approx(counted.mean())
    assert model.evaluate(x, t, sample_weight=w, verbose=0)[0] == pytest.approx(weighed)
    assert loss(t, p, w[:, None]) == pytest.approx(weighed)
    sums = losses.SparseCategoricalCrossentropy(ignore_class=255, reduction="sum")
    assert sums(t, p) == pytest.approx(values.sum())
    means = losses.SparseCategoricalCrossentropy(
        ignore_class=255, reduction="mean_with_sample_weight")
    assert means(t, p) == pytest.approx(plain)
    assert means(t, p, w[:, None]) == pytest.approx(
        (values * w[:, None, None]).sum() / (counted * w[:, None, None]).sum())
    # A batch of rows that do not count, and one of others.
    history = model.fit(x[:2], t[:2], batch_size=1, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(values[1].sum() / counted[1].sum() / 2)
    assert losses.get(loss.config()) == loss
    kernel = model.get_weights()[0]
    model.train_on_batch(x[:1], t[:1])
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
    with pytest.raises(ValueError, match="y holds the label 255"):
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(x, t, verbose=0)


def test_a_class_that_does_not_count_of_one_output():
    nbbn.set_random_seed(5)
    a = nbbn.Input((4,))
    heads = [L.Dense(4, activation="softmax", name=name)(a) for name in ("one", "two")]
    model, labels = nbbn.Model(a, heads), np.where(LABELS == 1, -1, LABELS)
    model.compile("sgd", [losses.SparseCategoricalCrossentropy(ignore_class=-1), "mse"])
    p, q = model.predict(Y)
    wanted = losses.SparseCategoricalCrossentropy(ignore_class=-1)(labels, p)
    _, one, two = model.evaluate(Y, [labels, BITS], verbose=0)
    assert one == pytest.approx(wanted, rel=1e-6)
    assert two == pytest.approx(((q - BITS) ** 2).mean(), rel=1e-6)
    assert model.train_on_batch(Y, [labels, BITS])[1] == pytest.approx(wanted, rel=1e-6)


def test_class_weights_beside_a_class_that_does_not_count():
    model = network("SparseCategoricalCrossentropy ignoring")
    labels, loss = np.where(LABELS == 1, 300, LABELS), losses.SparseCategoricalCrossentropy
    model.compile("sgd", loss(ignore_class=300))
    weights = {0: 0.5, 1: 7.0, 2: 2.0, 3: 1.5}
    found = model.train_on_batch(Y, labels, class_weight=weights)
    model = network("SparseCategoricalCrossentropy ignoring")
    w = [weights.get(int(label), 1.0) for label in labels]
    assert found == pytest.approx(loss(ignore_class=300)(labels, model.predict(Y), w), rel=1e-6)


@pytest.mark.parametrize("wrong", [1.5, "void", True])
def test_a_class_that_does_not_count_is_a_number(wrong):
    with pytest.raises(ValueError, match="ignore_class must be None or a whole number, got"):
        losses.SparseCategoricalCrossentropy(ignore_class=wrong)


@pytest.mark.parametrize("name", ["Dice", "Tversky", "Dice by row"])
def test_weights_of_overlaps(name):
    """One number for a batch counts by the mean weight of its rows, one a row by its own."""
    w = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25])
    _, t, x = LOSSES[name]
    model, plain = network(name), network(name)
    before, loss = model.get_weights()[0], made(name)
    values = loss.call(t, model.predict(x))
    wanted = float((np.ravel(values) * w).mean())
    assert model.evaluate(x, t, sample_weight=w, verbose=0) == pytest.approx(wanted)
    assert loss(t, model.predict(x), w) == pytest.approx(wanted)
    assert model.train_on_batch(x, t, sample_weight=w) == pytest.approx(wanted)
    plain.train_on_batch(x, t)
    steps = [other.get_weights()[0] - before for other in (model, plain)]
    if "row" not in name:
        np.testing.assert_allclose(steps[0], w.mean() * steps[1], rtol=1e-9)
    else:
        assert not np.allclose(steps[0], w.mean() * steps[1], rtol=1e-3)


def test_weights_of_overlaps_stay_its_own():
    """Another output's loss is weighed row by row."""
    w = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25])
    a = nbbn.Input((4,))
    nbbn.set_random_seed(5)
    model = nbbn.Model(a, [L.Dense(4, activation=end, dtype="float64")(a)
                           for end in ("sigmoid", "tanh")])
    model.compile(nbbn.optimizers.SGD(0.1), ["dice", "mse"])
    kernels = model.get_weights()
    p, q = model.predict(Y)
    got = model.train_on_batch(Y, [BITS, BITS], sample_weight=w)
    rows = ((q - BITS) ** 2).mean(1)
    wanted = [losses.Dice()(BITS, p, w), (rows * w).mean()]
    np.testing.assert_allclose(got, [sum(wanted), *wanted], rtol=1e-9)
    # d mse / d bias: of each row its own weight.
    slope = (w[:, None] * 2 * (q - BITS) / 4 * (1 - q * q)).mean(0)
    np.testing.assert_allclose(kernels[3] - model.get_weights()[3], 0.1 * slope, rtol=1e-9)


# -- beside Keras


@each
def test_values_are_keras_s(name):
    keras = pytest.importorskip("keras")
    _, t, y = LOSSES[name]
    ref = np.asarray(made(name, keras.losses, dtype="float64")(t, y), np.float64)
    assert made(name)(t, y) == pytest.approx(float(ref), rel=1e-6)
    if "by class" not in name:
        w = np.arange(1.0, 7.0)
        ref = made(name, keras.losses, dtype="float64")(t, y, sample_weight=w)
        assert made(name)(t, y, w) == pytest.approx(float(np.asarray(ref)), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["ignoring", "dice", "tversky"])
def test_training_is_keras_s(kind):
    """Three batches with weights, a fit without, and the outputs behind them."""
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(12, 4)), rng.uniform(0.5, 2, 12)
    t = rng.integers(0, 4, 12) if kind == "ignoring" else rng.integers(0, 2, (12, 4)).astype(float)
    start, found = [rng.normal(size=(4, 4)), np.zeros(4)], []
    for library in (keras, nbbn):
        end = "softmax" if kind == "ignoring" else "sigmoid"
        model = library.Sequential([library.Input((4,), dtype="float64"),
                                    library.layers.Dense(4, activation=end, dtype="float64")])
        loss = library.losses.SparseCategoricalCrossentropy(ignore_class=2, dtype="float64") \
            if kind == "ignoring" else {"dice": library.losses.Dice,
                                        "tversky": library.losses.Tversky}[kind](dtype="float64")
        model.compile(library.optimizers.SGD(0.5), loss)
        model.set_weights(start)
        values = [model.train_on_batch(x[k : k + 4], t[k : k + 4], sample_weight=w[k : k + 4])
                  for k in (0, 4, 8)]
        values += model.fit(x, t, batch_size=6, shuffle=False, verbose=0).history["loss"]
        values.append(model.evaluate(x, t, sample_weight=w, verbose=0))
        found.append(np.concatenate([np.ravel(values), *map(np.ravel, model.get_weights())]))
    np.testing.assert_allclose(found[1], found[0], rtol=2e-6)
