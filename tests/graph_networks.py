"""Small graphs for every test that goes over graphs: branches that meet, layers called twice."""

from __future__ import annotations

import numpy as np

from nbbn import layers as L
from nbbn.network import Call, Graph, Network


class Drawing:
    """A graph in the making: call it with a layer and the calls that it takes from."""

    def __init__(self, *inputs):
        self.layers, self.calls, self.inputs = [], [], inputs

    def __call__(self, layer, *sources):
        self.layers.append(layer)
        return self.again(len(self.layers) - 1, *sources)

    def again(self, number, *sources):
        """Call a layer that is there already."""
        self.calls.append(Call(number, sources))
        return len(self.calls) - 1

    def chain(self, source, *layers):
        """Layers one after the other."""
        for layer in layers:
            source = self(layer, source)
        return source

    def network(self, *outputs, dtype=np.float64, seed=0):
        """The network, with random weights that float32 holds exactly."""
        graph, rng = Graph(tuple(self.calls), tuple(self.inputs), outputs), np.random.default_rng(seed)
        weights = []
        for layer, (shapes, _) in zip(self.layers, graph.layer_shapes(self.layers)):
            weights.append({name: _drawn(rng, name, shape).astype(dtype)
                            for name, shape in layer.weight_shapes(*shapes).items()})
        return Network(tuple(self.layers), graph.input_shape, weights, np.dtype(dtype), graph)


def _drawn(rng, name, shape):
    values = rng.normal(0, 0.5, shape)
    values = {"var": np.abs(values) + 0.5, "gamma": 1 + values / 2}.get(name, values)
    return values.astype(np.float32)


def conv(filters, size=3, **more):
    return L.Conv2D(filters, size, padding="same", **more)


def residual_mlp():
    g = Drawing((7,))
    h = g(L.Dense(6, "relu"), -1)
    a = g.chain(h, L.Dense(6), L.BatchNormalization(), L.ReLU())
    return g, g.chain(g(L.Add(), h, a), L.ReLU(), L.Dense(3))


def input_read_by_several():
    g = Drawing((7,))
    a, b = g(L.Dense(5, "tanh"), -1), g(L.Dense(4, "sigmoid"), -1)
    return g, g(L.Dense(2), g(L.Concatenate(), a, b, -1))


def every_combination():
    g = Drawing((5,))
    a, b, c = (g(L.Dense(6, name), -1) for name in ("tanh", None, "sigmoid"))
    product, largest = g(L.Multiply(), a, b, c), g(L.Maximum(), a, b)
    difference = g(L.Subtract(), largest, g(L.Minimum(), b, c))
    return g, g(L.Dense(2), g(L.Average(), product, difference, a))


def two_inputs_two_outputs():
    g = Drawing((4,), (3, 5, 2))
    a = g(L.Dense(6, "relu"), -1)
    b = g.chain(-2, L.Conv2D(3, 2), L.BatchNormalization())
    flat = g(L.Flatten(), b)
    return g, g(L.Dense(2), g(L.Concatenate(), a, flat)), g(L.Conv2D(2, 1), b)


def resnet():
    g = Drawing((6, 5, 3))
    x = g.chain(-1, conv(4, use_bias=False), L.BatchNormalization(), L.ReLU())
    y = g.chain(x, conv(4), L.BatchNormalization(), L.ReLU(), conv(4), L.BatchNormalization())
    x = g(L.ReLU(), g(L.Add(), x, y))
    y = g.chain(x, conv(6, strides=2), L.BatchNormalization())
    z = g.chain(x, conv(6, 1, strides=2), L.BatchNormalization())
    return g, g.chain(g(L.Add(), z, y), L.ReLU(), L.GlobalAveragePooling2D(), L.Dense(3))


def short_lines():
    """Many filters on lines of a few pixels, with all that a convolution's kernel does besides."""
    g = Drawing((5, 3, 3))
    x = g.chain(-1, conv(64), L.BatchNormalization(), L.ReLU(6))
    y = g.chain(x, conv(4, 1), L.ReLU(6), conv(64), L.BatchNormalization())
    x = g.chain(g(L.Add(), y, x), L.ReLU(6), L.DepthwiseConv2D(3, padding="same"), L.ReLU(6))
    x = g.chain(x, conv(5, 1), L.BatchNormalization(), L.Activation("relu6"))
    y = g.chain(x, conv(64, (2, 3), strides=2), L.BatchNormalization(), L.ReLU(6))
    x = g(L.Add(), g(conv(64, 1, strides=2), x), y)
    x = g.chain(x, conv(6, 1), L.ReLU(6),
                conv(70, dilation_rate=2, activation="tanh"))
    return g, g.chain(x, L.GlobalAveragePooling2D(), L.Dense(2))


def resnet_v2():
    g = Drawing((4, 5, 3))
    x = g(conv(5), -1)
    y = g.chain(x, L.BatchNormalization(), L.Activation("elu"), conv(5))
    x = g(L.Add(), x, y)
    y = g.chain(x, L.LayerNormalization(), L.Activation("tanh"),
                L.DepthwiseConv2D(3, padding="same"))
    return g, g.chain(g(L.Add(), y, x), L.MaxPooling2D(2), L.Flatten(), L.Dense(2))


def densenet():
    g = Drawing((6, 5, 3))
    x = g(conv(4), -1)
    for _ in range(2):
        y = g.chain(x, L.BatchNormalization(), L.ReLU(), conv(3))
        x = g(L.Concatenate(), x, y)
    x = g(L.Concatenate(1), g(L.MaxPooling2D(2), x), g(L.AveragePooling2D(2), x))
    return g, g.chain(x, L.Flatten(), L.Dense(2))


def inception():
    g = Drawing((5, 6, 3))
    a = g.chain(-1, conv(3, 1), L.BatchNormalization(), L.ReLU())
    b = g.chain(-1, conv(2, 1), L.BatchNormalization(), L.ReLU(), conv(4), L.BatchNormalization(),
                L.ReLU())
    c = g.chain(-1, L.MaxPooling2D(3, strides=1, padding="same"), conv(2, 1))
    x = g(L.Concatenate(), a, b, c)
    return g, g.chain(x, L.BatchNormalization(), L.GlobalMaxPooling2D(), L.Dense(2))


def mobilenet():
    """Inverted residuals with squeeze and excite."""
    g = Drawing((4, 5, 3))
    x = g(conv(4), -1)
    y = g.chain(x, conv(7, 1, use_bias=False), L.BatchNormalization(), L.ReLU(6),
                L.DepthwiseConv2D(3, padding="same", use_bias=False), L.BatchNormalization(),
                L.ReLU(6))
    weights = g.chain(y, L.GlobalAveragePooling2D(), L.Dense(2, "relu"), L.Dense(7, "sigmoid"),
                      L.Reshape((1, 1, 7)))
    y = g.chain(g(L.Multiply(), y, weights), conv(4, 1), L.BatchNormalization())
    x = g(L.Add(), x, y)
    gate = g(L.Conv2D(1, 1, activation="sigmoid"), x)
    x = g(L.Add(), g(L.Multiply(), gate, x), gate)
    return g, g.chain(x, L.GlobalAveragePooling2D(), L.Dense(2))


def unet():
    g = Drawing((4, 6, 2))
    down = g.chain(-1, conv(3), L.BatchNormalization(), L.ReLU())
    deep = g.chain(down, L.MaxPooling2D(2), conv(5), L.BatchNormalization(), L.ReLU())
    up = g(L.UpSampling2D(2), deep)
    transposed = g(L.Conv2DTranspose(3, 2, strides=2), deep)
    x = g(L.Concatenate(), down, up, transposed)
    return g, g.chain(x, conv(3), L.BatchNormalization(), L.ReLU(), L.Conv2D(1, 1))


def wide_and_deep():
    g = Drawing((3,), (4,))
    deep = g.chain(-2, L.Dense(6), L.BatchNormalization(), L.ReLU(), L.Dense(5, "relu"))
    return g, g(L.Dense(1), g(L.Concatenate(), -1, deep))


def siamese():
    g = Drawing((5,), (5,))
    first = g.chain(-1, L.Dense(6), L.BatchNormalization(), L.Dense(4, "tanh"))
    ends = [first, g.again(2, g.again(1, g.again(0, -2)))]
    difference = g(L.Subtract(), *ends)
    return g, g(L.Dense(2), g(L.Multiply(), difference, difference))


def recurrent():
    g = Drawing((6,))
    x = g(L.Dense(6, "tanh"), -1)
    for _ in range(3):
        x = g.again(0, x)
    return g, g(L.Dense(2), x)


def kernels_used_again():
    g = Drawing((5, 4, 3))
    a = g(conv(3), -1)
    b = g.chain(g.again(0, a), L.BatchNormalization())
    c = g.again(1, g.again(0, b))
    d = g(L.DepthwiseConv2D(3, padding="same"), g(L.Add(), b, c))
    return g, g.chain(g.again(len(g.layers) - 1, d), L.Flatten(), L.Dense(2))


def sequences():
    """Rows of two axes, one along which another goes."""
    g = Drawing((4, 3))
    x = g(L.Dense(5, "relu"), -1)
    row = g.chain(-1, L.Flatten(), L.Dense(5), L.Reshape((1, 5)))
    x = g(L.Concatenate(1), g(L.Multiply(), x, row), x)
    return g, g.chain(x, L.LayerNormalization(), L.Flatten(), L.Dense(2))


def products():
    """Each vector of one with each of another, and with itself; slopes that are trained."""
    g = Drawing((5,), (4, 3))
    a = g.chain(-1, L.Dense(12), L.PReLU(), L.Reshape((2, 6)))
    b = g.chain(-2, L.Rescaling(0.5, [0.1, 0.2, 0.3]), L.Dense(6), L.PReLU(shared_axes=[1]))
    c, d = g(L.Dot(-1), a, b), g(L.Dot((2, 2), normalize=True), b, b)
    e = g(L.Dot(-1), g(L.Dense(6, "tanh"), -1), b)
    x = g(L.Concatenate(), g(L.Flatten(), c), g(L.Flatten(), d), e)
    return g, g(L.Dense(2), x)


def products_of_sigmoids():
    """Behind the features of these rows stands no zero; one vector on the right, and inputs."""
    g = Drawing((5,), (3, 5))
    a, b = g(L.Dense(5, "sigmoid"), -1), g(L.Dense(5, "tanh"), -2)
    c = g(L.Dot(axes=-1, normalize=True), a, g(L.Dense(5, "exponential"), -1))
    x = g(L.Concatenate(), g(L.Dot(-1), b, a), c, g(L.Dot(-1), -1, a), g(L.Dot(-1), -2, -1))
    return g, g(L.Dense(2), x)


def cosines():
    g = Drawing((5,), (5,))
    first = g(L.Dense(7, "sigmoid"), -1)
    return g, g(L.Dense(2), g(L.Dot(axes=1, normalize=True), first, g.again(0, -2)))


def factors():
    """Of users and things, as recommenders have them."""
    g = Drawing((1,), (1,))
    users = g(L.Flatten(), g(L.Embedding(7, 5), -1))
    things = g(L.Flatten(), g(L.Embedding(4, 5), -2))
    return g, g(L.Add(), g(L.Dot(-1), users, things), g.chain(-2, L.Embedding(4, 1), L.Flatten()))


def embedded_twice():
    g = Drawing((3,))
    a = g(L.Embedding(5, 4), -1)
    b = g.again(0, g(L.Reshape((3, 1)), -1))
    x = g(L.Concatenate(), g(L.Flatten(), a), g.chain(b, L.Flatten()))
    return g, g(L.Dense(2), x)


DRAWN = (
    residual_mlp, input_read_by_several, every_combination, two_inputs_two_outputs, resnet,
    resnet_v2, densenet, inception, mobilenet, unet, wide_and_deep, siamese, recurrent,
    short_lines, kernels_used_again, sequences, products, products_of_sigmoids, cosines, factors,
    embedded_twice,
)
NAMES = [made.__name__ for made in DRAWN]


def network(name, dtype=np.float64, seed=0):
    """One of them."""
    drawing, *outputs = DRAWN[NAMES.index(name)]()
    return drawing.network(*outputs, dtype=dtype, seed=seed)


def rows_of(network, n, seed=3):
    """Random rows, flat, that float32 holds exactly."""
    size = int(np.prod(network.input_shape))
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, size)).astype(np.float32)
    for some in network.computation().indices:
        place = slice(some.first, some.first + some.size)
        values[:, place] = rng.integers(some.count, size=(n, some.size))
    return values.astype(network.dtype)
