"""What fills vectors up to their end is counted nowhere: not in penalties, not in norms of
gradients, and no step moves it from 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from naive_layers import STATISTICS
from networks import NETWORKS, RELU, conv, dense, depthwise, image, layer_norm, norm, vector
from test_races import layers_of
from test_sequential_numbers import REFUSED, names

import nbbn
from nbbn.optimizers import SGD, Adam, AdamW, RMSprop

L = nbbn.layers
IN_USE = [name for name in NETWORKS if name not in REFUSED]
OPTIMIZERS = [  # in turn
    Adam(0.01, amsgrad=True),
    AdamW(0.01, weight_decay=0.1),
    RMSprop(0.01, momentum=0.5, centered=True),
    SGD(0.01, momentum=0.9, nesterov=True, global_clipnorm=0.5),
    SGD(0.01, clipnorm=0.5),
]


def compiled(layers, optimizer, loss, shape=None):
    nbbn.set_random_seed(5)
    model = nbbn.Sequential(layers)
    model.compile(optimizer, loss)
    if shape is not None:
        model.build((None, *shape))
    return model


def padding_of(block, memory, dtype):
    """The block's memory without its array."""
    flat = block.view(memory, dtype)
    rest = flat.copy()
    block.layout.write(rest, np.zeros_like(block.layout.read(flat)))
    return rest


@pytest.mark.parametrize("place", range(len(IN_USE)), ids=IN_USE)
def test_padding_stays_zero(place):
    case, optimizer = NETWORKS[IN_USE[place]], OPTIMIZERS[place % len(OPTIMIZERS)]
    model = compiled(layers_of(case, regularized=True), optimizer, case.built(nbbn)[1])
    for x, y, weight in case.batches(np.float32):
        model.train_on_batch(x, y, sample_weight=weight)
    trainer = model._compiled.trainer
    parameters = trainer.lowered.parameters
    blocks = {
        (layer, array): block
        for (layer, array), block in parameters.blocks.items()
        if parameters.is_trained(layer, array)
    }
    for key, block in {**blocks, **trainer.lowered.slots}.items():
        assert not padding_of(block, trainer.params, trainer.dtype).any(), key


def steps_of(case, optimizer):
    """What one step takes from each trained array, in float64, every array regularised."""
    x, y, weight = next(case.batches(np.float64))
    layers = in_float64(layers_of(case, regularized=True))
    model = compiled(layers, optimizer, case.built(nbbn)[1], case.input_shape)
    model.set_weights(case.oracle().get_weights())
    before = model.get_weights()
    model.train_on_batch(x, y, sample_weight=weight)
    return [
        b - a
        for b, a, name in zip(before, model.get_weights(), names(case.oracle()), strict=True)
        if name.split()[-1] not in STATISTICS
    ]


def in_float64(layers):
    """The same layers, computing in float64."""
    return [replace(layer, dtype="float64") for layer in layers]


# 19 and 3 channels: vectors that are not full; sigmoid(0) is not 0, so padding has values.
CLIPPED = {
    "dense": vector(dense(19, "sigmoid"), norm()),
    "layer norm": vector(dense(19), layer_norm(), RELU),
    "image": image(
        conv(3, activation="softplus"), norm(), depthwise(), norm(), RELU, conv(5, 1), layer_norm()
    ),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_global_clipnorm_is_that_of_the_arrays(name):
    case, bound = CLIPPED[name], 0.01
    gradients, steps = steps_of(case, SGD(1.0)), steps_of(case, SGD(1.0, global_clipnorm=bound))
    length = np.sqrt(sum((g**2).sum() for g in gradients))
    for g, step in zip(gradients, steps):
        np.testing.assert_allclose(step, g * min(1, bound / length), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", CLIPPED)
def test_clipnorm_is_that_of_each_array(name):
    case, bound = CLIPPED[name], 0.01
    gradients, steps = steps_of(case, SGD(1.0)), steps_of(case, SGD(1.0, clipnorm=bound))
    for g, step in zip(gradients, steps):
        length = max(np.linalg.norm(g), 1e-300)
        np.testing.assert_allclose(step, g * min(1, bound / length), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("l1, l2", [(0, 0.01), (0.01, 0), (0.02, 0.03)])
@pytest.mark.parametrize("channels", [1, 3, 8, 16, 17])
@pytest.mark.parametrize(
    "kind", ["BatchNormalization", "LayerNormalization", "GroupNormalization", "bias", "image"]
)
def test_shown_penalty(kind, channels, l1, l2):
    penalty, rng = nbbn.regularizers.L1L2(l1=l1, l2=l2), np.random.default_rng(2)
    x, losses = rng.normal(size=(32, 4)), []
    if kind == "image":
        x = rng.normal(size=(32, 3, 3, channels))
    y = rng.integers(channels, size=32)
    for rule in (None, penalty):
        if kind == "bias":  # of the layer before the softmax, whose padding must not win
            layers = [L.Dense(channels, "softmax", bias_regularizer=rule, bias_initializer="ones")]
        elif kind == "image":
            layers = [
                L.BatchNormalization(gamma_regularizer=rule),
                L.Flatten(),
                L.Dense(channels, "softmax"),
            ]
        else:
            arguments = {"groups": 1} if kind == "GroupNormalization" else {}
            layers = [
                L.Dense(channels),
                getattr(L, kind)(gamma_regularizer=rule, **arguments),
                L.Dense(channels, "softmax"),
            ]
        model = compiled(in_float64(layers), SGD(0.0), "sparse_categorical_crossentropy")
        losses.append(model.fit(x, y, batch_size=32, shuffle=False, verbose=0).history["loss"][0])
    assert losses[1] - losses[0] == pytest.approx((l1 + l2) * channels, abs=1e-9)


def test_softmax_knows_its_units():
    """Five classes of very negative logits: the padding's zeros are larger, and win nothing."""
    x, y = np.full((7, 2), -300.0), np.arange(7) % 5
    for loss, targets in (
        ("sparse_categorical_crossentropy", y),
        ("categorical_crossentropy", np.eye(5)[y]),
    ):
        layer = L.Dense(5, "softmax", dtype="float64", kernel_initializer="ones")
        model = compiled([layer], SGD(0.0), loss)
        history = model.fit(x, targets, verbose=0, shuffle=False).history
        assert history["loss"][0] == pytest.approx(np.log(5), abs=1e-12)


@pytest.mark.parametrize("activation", ["sigmoid", "softplus"])
def test_padding_stays_zero_where_rows_come_in_chunks(activation, rng):
    """A clipped gradient of many rows is summed in chunks, in memory."""
    units, rows = 300, 2000
    model = compiled([L.Dense(units, activation), L.Dense(5, "softmax")],
                     SGD(0.1, global_clipnorm=1.0), "sparse_categorical_crossentropy", (7,))
    model.train_on_batch(rng.normal(size=(rows, 7)), rng.integers(0, 5, rows))
    trainer = model._compiled.trainer
    chunks = [op.operands["chunk"] for op in trainer.lowered.program.operations
              if "chunk" in op.operands]
    assert min(chunks) < rows
    block = trainer.lowered.parameters.blocks[1, "kernel"]
    assert not padding_of(block, trainer.params, trainer.dtype).any()
