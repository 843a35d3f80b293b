"""Three steps of every network of `architectures.py`, and Keras's numbers of them.

`architecture_numbers.json` was written by Keras 3.15.1 on jax, in float64, by
`python tests/architecture_numbers.py` where Keras is installed; names given there are written anew,
the others stay.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from architectures import (
    ARCHITECTURES,
    NAMES,
    Named,
    alone_or_all,
    draw_weights,
    rows_of,
    targets_of,
    weights_by_name,
)

PATH = Path(__file__).with_suffix(".json")
OPTIMIZERS = {
    "momentum": ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    "adam": ("Adam", {"learning_rate": 0.01}),
}
STEPS, ROWS = 3, 12


class Trained(NamedTuple):
    """What comes of three steps."""

    losses: np.ndarray  # (steps, 1), or of several outputs the whole and each
    weights: dict[str, list[np.ndarray]]
    before: list[np.ndarray]  # what the model predicts, an array for each output
    after: list[np.ndarray]


def trained(namespace: Any, name: str, optimizer: str, dtype: str = "float64") -> Trained:
    """Train a network of nbbn or of Keras."""
    architecture = ARCHITECTURES[name]
    model = architecture.make(Named(namespace, dtype))
    draw_weights(model)
    return three_steps(namespace, model, architecture, optimizer, dtype)


def three_steps(namespace: Any, model: Any, architecture: Any, optimizer: str,
                dtype: str = "float64") -> Trained:
    """Train a model that is made, on three batches of which no two are the same."""
    kind, arguments = OPTIMIZERS[optimizer]
    model.compile(getattr(namespace.optimizers, kind)(**arguments), architecture.loss,
                  loss_weights=architecture.loss_weights)
    x = rows_of(model, STEPS * ROWS, dtype=dtype)
    y = targets_of(model, architecture, STEPS * ROWS, dtype=dtype)
    before, losses = predictions(model, x), []
    for step in range(STEPS):
        batch = slice(step * ROWS, (step + 1) * ROWS)
        losses.append(model.train_on_batch(alone_or_all([one[batch] for one in x]),
                                           alone_or_all([one[batch] for one in y])))
    return Trained(np.array(losses, "float64").reshape(STEPS, -1), weights_by_name(model), before,
                   predictions(model, x))


def predictions(model: Any, x: list[np.ndarray]) -> list[np.ndarray]:
    """Of some rows, an array for each output."""
    given = alone_or_all([one[:ROWS] for one in x])
    made = model.predict_on_batch(given)
    return [np.asarray(one) for one in (made if isinstance(made, list) else [made])]


# Classifiers and an estimator, whose last layer is cut off.
TRANSFERRED = [name for name, one in ARCHITECTURES.items()
               if one.loss == "sparse_categorical_crossentropy" or name == "residual_mlp"]


def transferred(namespace: Any, name: str, dtype: str = "float64") -> Trained:
    """Another head on a network: trained alone, then with all but the norms."""
    k = Named(namespace, dtype)
    whole = ARCHITECTURES[name].make(k)
    base = namespace.Model(whole.input, whole.layers[-1].input, name="base")
    base.trainable = False
    inputs = k.Input(tuple(whole.input_shape[1:]))
    model = namespace.Model(inputs, k.layers.Dense(4, activation="softmax")(base(inputs)))
    draw_weights(model)
    alone = three_steps(namespace, model, ARCHITECTURES["resnet_v1"], "momentum", dtype)
    base.trainable = True
    for layer in base.layers:
        if isinstance(layer, namespace.layers.BatchNormalization):
            layer.trainable = False
    tuned = three_steps(namespace, model, ARCHITECTURES["resnet_v1"], "momentum", dtype)
    return tuned._replace(losses=np.concatenate([alone.losses, tuned.losses]))


# Those that are tuned as Keras's guide to transfer learning writes it.
TUNED = ["resnet_v1", "residual_mlp"]


def tuned(namespace: Any, name: str, dtype: str = "float64") -> Trained:
    """A base called with `training=False`, which Keras 3 sets aside in `fit`: its norms are trained
    with the rest once it is trainable again.
    """
    k = Named(namespace, dtype)
    whole = ARCHITECTURES[name].make(k)
    base = namespace.Model(whole.input, whole.layers[-1].input, name="base")
    base.trainable = False
    inputs = k.Input(tuple(whole.input_shape[1:]))
    x = k.layers.BatchNormalization()(base(inputs, training=False), training=False)
    model = namespace.Model(inputs, k.layers.Dense(4, activation="softmax")(x))
    draw_weights(model)
    alone = three_steps(namespace, model, ARCHITECTURES["resnet_v1"], "momentum", dtype)
    base.trainable = True
    whole = three_steps(namespace, model, ARCHITECTURES["resnet_v1"], "adam", dtype)
    return whole._replace(losses=np.concatenate([alone.losses, whole.losses]))


# -- numbers that are kept


def kept(found: Trained) -> dict[str, Any]:
    """The numbers that stand in the file: of each array what `seen` makes of it."""
    return {
        "losses": found.losses.tolist(),
        "weights": {name: [seen(array, f"{name}/{i}") for i, array in enumerate(arrays)]
                    for name, arrays in found.weights.items()},
        "before": [seen(array, "before") for array in found.before],
        "after": [seen(array, "after") for array in found.after],
    }


def seen(array: np.ndarray, name: str) -> float:
    """An array along a direction that its name decides: each of its numbers counts."""
    direction = np.random.default_rng(zlib.crc32(name.encode())).normal(size=array.size)
    return float(direction @ array.ravel().astype("float64"))


def kept_numbers() -> dict[str, Any]:
    """What is in the file: by architecture, then by optimiser."""
    return json.loads(PATH.read_text()) if PATH.exists() else {}


@contextlib.contextmanager
def keras_in_float64():
    """Keras, on jax or torch, that computes in float64 throughout."""
    found = [name for name in ("jax", "torch") if importlib.util.find_spec(name)]
    if importlib.util.find_spec("keras") is None:
        pytest.skip("no Keras")
    if "KERAS_BACKEND" not in os.environ and not found:
        pytest.skip("no backend for Keras")
    os.environ.setdefault("KERAS_BACKEND", found[0] if found else "")
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    with pytest.MonkeyPatch.context() as patch:
        # Keras takes the type of a result of two float64 arrays for float32.
        patch.setattr("keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE", {})
        yield keras
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def write(names: list[str]) -> None:
    """Write Keras's numbers of these networks; those of others stay."""
    numbers = kept_numbers()
    with keras_in_float64() as keras:
        for name in names:
            numbers[name] = {optimizer: kept(trained(keras, name, optimizer))
                             for optimizer in OPTIMIZERS}
            if name in TRANSFERRED:
                numbers[name]["transferred"] = kept(transferred(keras, name))
            if name in TUNED:
                numbers[name]["tuned"] = kept(tuned(keras, name))
            print(name, numbers[name])
    lines = [f'"{name}": {json.dumps(numbers[name])}' for name in sorted(numbers)]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write(sys.argv[1:] or NAMES)
