"""Small networks of the kinds that batch norm was made for, written once for nbbn and for Keras.

Each is a function of a namespace, `nbbn` or `keras`, that has `Input`, `Model`, `Sequential` and
`layers`. `Named` around either gives every layer the same name and dtype in both.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import nbbn


class Named:
    """A namespace whose layers are named in the order in which they are made.

    Parameters
    ----------
    namespace : module
        `nbbn` or `keras`.
    dtype : str, optional
        Of all layers.
    """

    def __init__(self, namespace: Any, dtype: str | None = None):
        self._of, self._dtype = namespace, dtype
        self.layers, self._seen = self, dict[str, int]()

    def __getattr__(self, name: str) -> Any:
        if name in ("Model", "Sequential"):
            return getattr(self._of, name)
        return partial(self._made, name)

    def _made(self, kind: str, *args: Any, **more: Any) -> Any:
        self._seen[kind] = number = self._seen.get(kind, 0) + 1
        if self._dtype is not None:
            more.setdefault("dtype", self._dtype)
        more.setdefault("name", f"{kind.lower()}_n{number}")
        return getattr(self._of.layers, kind)(*args, **more)


# -- parts


def conv_norm(k, x, filters, size=3, activation="relu", **more):
    """A convolution, its norm, and an activation."""
    x = k.layers.Conv2D(filters, size, padding="same", use_bias=False, **more)(x)
    return activated(k, k.layers.BatchNormalization()(x), activation)


def norm_conv(k, x, filters, size=3, **more):
    """The other way around."""
    x = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
    return k.layers.Conv2D(filters, size, padding="same", **more)(x)


def activated(k, x, activation):
    if activation == "relu6":
        return k.layers.ReLU(6.0)(x)
    return k.layers.Activation(activation)(x) if activation else x


def squeezed(k, x, channels, inner="relu", outer="sigmoid"):
    """Squeeze and excite: each channel times a number that all pixels say."""
    weights = k.layers.GlobalAveragePooling2D(keepdims=True)(x)
    weights = k.layers.Conv2D(2, 1, activation=inner)(weights)
    weights = k.layers.Conv2D(channels, 1, activation=outer)(weights)
    return k.layers.Multiply()([x, weights])


def inverted(k, x, channels, inside, filters, strides=1, activation="relu6", squeeze=None):
    """Wide inside, depthwise; a residual where the shape stays."""
    y = conv_norm(k, x, inside, 1, activation)
    if strides == 2:
        y = k.layers.ZeroPadding2D(((0, 1), (0, 1)))(y)
    y = k.layers.DepthwiseConv2D(3, strides=strides, use_bias=False,
                                 padding="same" if strides == 1 else "valid")(y)
    y = activated(k, k.layers.BatchNormalization(momentum=0.9)(y), activation)
    if squeeze:
        y = squeezed(k, y, inside, *squeeze)
    y = conv_norm(k, y, filters, 1, None)
    return k.layers.Add()([x, y]) if strides == 1 and channels == filters else y


def classes_of(k, x, classes=3, **more):
    x = k.layers.GlobalAveragePooling2D()(x)
    return k.layers.Dense(classes, activation="softmax", **more)(x)


# -- architectures


def resnet_v1(k):
    """He et al. (2015), "Deep residual learning"."""
    inputs = k.Input((12, 12, 3))
    x = k.layers.ZeroPadding2D(1)(inputs)
    x = k.layers.Conv2D(4, 3, use_bias=False)(x)
    x = k.layers.ReLU()(k.layers.BatchNormalization(epsilon=1.001e-5)(x))
    x = k.layers.ZeroPadding2D(1)(x)
    x = k.layers.MaxPooling2D(3, strides=2)(x)
    for filters, strides in ((4, 1), (6, 2)):
        y = conv_norm(k, x, filters, strides=strides)
        y = conv_norm(k, y, filters, activation=None)
        if strides > 1:
            x = conv_norm(k, x, filters, 1, None, strides=strides)
        x = k.layers.ReLU()(k.layers.Add()([x, y]))
    return k.Model(inputs, classes_of(k, x))


def resnet_v2(k):
    """He et al. (2016), "Identity mappings"."""
    inputs = k.Input((10, 10, 3))
    x = k.layers.Conv2D(5, 3, padding="same")(inputs)
    for filters, strides in ((5, 1), (5, 2), (7, 1)):
        y = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
        if filters != x.shape[-1]:
            x = k.layers.Conv2D(filters, 1)(y)
        elif strides > 1:
            x = k.layers.MaxPooling2D(1, strides=strides)(x)
        y = k.layers.Conv2D(4, 1, use_bias=False)(y)
        y = norm_conv(k, y, 4, strides=strides, use_bias=False)
        y = norm_conv(k, y, filters, 1)
        x = k.layers.Add()([x, y])
    x = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
    return k.Model(inputs, classes_of(k, x))


def resnext(k):
    """Xie et al. (2017): groups of channels; with squeeze and excite (Hu et al., 2018)."""
    inputs = k.Input((8, 8, 2))
    x = conv_norm(k, inputs, 6)
    for _ in range(2):
        y = conv_norm(k, x, 8, 1)
        y = conv_norm(k, y, 8, groups=4)
        y = squeezed(k, conv_norm(k, y, 6, 1, None), 6)
        x = k.layers.ReLU()(k.layers.Add()([y, x]))
    return k.Model(inputs, classes_of(k, x))


def densenet(k):
    """Huang et al. (2017)."""
    inputs = k.Input((8, 8, 3))
    x = k.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    for block in range(2):
        for _ in range(2):
            y = norm_conv(k, x, 6, 1, use_bias=False)
            y = norm_conv(k, y, 3, use_bias=False)
            x = k.layers.Concatenate()([x, y])
        if block == 0:
            x = k.layers.AveragePooling2D(2, strides=2)(norm_conv(k, x, 5, 1, use_bias=False))
    x = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
    return k.Model(inputs, classes_of(k, x))


def inception(k):
    """Szegedy et al. (2016): four paths, one of them forked, and a smaller grid."""
    inputs = k.Input((9, 9, 3))
    x = conv_norm(k, inputs, 4)
    a = conv_norm(k, x, 3, 1)
    b = conv_norm(k, x, 3, 1)
    b = k.layers.Concatenate()([conv_norm(k, b, 2, (1, 3)), conv_norm(k, b, 2, (3, 1))])
    c = conv_norm(k, conv_norm(k, conv_norm(k, x, 2, 1), 3, (1, 5)), 3, (5, 1))
    d = conv_norm(k, k.layers.AveragePooling2D(3, strides=1, padding="same")(x), 2, 1)
    x = k.layers.Concatenate()([a, b, c, d])
    smaller = k.layers.Conv2D(4, 3, strides=2, use_bias=False)(x)
    smaller = k.layers.ReLU()(k.layers.BatchNormalization(scale=False)(smaller))
    x = k.layers.Concatenate(axis=3)([smaller, k.layers.MaxPooling2D(3, strides=2)(x)])
    return k.Model(inputs, classes_of(k, x))


def mobilenet_v2(k):
    """Sandler et al. (2018)."""
    inputs = k.Input((8, 8, 3))
    x = conv_norm(k, inputs, 4, activation="relu6", strides=2)
    x = inverted(k, x, 4, 8, 4)
    x = inverted(k, x, 4, 6, 5, strides=2)
    x = conv_norm(k, inverted(k, x, 5, 10, 5), 9, 1, "relu6")
    return k.Model(inputs, classes_of(k, x))


def mobilenet_v3(k):
    """Howard et al. (2019): hard swish, squeeze and excite with hard sigmoids."""
    inputs = k.Input((8, 8, 3))
    x = conv_norm(k, inputs, 4, activation="hard_silu", strides=2)
    x = inverted(k, x, 4, 6, 4, activation="relu", squeeze=("relu", "hard_sigmoid"))
    x = inverted(k, x, 4, 8, 5, 2, "hard_silu", ("relu", "hard_sigmoid"))
    x = k.layers.GlobalAveragePooling2D(keepdims=True)(conv_norm(k, x, 8, 1, "hard_silu"))
    x = k.layers.Conv2D(6, 1, activation="hard_silu")(x)
    x = k.layers.Flatten()(k.layers.Conv2D(3, 1)(x))
    return k.Model(inputs, k.layers.Activation("softmax")(x))


def efficientnet(k):
    """Tan and Le (2019)."""
    inputs = k.Input((8, 8, 3))
    x = conv_norm(k, inputs, 4, activation="silu", strides=2)
    x = inverted(k, x, 4, 6, 4, activation="silu", squeeze=("silu", "sigmoid"))
    x = inverted(k, x, 4, 7, 5, 2, "silu", ("silu", "sigmoid"))
    x = conv_norm(k, x, 8, 1, "silu")
    return k.Model(inputs, classes_of(k, x))


def xception(k):
    """Chollet (2017): depthwise, then pointwise."""
    inputs = k.Input((8, 8, 3))
    x = conv_norm(k, inputs, 4)
    for filters in (4, 6):
        y = k.layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        y = k.layers.ReLU()(k.layers.BatchNormalization()(y))
        y = k.layers.SeparableConv2D(filters, 3, padding="same", depth_multiplier=2)(y)
        y = k.layers.MaxPooling2D(3, strides=2, padding="same")(k.layers.BatchNormalization()(y))
        x = k.layers.Add()([y, conv_norm(k, x, filters, 1, None, strides=2)])
    return k.Model(inputs, classes_of(k, x))


def unet(k):
    """Ronneberger et al. (2015); one way up transposed, one by repetition."""
    inputs = k.Input((8, 8, 2))
    top = conv_norm(k, conv_norm(k, inputs, 3), 3)
    middle = conv_norm(k, k.layers.MaxPooling2D(2)(top), 4)
    bottom = conv_norm(k, k.layers.MaxPooling2D(2)(middle), 6)
    x = k.layers.Conv2DTranspose(4, 2, strides=2, padding="same")(bottom)
    x = conv_norm(k, k.layers.Concatenate()([x, middle]), 4)
    x = conv_norm(k, k.layers.UpSampling2D(2)(x), 3, 2)
    x = conv_norm(k, k.layers.Concatenate()([top, x]), 3)
    return k.Model(inputs, k.layers.Conv2D(1, 1, activation="sigmoid")(x))


def residual_mlp(k):
    """Of tables (Gorishniy et al., 2021)."""
    inputs = k.Input((7,))
    x = k.layers.Dense(6)(inputs)
    for _ in range(3):
        y = k.layers.Dense(9, activation="relu")(k.layers.BatchNormalization()(x))
        x = k.layers.Add()([x, k.layers.Dense(6)(y)])
    x = k.layers.ReLU()(k.layers.BatchNormalization()(x))
    return k.Model(inputs, k.layers.Dense(2)(x))


def wide_and_deep(k):
    """Cheng et al. (2016)."""
    wide, deep = k.Input((5,)), k.Input((4,))
    x = k.layers.Dense(6)(deep)
    x = k.layers.ReLU()(k.layers.BatchNormalization()(x))
    x = k.layers.Concatenate()([k.layers.Dense(4, activation="relu")(x), wide])
    return k.Model([wide, deep], k.layers.Dense(1, activation="sigmoid")(x))


def siamese(k):
    """Bromley et al. (1993): one encoder for both inputs, whose norm sees two batches a step."""
    image = k.Input((6, 6, 1))
    x = conv_norm(k, image, 3)
    x = k.layers.Dense(4, activation="tanh")(k.layers.Flatten()(x))
    encoder = k.Model(image, x, name="encoder")
    first, second = k.Input((6, 6, 1)), k.Input((6, 6, 1))
    ends = encoder(first), encoder(second)
    difference = k.layers.Subtract()(list(ends))
    x = k.layers.Concatenate()([k.layers.Multiply()([difference, difference]),
                                k.layers.Multiply()(list(ends)), k.layers.Maximum()(list(ends))])
    return k.Model([first, second], k.layers.Dense(1, activation="sigmoid")(x))


def two_outputs(k):
    """A class and a number from one trunk, with a loss each."""
    inputs = k.Input((6, 6, 2))
    x = k.layers.Flatten()(conv_norm(k, inputs, 3, strides=2))
    kind = k.layers.Dense(3, activation="softmax")(x)
    y = k.layers.BatchNormalization()(k.layers.Dense(5, activation="elu")(x))
    return k.Model(inputs, [kind, k.layers.Dense(2)(k.layers.Average()([
        y, k.layers.Dense(5)(x), k.layers.Minimum()([y, k.layers.Dense(5)(x)])]))])


def autoencoder(k):
    """Models within models: an encoder, and a decoder that is called twice."""
    inputs = k.Input((8, 8, 1))
    x = conv_norm(k, inputs, 3, strides=2)
    code = k.layers.Dense(4)(k.layers.Flatten()(x))
    encoder = k.Model(inputs, code, name="encoder")
    code = k.Input((4,))
    x = k.layers.Reshape((4, 4, 2))(k.layers.Dense(32, activation="relu")(code))
    x = k.layers.Conv2DTranspose(3, 3, strides=2, padding="same", use_bias=False)(x)
    x = k.layers.ReLU()(k.layers.BatchNormalization()(x))
    x = k.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    decoder = k.Model(code, x, name="decoder")
    bend = k.Sequential([k.Input((4,)), k.layers.Dense(4, activation="tanh"),
                         k.layers.BatchNormalization()], name="bend")
    whole = k.Input((8, 8, 1))
    code = encoder(whole)
    return k.Model(whole, k.layers.Average()([decoder(code), decoder(bend(code))]))


def two_towers(k):
    """Recommenders: a product of two encodings of words."""
    first, second = k.Input((3,)), k.Input((2,))
    words = k.layers.Embedding(7, 4)
    ends = []
    for given in (first, second):
        x = k.layers.Dense(5)(k.layers.GlobalAveragePooling1D()(words(given)))
        ends.append(k.layers.ReLU()(k.layers.BatchNormalization()(x)))
    x = k.layers.Concatenate()([k.layers.Dot(axes=-1)(ends), *ends])
    return k.Model([first, second], k.layers.Dense(1, activation="sigmoid")(x))


def temporal(k):
    """Bai et al. (2018): causal convolutions ever further apart, with residuals."""
    inputs = k.Input((12, 3))
    x = k.layers.Conv1D(4, 1)(inputs)
    for rate in (1, 2):
        y = k.layers.ZeroPadding1D((2 * rate, 0))(x)
        y = k.layers.Conv1D(4, 3, dilation_rate=rate, use_bias=False)(y)
        y = k.layers.PReLU(shared_axes=[1])(k.layers.BatchNormalization()(y))
        x = k.layers.Add()([x, y])
    x = k.layers.MaxPooling1D(2)(k.layers.SeparableConv1D(5, 3, padding="same")(x))
    x = k.layers.Concatenate()([k.layers.GlobalAveragePooling1D()(x),
                                k.layers.GlobalMaxPooling1D()(x)])
    return k.Model(inputs, k.layers.Dense(3, activation="softmax")(x))


def wave_unet(k):
    """Stoller et al. (2018): a U-Net over steps."""
    inputs = k.Input((12, 2))
    top = k.layers.Conv1D(3, 3, padding="same", use_bias=False)(inputs)
    top = k.layers.LeakyReLU(0.2)(k.layers.BatchNormalization()(top))
    bottom = k.layers.Conv1D(4, 5, padding="same")(k.layers.AveragePooling1D(2)(top))
    bottom = k.layers.LeakyReLU(0.2)(k.layers.BatchNormalization()(bottom))
    x = k.layers.Concatenate()([k.layers.UpSampling1D(2)(bottom), top,
                                k.layers.Conv1DTranspose(2, 2, strides=2)(bottom)])
    x = k.layers.DepthwiseConv1D(3, depth_multiplier=2)(x)
    x = k.layers.Subtract()([k.layers.Cropping1D(1)(inputs), k.layers.Conv1D(2, 1)(x)])
    return k.Model(inputs, x)


class Architecture(NamedTuple):
    """How a network is made and trained; what it needs besides what has been there for long."""

    make: Callable[[Any], Any]
    loss: Any = "sparse_categorical_crossentropy"
    loss_weights: Any = None
    needs: tuple[str, ...] = ()


_ALL = (
    Architecture(resnet_v1), Architecture(resnet_v2), Architecture(resnext),
    Architecture(densenet), Architecture(inception), Architecture(mobilenet_v2),
    Architecture(mobilenet_v3, needs=("hard_silu", "hard_sigmoid")), Architecture(efficientnet),
    Architecture(xception, needs=("SeparableConv2D",)),
    Architecture(unet, "binary_crossentropy"), Architecture(residual_mlp, "mean_squared_error"),
    Architecture(wide_and_deep, "binary_crossentropy"),
    Architecture(siamese, "binary_crossentropy"),
    Architecture(two_outputs, ["sparse_categorical_crossentropy", "mean_squared_error"],
                 [1.0, 0.3]),
    Architecture(autoencoder, "mean_squared_error"),
    Architecture(two_towers, "binary_crossentropy", needs=("Embedding", "Dot",
                                                           "GlobalAveragePooling1D")),
    Architecture(temporal, needs=("Conv1D", "SeparableConv1D", "PReLU")),
    Architecture(wave_unet, "mean_squared_error", needs=("Conv1D", "Conv1DTranspose")),
)
ARCHITECTURES = {
    one.make.__name__: one for one in _ALL
    if all(hasattr(nbbn.layers, name) or name in nbbn.layers.ACTIVATIONS for name in one.needs)
}
NAMES = list(ARCHITECTURES)


# -- weights and rows


def layers_by_name(model):
    """The layers with weights, those of models within models too."""
    found = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found |= layers_by_name(layer)
        elif layer.get_weights():
            found[layer.name] = layer
    return dict(sorted(found.items()))


def weights_by_name(model):
    """Copies of all arrays, `{name of the layer: its arrays in Keras's order}`."""
    return {name: [np.asarray(array) for array in layer.get_weights()]
            for name, layer in layers_by_name(model).items()}


def draw_weights(model, seed=0):
    """Give the model random weights, the same ones under nbbn and Keras.

    Norms get scales around 1 and variances above 0; all are numbers that float32 holds exactly.
    """
    for name, layer in layers_by_name(model).items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        arrays = [np.asarray(array) for array in layer.get_weights()]
        fan = max(1, int(np.prod(arrays[0].shape[:-1])))
        scale = 0.3 if "norm" in name else 1 / np.sqrt(fan)
        drawn = [rng.uniform(-scale, scale, array.shape) for array in arrays]
        if "norm" in name:  # beta and mean are left as they are
            if getattr(layer, "scale", True):
                drawn[0] += 1
            drawn[-1] += 1
        layer.set_weights([array.astype(np.float32) for array in drawn])


def shapes_of(given):
    """Shapes of rows: of one input or output, or of several."""
    several = isinstance(given, list) and isinstance(given[0], list | tuple)
    return [tuple(shape[1:]) for shape in (given if several else [given])]


def rows_of(model, n=12, seed=1, dtype="float64"):
    """Random rows that float32 holds exactly, one array for each input; words where there is a
    table of them.
    """
    rng = np.random.default_rng(seed)
    tables = [layer for layer in model.layers if layer.__class__.__name__ == "Embedding"]
    if tables:
        return [rng.integers(0, tables[0].input_dim, (n, *shape)).astype(dtype)
                for shape in shapes_of(model.input_shape)]
    return [rng.normal(size=(n, *shape)).astype(np.float32).astype(dtype)
            for shape in shapes_of(model.input_shape)]


def targets_of(model, architecture, n=12, seed=2, dtype="float64"):
    """Random targets, one array for each output, as its loss takes them."""
    rng, losses = np.random.default_rng(seed), architecture.loss
    made = []
    for shape, loss in zip(shapes_of(model.output_shape),
                           losses if isinstance(losses, list) else [losses]):
        if loss == "sparse_categorical_crossentropy":
            made.append(rng.integers(0, shape[-1], (n, *shape[:-1])))
        elif loss == "binary_crossentropy":
            made.append(rng.integers(0, 2, (n, *shape)).astype(dtype))
        else:
            made.append(rng.normal(size=(n, *shape)).astype(np.float32).astype(dtype))
    return made


def alone_or_all(arrays):
    """As models take them: the only array, or the list."""
    return arrays[0] if len(arrays) == 1 else arrays
