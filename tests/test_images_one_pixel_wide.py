"""Images one pixel wide: the numbers of the same images turned on their side."""

import numpy as np
import pytest

import nbbn
from nbbn.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    Input,
    MaxPooling2D,
    ReLU,
)

LENGTH, CHANNELS = 23, 3
norm = BatchNormalization


def tall(*pair):
    return pair[::-1]


def wide(*pair):
    return pair


def layers(name, way):
    """A network whose numbers along and across the image are put in order by `way`."""
    return {
        "valid": [Conv2D(9, way(1, 3)), norm(), ReLU(), Conv2D(5, way(1, 4)), norm()],
        "square same": [Conv2D(9, 3, padding="same"), norm(), ReLU(), Conv2D(20, 3, padding="same")],
        "strides": [Conv2D(9, way(1, 5), strides=way(1, 2), padding="same"), norm(), ReLU(),
                    Conv2D(4, way(1, 2), strides=way(1, 3))],
        "square strides": [Conv2D(9, 3, strides=2, padding="same"), norm(), ReLU(),
                           Conv2D(4, 3, strides=2, padding="same")],
        "dilation": [Conv2D(9, way(1, 3), dilation_rate=way(1, 2)), norm(), ReLU(),
                     Conv2D(5, way(1, 3), dilation_rate=way(1, 3), padding="same")],
        "square dilation": [Conv2D(9, 3, dilation_rate=2, padding="same"), norm(), ReLU(),
                            Conv2D(9, 3, dilation_rate=2, padding="same")],
        "transposed": [Conv2DTranspose(9, way(1, 3), strides=way(1, 2)), norm(), ReLU(),
                       Conv2DTranspose(4, way(1, 2), strides=way(1, 3), padding="same")],
        "max pools": [Conv2D(9, way(1, 3), padding="same"), norm(), ReLU(),
                      MaxPooling2D(way(1, 2)), Conv2D(17, way(1, 2)), norm(),
                      MaxPooling2D(way(1, 3))],
        "pools with strides": [Conv2D(9, 3, padding="same"), norm(), ReLU(),
                               MaxPooling2D(way(1, 3), strides=way(1, 2)),
                               AveragePooling2D(way(1, 2), padding="same")],
        "depthwise": [DepthwiseConv2D(3, padding="same", depth_multiplier=2), norm(), ReLU(),
                      DepthwiseConv2D(way(1, 3), strides=way(1, 1))],
        "made one wide": [Conv2D(8, way(1, 1)), norm(), ReLU(),
                          Conv2DTranspose(6, way(3, 1)), norm(), Conv2D(7, way(3, 2)), ReLU(),
                          Conv2D(7, way(1, 2))],
    }[name]


NAMES = ("valid", "square same", "strides", "square strides", "dilation", "square dilation",
         "transposed", "max pools", "pools with strides", "depthwise", "made one wide")


def turned(array):
    """A kernel or rows of images with height and width exchanged; anything else as it is."""
    return array.swapaxes(0, 1) if array.ndim == 4 else array


def model(name, way, dtype, weights=None):
    net = nbbn.Sequential([Input((*way(1, LENGTH), CHANNELS)), *layers(name, way),
                           Flatten(), Dense(4, activation="softmax", dtype=dtype)])
    net.compile(nbbn.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    if weights is not None:
        net.set_weights(weights)
    return net


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_as_on_its_side(name, dtype, tolerance, threads):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(19, 1, LENGTH, CHANNELS)).astype(dtype), np.arange(19) % 4
    lying = model(name, wide, dtype)
    lying.set_weights([a + 0.1 * rng.normal(size=a.shape).astype(dtype) ** 2
                       for a in lying.get_weights()])
    standing = model(name, tall, dtype, [turned(a) for a in lying.get_weights()])
    for net, rows in ((lying, x), (standing, x.swapaxes(1, 2))):
        with nbbn.num_threads(threads):
            net.fit(rows, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(lying.get_weights(), standing.get_weights()):
        np.testing.assert_allclose(turned(b), a, rtol=tolerance, atol=tolerance)
    expected = lying.predict(x, verbose=0)
    assert np.ptp(expected) > 0.01
    for net in (standing, standing.fold()):
        with nbbn.num_threads(threads):
            found = net.predict(x.swapaxes(1, 2))
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
