"""Layers over steps: what they cost, how they fold, what they keep in files, and whole channels that
are dropped.
"""

from __future__ import annotations

import numpy as np
import pytest
from naive_layers import NaiveNetwork
from networks import OF_STEPS, Case
from test_csource import drawn
from test_shards import Shards, trained

import nbbn
from nbbn import Sequential, layers
from nbbn.fallback import NumpyBlocks
from nbbn.fold import fold_network
from nbbn.formats.native import load, save
from nbbn.group import ALONE
from nbbn.layers import (
    BatchNormalization,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LayerError,
    MaxPooling1D,
    MaxPooling2D,
    ReLU,
    Reshape,
    SeparableConv1D,
    SeparableConv2D,
    SpatialDropout1D,
    SpatialDropout2D,
)
from nbbn.network import computation
from nbbn.optimizers import SGD
from nbbn.predictor import Predictor
from nbbn.program.inference import InferenceProgram
from nbbn.program.training import lower_training
from nbbn.trainer import Trainer

F32 = np.dtype("float32")


def kernels(program):
    return [call.kernel for call in program.operations]


# -- reshapes between steps and images cost nothing


STEPS = [
    Conv1D(6, 3, padding="same"), BatchNormalization(), ReLU(), MaxPooling1D(2), Conv1D(17, 2),
    BatchNormalization(), ReLU(), Conv1D(5, 1, activation="relu"), Flatten(), Dense(3),
]
LINES = [
    Conv2D(6, (1, 3), padding="same"), BatchNormalization(), ReLU(), MaxPooling2D((1, 2)),
    Conv2D(17, (1, 2)), BatchNormalization(), ReLU(), Conv2D(5, 1, activation="relu"), Flatten(),
    Dense(3),
]


def test_steps_are_computed_as_images_of_one_line():
    steps, lines = computation(STEPS, (12, 3)), computation(LINES, (1, 12, 3))
    inference = [InferenceProgram(c.inference, F32).program for c in (steps, lines)]
    training = [lower_training(c, F32, 8, "mean_squared_error", SGD()).program
                for c in (steps, lines)]
    for (one, other) in (inference, training):
        assert kernels(one) == kernels(other)
        assert one.sizes == other.sizes
    assert "conv_pool_forward" in kernels(InferenceProgram(
        computation([Conv1D(6, 3), ReLU(), MaxPooling1D(2)], (12, 3)).inference, F32).program)
    assert "norm_pool_forward" in kernels(training[0])


@pytest.mark.parametrize("name", [name for name in OF_STEPS if "four axes" not in name])
def test_no_numbers_move_but_at_the_ends(name):
    """Where no convolution reads the caller's rows, where they become others, at the end."""
    case = OF_STEPS[name]
    program = InferenceProgram(
        computation(case.built(nbbn)[0], case.input_shape).inference, F32).program
    others = [kind for kind, _ in case.layers if kind in ("Flatten", "Reshape", "RepeatVector")]
    assert kernels(program).count("repack") <= 2 + len(others)


def test_one_layer_on_the_input_and_on_a_result():
    """It reads the caller's rows as it reads the other: padded."""
    x = layers.Input((8, 3))
    conv = Conv1D(3, 3, padding="same")
    model = nbbn.Model(x, Dense(2)(Flatten()(conv(ReLU()(conv(x))))))
    model.compile("sgd", "mse")
    rows = np.random.default_rng(0).normal(size=(20, 8, 3)).astype("float32")
    model.fit(rows, np.zeros((20, 2)), verbose=0)
    ref = NumpyBlocks(model.network()).run(rows)
    np.testing.assert_allclose(model.predict(rows, verbose=0), ref, rtol=0, atol=1e-6)


@pytest.mark.parametrize("first", [Flatten(), Reshape((1, 4, 3))], ids=["flat", "a line"])
def test_readers_of_the_input_leave_it_as_it_is(first):
    """A batch norm works in place, and a dense layer beside it reads the caller's rows."""
    x = layers.Input((4, 3))
    y = first(x)
    model = nbbn.Model(x, [Dense(5)(y), BatchNormalization()(y)])
    model.compile("sgd", ["mse", "mse"])
    rows = np.random.default_rng(0).normal(size=(10, 4, 3)).astype("float32")
    before, shapes = rows.copy(), [shape[1:] for shape in model.output_shape]
    model.fit(rows, [np.zeros((10, *shape)) for shape in shapes], verbose=0)
    got = [part.reshape(10, -1) for part in model.predict(rows, verbose=0)]
    np.testing.assert_array_equal(rows, before)
    ref = NumpyBlocks(model.network()).run(rows)
    np.testing.assert_allclose(np.concatenate(got, 1), ref, rtol=0, atol=1e-6)


# -- folding


NORM = BatchNormalization()
FOLDS = {
    "steps, before and after": ((9, 4), [NORM, Conv1D(6, 3, groups=2), NORM], (Conv1D,)),
    "transposed steps": ((5, 4), [layers.Conv1DTranspose(6, 3, 2), NORM],
                         (layers.Conv1DTranspose,)),
    "depthwise steps": ((9, 4), [NORM, layers.DepthwiseConv1D(3, depth_multiplier=2), NORM],
                        (layers.DepthwiseConv1D,)),
    "separable, before and after": ((7, 6, 4), [NORM, SeparableConv2D(6, 3, depth_multiplier=2),
                                                NORM], (SeparableConv2D,)),
    "separable, before": ((7, 6, 4), [NORM, SeparableConv2D(6, 3, use_bias=False)],
                          (SeparableConv2D,)),
    "separable, after": ((9, 4), [SeparableConv1D(6, 3, padding="same"), NORM], (SeparableConv1D,)),
    "separable steps, before": ((9, 4), [NORM, SeparableConv1D(6, 3)], (SeparableConv1D,)),
    "through a crop": ((9, 4), [Conv1D(6, 2), layers.Cropping1D((1, 2)), NORM, ReLU()],
                       (Conv1D, layers.Cropping1D, ReLU)),
    "over cropped columns": ((5, 6, 4), [BatchNormalization(2), layers.Cropping2D(1),
                                         BatchNormalization(2)],
                             (layers.Cropping2D, BatchNormalization)),
    "through moves": ((9, 4), [Conv1D(6, 2), layers.UpSampling1D(2), layers.Permute((2, 1)),
                               layers.Permute((2, 1)), NORM],
                      (Conv1D, layers.UpSampling1D, layers.Permute, layers.Permute)),
    "through pools": ((9, 4), [Conv1D(6, 2), layers.AveragePooling1D(2), NORM,
                               layers.GlobalAveragePooling1D(), Dense(3)],
                      (Conv1D, layers.AveragePooling1D, layers.GlobalAveragePooling1D, Dense)),
}


@pytest.mark.parametrize("name", FOLDS)
def test_folds(name):
    shape, before, left = FOLDS[name]
    network = drawn(shape, before, np.float64)
    folded, report = fold_network(network)
    assert tuple(map(type, folded.layers)) == left
    x = np.random.default_rng(1).normal(size=(5, *shape))
    ref = NaiveNetwork(network.layers, shape, network.weights).forward(x)
    for run in (NumpyBlocks(folded).run, Predictor(folded)):
        np.testing.assert_allclose(run(x).reshape(ref.shape), ref, rtol=0,
                                   atol=1e-13 * max(1, np.abs(ref).max()))
    wanted = [layer.weight_shapes(before) for layer, ((before,), _) in
              zip(folded.layers, folded.layer_shapes)]
    assert wanted == [{n: a.shape for n, a in arrays.items()} for arrays in folded.weights]


@pytest.mark.parametrize("layer", [Conv1D(6, 3, padding="causal"),
                                   SeparableConv1D(6, 3, padding="same")], ids=repr)
def test_padding_takes_no_norm_in(layer):
    folded, report = fold_network(drawn((9, 4), [NORM, layer]))
    assert len(folded.layers) == 2
    assert "pads with zeros" in report.entries[0].reason


# -- files


def test_arrays_keep_the_users_layout(tmp_path):
    network = drawn((9, 4), [Conv1D(6, 3, groups=2), SeparableConv1D(5, 2),
                             layers.Conv1DTranspose(3, 2)])
    save(tmp_path / "model.nbbn", network, {})
    read = load(tmp_path / "model.nbbn").network
    assert read.layers == network.layers
    assert [{n: a.shape for n, a in arrays.items()} for arrays in read.weights] == [
        {"kernel": (3, 2, 6), "bias": (6,)},
        {"depthwise_kernel": (2, 6, 1), "pointwise_kernel": (1, 6, 5), "bias": (5,)},
        {"kernel": (2, 3, 5), "bias": (3,)},
    ]
    for one, other in zip(network.weights, read.weights, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


def test_training_goes_on_from_a_file(tmp_path):
    """The optimiser's state of several kernels in one layer is kept by their names."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 9, 4)).astype("float32"), rng.integers(3, size=32)

    def made():
        model = Sequential([layers.Input((9, 4)), SeparableConv1D(5, 2), Conv1D(4, 2),
                            layers.GlobalAveragePooling1D(), Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    nbbn.set_random_seed(0)
    model = made()
    model.fit(x, y, shuffle=False, verbose=0)
    model.save(tmp_path / "model.nbbn")
    other = nbbn.load(tmp_path / "model.nbbn")
    for one in (model, other):
        one.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# -- whole channels dropped


ROWS = 64


def dropped(shape, layer, threads=1, dtype="f8", steps=1):
    """Rows of ones as they leave a dropout in training: see `test_noise`."""
    size = int(np.prod(shape))
    net = [Reshape(shape), layer, Flatten(), Dense(ROWS, use_bias=False)]
    seen = []
    with nbbn.num_threads(threads):
        trainer = Trainer(computation(net, (size,)), np.dtype(dtype), np.dtype(dtype), ROWS,
                          "mean_squared_error", SGD(1.0), seed=1)
        for _ in range(steps):
            trainer.upload([{}, {}, {}, {"kernel": np.zeros((size, ROWS), dtype)}])
            trainer.epoch(np.ones((ROWS, size), dtype), np.eye(ROWS, dtype=dtype), np.arange(ROWS),
                          np.array([0, ROWS]), np.ones(1))
            kernel = trainer.download()[3]["kernel"]
            seen.append(kernel.T.reshape(ROWS, *shape) * (ROWS * ROWS / 2))
    return np.array(seen)


@pytest.mark.parametrize(("shape", "layer", "axes"), [
    ((9, 50), SpatialDropout1D(0.25, seed=3), (2,)),
    ((3, 4, 50), SpatialDropout2D(0.25, seed=3), (2, 3)),
    ((9, 50), Dropout(0.25, (None, None, 1), seed=3), (3,)),
    ((3, 40, 5), Dropout(0.25, (ROWS, 1, 40, 1), seed=3), (2, 4)),
    ((200,), Dropout(0.25, (None, 1), seed=3), (2,)),
], ids=repr)
def test_whole_channels_are_dropped(shape, layer, axes):
    got = dropped(shape, layer, steps=2)
    np.testing.assert_allclose(got[got != 0], 1 / 0.75, rtol=1e-12)
    masks = got.max(axes, keepdims=True)
    np.testing.assert_array_equal(got, np.broadcast_to(masks, got.shape))
    share = (masks == 0).mean()
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / masks.size)
    assert (masks[0] != masks[1]).any() and (masks != masks[:, :1]).any()
    np.testing.assert_array_equal(got, dropped(shape, layer, threads=2, steps=2))


def test_dropped_channels_have_no_gradient():
    """The kernel in front moves by what the channels behind it let through, and inference keeps
    all of them.
    """
    model = Sequential([layers.Input((4, 3)), Conv1D(40, 1, use_bias=False),
                        SpatialDropout1D(0.5, seed=1), Flatten(), Dense(1, use_bias=False)])
    model.compile(SGD(0.1), "mse")
    rows = np.random.default_rng(0).normal(size=(1, 4, 3))
    before = model.get_weights()
    model.fit(rows, np.ones((1, 1)), verbose=0)
    moved = [(a != b) for a, b in zip(before, model.get_weights())]
    channels = moved[0].reshape(3, 40).any(0)
    np.testing.assert_array_equal(channels, moved[1].reshape(4, 40).any(0))
    assert 0 < channels.sum() < 40
    ref = NumpyBlocks(model.network()).run(rows)
    np.testing.assert_allclose(model.predict(rows, verbose=0), ref, rtol=0, atol=1e-6)


def test_one_draw_for_all_rows_is_refused_in_training():
    model = Sequential([layers.Input((4, 3)), Dropout(0.5, (1, 4, 3)), Flatten(), Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(LayerError, match="with one draw for all rows; begin it with None"):
        model.fit(np.zeros((2, 4, 3)), np.zeros((2, 1)), verbose=0)


def test_shards_drop_the_channels_of_the_whole_batch():
    case = Case((6, 4), [("Conv1D", {"filters": 8, "kernel_size": 2}),
                         ("SpatialDropout1D", {"rate": 0.4}), ("Flatten", {}),
                         ("Dense", {"units": 3, "activation": "softmax"})])
    losses, weights = trained(case, ALONE, 1)
    rows = sum(case.rows)
    found, its_weights = trained(case, Shards([0, 2, 3, 3, rows // 2, rows]), 1)
    np.testing.assert_allclose(found, losses, rtol=1e-11)
    for one, other in zip(its_weights, weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)
