"""Constraints of weights: values, and training by them beside formulas and Keras."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from keras_files import keras_file, sequential_config, weights_file
from naive_layers import NaiveOptimizer, describe
from networks import (
    FLAT,
    HEAD,
    RELU,
    SGD,
    Case,
    conv,
    conv1d,
    dense,
    depthwise,
    group_norm,
    image,
    layer_norm,
    norm,
    separable,
    sequence,
    transposed,
    vector,
)
from networks import NETWORKS as ALL_NETWORKS
from test_naive_layers import keras  # noqa: F401
from test_shards import Shards, teams  # noqa: F401

import nbbn
from nbbn import constraints, layers
from nbbn.constraints import Constraint, MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from nbbn.layers import LayerError

X = np.random.default_rng(0).normal(size=(48, 6))
Y = np.random.default_rng(1).normal(size=(48, 2))


# -- values


def naive(kind, w, max_value=None, min_value=0.0, rate=1.0, axis=0):
    """The formulas of Keras 3's documentation, in float64."""
    if kind == "NonNeg":
        return np.where(w < 0, 0.0, w)
    axes = axis if axis is None or isinstance(axis, int) else tuple(axis)
    norms = np.sqrt((w * w).sum(axis=axes, keepdims=True))
    if kind == "UnitNorm":
        return w / (1e-7 + norms)
    most = {"MaxNorm": 2.0, "MinMaxNorm": 1.0}[kind] if max_value is None else max_value
    low = min_value if kind == "MinMaxNorm" else 0.0
    bounded = np.minimum(np.maximum(norms, low), most)
    return w * (rate * bounded + (1 - rate) * norms) / (1e-7 + norms)


EVERY = [
    ("MaxNorm", {}), ("MaxNorm", {"max_value": 0.3, "axis": [0, 1]}), ("MaxNorm", {"axis": None}),
    ("NonNeg", {}), ("UnitNorm", {}), ("UnitNorm", {"axis": [0, 2]}), ("MinMaxNorm", {}),
    ("MinMaxNorm", {"min_value": 0.5, "max_value": 0.7, "rate": 0.25, "axis": -1}),
]


@pytest.mark.parametrize(("kind", "arguments"), EVERY)
def test_values(kind, arguments):
    w = np.random.default_rng(3).normal(size=(4, 3, 5))
    w[:, 1, 2] = 0
    made = getattr(constraints, kind)(**arguments)
    before = w.copy()
    np.testing.assert_allclose(made(w), naive(kind, w, **arguments), rtol=1e-14)
    np.testing.assert_array_equal(w, before)
    assert made(w.astype("f4")).dtype == np.float32
    assert constraints.get(json.loads(json.dumps(made.config()))) == made
    assert pickle.loads(pickle.dumps(made)) == made and hash(made)


@pytest.mark.parametrize(("kind", "arguments"), EVERY)
def test_values_are_keras(keras, kind, arguments):  # noqa: F811
    w = np.random.default_rng(3).normal(size=(4, 3, 5))
    theirs, ours = getattr(keras.constraints, kind)(**arguments), getattr(constraints, kind)
    found = keras.ops.convert_to_numpy(theirs(keras.ops.convert_to_tensor(w)))
    np.testing.assert_allclose(ours(**arguments)(w), found, rtol=1e-12)
    assert ours(**arguments).get_config() == theirs.get_config()


def test_names():
    assert constraints.get("max_norm") == constraints.get("MaxNorm") == constraints.get(MaxNorm)
    assert constraints.get("max_norm") == constraints.max_norm() == MaxNorm(2, 0)
    assert constraints.get("unit_norm") == UnitNorm() and constraints.get("non_neg") == NonNeg()
    assert constraints.get("min_max_norm") == MinMaxNorm(0.0, 1.0, 1.0, 0)
    assert constraints.get(None) is None and constraints.get(abs) is abs
    assert nbbn.keras.constraints.MaxNorm is MaxNorm


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: constraints.get("maxnorm2"), ValueError, "unknown constraint 'maxnorm2'; did you mean"),
    (lambda: constraints.get(3), TypeError, "a constraint is a name, .* got int"),
    (lambda: constraints.get(int), TypeError, "got the class int"),
    (lambda: constraints.get({"class_name": 3}), ValueError, "config must be a dict of class_name"),
    (lambda: constraints.get({"class_name": "Own"}), ValueError,
     "unknown constraint 'Own'; .* define the subclass of nbbn.constraints.Constraint"),
    (lambda: constraints.get({"class_name": "MaxNorm", "config": {"most": 1}}), ValueError,
     "MaxNorm is not made of"),
    (lambda: MaxNorm(-1), ValueError, "MaxNorm: max_value must be a finite number of at least 0"),
    (lambda: MaxNorm("2"), ValueError, "max_value must be"),
    (lambda: MaxNorm(axis=1.0), ValueError, "axis must be a whole number, a list of them"),
    (lambda: MaxNorm(axis=[0, True]), ValueError, "axis must be a whole number"),
    (lambda: MinMaxNorm(rate=2), ValueError, r"rate must be a number in \[0, 1\], got 2"),
    (lambda: MinMaxNorm(2.0, 1.0), ValueError, "min_value must not be above max_value"),
    (lambda: MaxNorm(max=1), TypeError, "unexpected keyword argument 'max'"),
    (lambda: layers.Dense(2, kernel_constraint=3), LayerError,
     "Dense: kernel_constraint: a constraint is a name, .* got int"),
    (lambda: layers.Dense(2, bias_constraint="maxnorm"), LayerError, "did you mean 'max_norm'"),
    (lambda: constraints.serialize, AttributeError, r"use config\(\)"),
])
def test_what_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_an_axis_must_fit():
    for axis, shape in ((2, r"\(6, 2\)"), ([0, 0], r"\(6, 2\)"), ([0, -2], r"\(6, 2\)")):
        model = nbbn.Sequential([nbbn.Input((6,)),
                                 layers.Dense(2, kernel_constraint=UnitNorm(axis), name="d")])
        model.compile("sgd", "mse")
        with pytest.raises(LayerError, match=f"'d': kernel_constraint: UnitNorm: axis .* {shape}"):
            model.fit(X, Y, verbose=0)


# -- training

PER_FILTER = {"axis": [0, 1, 2]}
# A network without constraints, and by layer and argument which it gets.
NETWORKS = {
    "dense": (vector(dense(19, "relu"), norm(), dense(10, "tanh")), {
        (0, "kernel_constraint"): ("MaxNorm", {"max_value": 0.9}),
        (0, "bias_constraint"): ("NonNeg", {}),
        (1, "gamma_constraint"): ("MaxNorm", {"max_value": 3.0}),
        (1, "beta_constraint"): ("NonNeg", {}),
        (2, "kernel_constraint"): ("MinMaxNorm", {"min_value": 0.5, "rate": 0.7}),
        (3, "kernel_constraint"): ("UnitNorm", {"axis": 1}),
    }),
    "dense on three axes": (Case((6, 10), [dense(17), RELU, dense(5, "tanh"), FLAT, HEAD]), {
        (0, "kernel_constraint"): ("UnitNorm", {"axis": None}),
        (2, "kernel_constraint"): ("NonNeg", {}),
    }),
    "conv": (image(conv(6, padding="same"), norm(), RELU, conv(24, 2, groups=2), conv(5, 1)), {
        (0, "kernel_constraint"): ("MaxNorm", {"max_value": 0.5, **PER_FILTER}),
        (3, "kernel_constraint"): ("UnitNorm", PER_FILTER),
        (3, "bias_constraint"): ("MaxNorm", {"max_value": 0.1}),
        (4, "kernel_constraint"): ("NonNeg", {}),
    }),
    "depthwise, transposed, separable": (
        image(depthwise(2, depth_multiplier=2), transposed(5, 2, strides=2), layer_norm(),
              separable(6, 2), group_norm(2)), {
            (0, "depthwise_constraint"): ("MaxNorm", {"max_value": 0.4, "axis": [0, 1]}),
            (1, "kernel_constraint"): ("UnitNorm", {"axis": [0, 1, 3]}),
            (2, "gamma_constraint"): ("UnitNorm", {}),
            (3, "depthwise_constraint"): ("UnitNorm", {"axis": [0, 1]}),
            (3, "pointwise_constraint"): ("MinMaxNorm", {"max_value": 0.6, "axis": 2}),
            (4, "beta_constraint"): ("NonNeg", {}),
        }),
    "steps": (sequence(conv1d(6, 2, padding="causal"), RELU, conv1d(5, 2)), {
        (0, "kernel_constraint"): ("UnitNorm", {"axis": [0, 1]}),
        (2, "kernel_constraint"): ("MaxNorm", {"max_value": 0.7, "axis": [0, 1]}),
    }),
    "alpha": (vector(dense(19), ("PReLU", {}), norm()), {(1, "alpha_constraint"): ("NonNeg", {})}),
    "embeddings": (
        Case((5,), [("Embedding", {"input_dim": 11, "output_dim": 6}), RELU, FLAT, HEAD],
             integers=11),
        {(0, "embeddings_constraint"): ("UnitNorm", {"axis": 1})},
    ),
    "penalties": (vector(dense(19, "relu", kernel_regularizer=("L2", {"l2": 0.05})), norm(),
                         weighted=True), {(0, "kernel_constraint"): ("MaxNorm", {})}),
    "frozen": (vector(dense(19, "relu", trainable=False), dense(7)), {
        (0, "kernel_constraint"): ("UnitNorm", {}), (1, "kernel_constraint"): ("UnitNorm", {}),
    }),
    "a loss of NumPy": (ALL_NETWORKS["loss, softmax, pooled"], {
        (0, "kernel_constraint"): ("UnitNorm", PER_FILTER), (0, "bias_constraint"): ("NonNeg", {}),
    }),
}
OPTIMIZERS = {
    "sgd": SGD, "adam, clipped": ("Adam", {"learning_rate": 0.05, "global_clipnorm": 0.3}),
    "adamw": ("AdamW", {"learning_rate": 0.02, "epsilon": 1e-4, "weight_decay": 0.1}),
}
networks = pytest.mark.parametrize("name", NETWORKS)


def array_of(argument):
    """The arrays of a layer that an argument may be about."""
    short = argument.removesuffix("_constraint")
    return (f"{short}_kernel", "kernel") if short == "depthwise" else (short, f"{short}_kernel")


def bounded(case, bounds, library):
    """The layers of a case with constraints, of a library."""
    made = []
    for i, (kind, arguments) in enumerate(case.layers):
        own = {argument: getattr(library.constraints, name)(**of)
               for (k, argument), (name, of) in bounds.items() if k == i}
        arguments = {key: getattr(library.regularizers, value[0])(**value[1])
                     if key.endswith("_regularizer") else value for key, value in arguments.items()}
        made.append(getattr(library.layers, kind)(**arguments, **own, dtype="float64"))
    return made


def built(name, optimizer, library=nbbn, seed=5):
    """A compiled model of float64 with the oracle's weights."""
    case, bounds = NETWORKS[name]
    model = library.Sequential([library.Input(case.input_shape), *bounded(case, bounds, library)])
    _, loss = case.built(library)
    model.compile(getattr(library.optimizers, optimizer[0])(**optimizer[1]), loss)
    model.build((None, *case.input_shape))
    model.set_weights(case.oracle(seed).get_weights())
    return model


def constrain(oracle, bounds):
    """What the constraints make of an oracle's weights."""
    for (i, argument), (kind, arguments) in bounds.items():
        if oracle.layers[i].trainable:
            name = next(name for name in array_of(argument) if name in oracle.weights[i])
            oracle.weights[i][name] = naive(kind, oracle.weights[i][name], **arguments)


def steps_of_oracle(name, optimizer):
    """The oracle's losses and weights after each of the steps."""
    case, bounds = NETWORKS[name]
    oracle, loss = case.oracle(), case.described()[1]
    rule = NaiveOptimizer(describe(optimizer[0], **optimizer[1]))
    for x, y, weight in case.batches():
        value = oracle.train_step(x, y, loss, rule, weight)
        constrain(oracle, bounds)
        yield value, [w.copy() for w in oracle.get_weights()]


def check_steps(model, name, ref, tolerance):
    for (x, y, weight), (value, weights) in zip(NETWORKS[name][0].batches(), ref, strict=True):
        got = model.train_on_batch(x, y, sample_weight=weight)
        np.testing.assert_allclose(got, value, rtol=tolerance)
        for one, other in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1, np.abs(other).max()))


@pytest.mark.parametrize(("name", "optimizer"), [
    *((name, "sgd") for name in NETWORKS),
    *((name, optimizer) for name in ("dense", "conv") for optimizer in OPTIMIZERS
      if optimizer != "sgd"),
])
def test_steps(name, optimizer):
    rule = OPTIMIZERS[optimizer]
    check_steps(built(name, rule), name, steps_of_oracle(name, rule), 1e-9)


@pytest.mark.filterwarnings("ignore")
@networks
def test_steps_are_keras(keras, name):  # noqa: F811
    theirs, case = built(name, SGD, keras), NETWORKS[name][0]
    ref = []
    for x, y, weight in case.batches():
        ref.append((theirs.train_on_batch(x, y, sample_weight=weight), theirs.get_weights()))
    check_steps(built(name, SGD), name, ref, 1e-10)


@pytest.mark.parametrize("name", ["dense", "conv", "embeddings"])
def test_bits_do_not_depend_on_threads(name, teams):  # noqa: F811
    x, y, _ = next(NETWORKS[name][0].batches())
    found = []
    for threads in (1, 2, 3):
        model = built(name, SGD)
        with nbbn.num_threads(threads):
            model.fit(x, y, batch_size=4, epochs=3, verbose=0, shuffle=False)
        found.append(model.get_weights())
    for other in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0], other, strict=True))


class Lattice(Constraint):
    """Rounds to multiples of a step."""

    def __init__(self, step=0.25):
        self.step = step

    def __call__(self, w):
        return np.round(w / self.step) * self.step

    def get_config(self):
        return {"step": self.step}


def small(kernel=None, **compiled):
    model = nbbn.Sequential([nbbn.Input((6,)), layers.Dense(5, "relu", kernel_constraint=kernel),
                             layers.BatchNormalization(gamma_constraint=MaxNorm(0.9)),
                             layers.Dense(2, kernel_constraint=UnitNorm())])
    model.compile(**{"optimizer": nbbn.optimizers.Adam(0.05), "loss": "mse", **compiled})
    return model


def on_lattice(array, step):
    return np.array_equal(array, np.round(array / step) * step)


def test_one_of_your_own():
    model = small(Lattice(0.125))
    history = model.fit(X, Y, epochs=4, batch_size=8, verbose=0).history["loss"]
    assert history[-1] < history[0] and on_lattice(model.get_weights()[0], 0.125)
    function = small(lambda w: np.clip(w, -0.2, 0.2).tolist())
    function.fit(X, Y, epochs=2, batch_size=8, verbose=0)
    assert np.abs(function.get_weights()[0]).max() == np.float32(0.2)


@pytest.mark.parametrize(("wrong", "got"), [
    (lambda w: w[:2], r"shape \(2, 5\)"), (lambda w: None, "NoneType"), (lambda w: 3.0, r"shape \(\)"),
])
def test_what_it_gives_is_checked(wrong, got):
    with pytest.raises(ValueError, match="'dense': kernel_constraint must give an array of the "
                       rf"weights' shape \(6, 5\), got {got}"):
        small(wrong).fit(X, Y, verbose=0)


def test_generators_and_single_steps():
    for train in (lambda model: model.train_on_batch(X, Y),
                  lambda model: model.fit(((X[k: k + 8], Y[k: k + 8]) for k in range(0, 48, 8)),
                                          verbose=0)):
        model = small("non_neg")
        train(model)
        assert model.get_weights()[0].min() >= 0
        np.testing.assert_allclose(np.linalg.norm(model.get_weights()[-2], axis=0), 1, rtol=1e-5)


def test_accumulated_batches_are_one_step():
    one, other = small("max_norm"), small("max_norm", optimizer=nbbn.optimizers.Adam(
        0.05, gradient_accumulation_steps=2))
    other.set_weights(one.get_weights())
    one.fit(X, Y, batch_size=16, verbose=0, shuffle=False)
    other.fit(X, Y, batch_size=8, verbose=0, shuffle=False)
    assert all((a == b).all() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_layer_that_is_shared():
    a, b = nbbn.Input((3,), name="a"), nbbn.Input((3,), name="b")
    shared = layers.Dense(4, kernel_constraint=Lattice(0.5))
    model = nbbn.Model([a, b], layers.Dense(2)(layers.Add()([shared(a), shared(b)])))
    model.compile("adam", "mse")
    model.fit([X[:, :3], X[:, 3:]], Y, epochs=2, verbose=0)
    assert on_lattice(model.get_weights()[0], 0.5)


def test_files_and_copies(tmp_path):
    ones = small(Lattice(0.125)), small(MinMaxNorm(0.5, 0.75, axis=[0]))
    for model in ones:
        model.fit(X, Y, epochs=2, batch_size=8, verbose=0)
        model.save(tmp_path / "m.safetensors")
        read = nbbn.load(tmp_path / "m.safetensors")
        for again in (model, read):
            again.fit(X, Y, epochs=2, batch_size=8, verbose=0, shuffle=False)
        assert all((a == b).all() for a, b in
                   zip(model.get_weights(), read.get_weights(), strict=True))
        np.testing.assert_array_equal(read.predict(X), pickle.loads(pickle.dumps(model)).predict(X))
        copy = nbbn.models.model_from_json(model.to_json())
        assert copy.layers[0].kernel_constraint.get_config() == (
            model.layers[0].kernel_constraint.get_config())
    np.testing.assert_allclose(ones[0].fold().predict(X), ones[0].predict(X), atol=1e-5)
    plain = small(np.abs)
    assert nbbn.models.clone_model(plain).layers[0].kernel_constraint is np.abs
    for write in (lambda: plain.save(tmp_path / "no.safetensors"), plain.to_json):
        with pytest.raises(TypeError, match=r"kernel_constraint is the function .* which no file hol"):
            write()
    assert not (tmp_path / "no.safetensors").exists()


def test_estimators_take_them():
    one = nbbn.SequentialRegressor([layers.Dense(4, "relu", kernel_constraint="non_neg"),
                                    layers.Dense(2)], epochs=2)
    assert one.fit(X, Y).model_.get_weights()[0].min() >= 0


def test_shards_are_constrained_as_a_whole():
    ref, found = small(Lattice(0.125)), small(Lattice(0.125))
    found.set_weights(ref.get_weights())
    ref.fit(X, Y, batch_size=12, epochs=2, verbose=0, shuffle=False)
    found._fit(Shards([0, 10, 10, 48]), X, Y, 12, 2, 0, shuffle=False)
    for a, b in zip(ref.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    assert on_lattice(found.get_weights()[0], 0.125)


# -- Keras's files


def test_keras_files(tmp_path):
    case = vector(dense(19, "relu"))
    network = case.oracle()
    config = sequential_config(network, case.input_shape)
    own = {"module": None, "class_name": "Lattice", "config": {"step": 0.5},
           "registered_name": "mine>Lattice"}
    one = {"module": "keras.constraints", "class_name": "MaxNorm",
           "config": {"max_value": 3, "axis": [0]}, "registered_name": None}
    for layer, value in zip(config["config"]["layers"][1:], (one, own)):
        layer["config"] |= {"kernel_constraint": value, "bias_constraint": "non_neg"}
    path = tmp_path / "m.keras"
    path.write_bytes(keras_file(config, weights_file(network)))
    model = nbbn.interop.from_keras(path)
    first, second = model.layers[0], model.layers[-1]
    assert first.kernel_constraint == MaxNorm(3, [0]) and first.bias_constraint == NonNeg()
    assert isinstance(second.kernel_constraint, Lattice) and second.kernel_constraint.step == 0.5
    own |= {"class_name": "Mine", "registered_name": "mine>Mine"}
    path.write_bytes(keras_file(config, weights_file(network)))
    with pytest.raises(nbbn.FileError, match=r"kernel_constraint is the Mine .* define the subclass"):
        nbbn.interop.from_keras(path)


@pytest.mark.filterwarnings("ignore")
def test_files_of_keras_itself(keras, tmp_path):  # noqa: F811
    theirs = built("conv", SGD, keras)
    theirs.save(tmp_path / "m.keras")
    model = nbbn.interop.from_keras(tmp_path / "m.keras")
    assert model.layers[0].kernel_constraint == MaxNorm(0.5, [0, 1, 2])
    assert model.layers[3].kernel_constraint == UnitNorm([0, 1, 2])
    assert model.layers[4].kernel_constraint == NonNeg()
