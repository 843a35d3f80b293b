"""State dicts of PyTorch for models with branches, against torch and against layouts by hand."""

from __future__ import annotations

import numpy as np
import pytest

import nbbn
from nbbn.interop import from_torch
from nbbn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    GroupNormalization,
    Input,
    MaxPooling2D,
    Multiply,
    ReLU,
    Reshape,
    Subtract,
    ZeroPadding2D,
)

# What torch calls a layer's arrays.
TORCH_NAMES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias",
               "mean": "running_mean", "var": "running_var"}


def norm(x, **more):
    return BatchNormalization(momentum=0.9, epsilon=1e-5, **more)(x)


def conv(x, filters, size=3, strides=1, **more):
    """As torch pads: by half of the kernel on all sides."""
    x = ZeroPadding2D(size // 2)(x) if size > 1 else x
    return Conv2D(filters, size, strides=strides, use_bias=False, **more)(x)


def block(x, filters, strides, *, shortcut_first):
    def shortcut():
        return norm(conv(x, filters, 1, strides)) if strides > 1 else x

    way_around = shortcut() if shortcut_first else None
    y = norm(conv(ReLU()(norm(conv(x, filters, strides=strides))), filters))
    return ReLU()(Add()([y, way_around if shortcut_first else shortcut()]))


def resnet18(*, shortcut_first=False):
    inputs = Input((16, 16, 3))
    x = MaxPooling2D(2)(ReLU()(norm(conv(inputs, 4, 7, 2))))
    for filters in (4, 6, 8):
        for number in range(2):
            strides = 2 if filters > 4 and number == 0 else 1
            x = block(x, filters, strides, shortcut_first=shortcut_first)
    return nbbn.Model(inputs, Dense(5)(GlobalAveragePooling2D()(x)))


def mobilenet_v2():
    inputs = Input((12, 12, 3))
    x = ReLU(6.0)(norm(conv(inputs, 4, strides=2)))
    for inside, filters, strides in ((8, 4, 1), (12, 6, 2), (12, 6, 1)):
        y = ReLU(6.0)(norm(conv(x, inside, 1)))
        y = DepthwiseConv2D(3, strides=strides, use_bias=False)(ZeroPadding2D(1)(y))
        y = norm(conv(ReLU(6.0)(norm(y)), filters, 1))
        x = Add()([x, y]) if strides == 1 and filters == x.shape[-1] else y
    x = GlobalAveragePooling2D()(ReLU(6.0)(norm(conv(x, 10, 1))))
    return nbbn.Model(inputs, Dense(5)(x))


def unet():
    inputs = Input((8, 8, 2))
    top = ReLU()(norm(conv(inputs, 4)))
    bottom = ReLU()(norm(conv(MaxPooling2D(2)(top), 6)))
    x = Conv2DTranspose(4, 2, strides=2)(bottom)
    x = ReLU()(norm(conv(Concatenate()([top, x]), 4)))
    return nbbn.Model(inputs, Conv2D(1, 1, activation="sigmoid")(x))


def images_and_numbers():
    """Flattened images of two branches beside numbers: torch has the images channels first."""
    image, numbers = Input((4, 5, 3)), Input((4,))
    a = Flatten()(conv(image, 2, strides=2))
    b = Flatten()(conv(image, 2, 1, strides=2))
    x = norm(Concatenate()([Add()([a, b]), numbers]))
    return nbbn.Model([image, numbers], Dense(3)(x))


def siamese():
    first, second = Input((4, 4, 2)), Input((4, 4, 2))
    layers = [Conv2D(3, 2), BatchNormalization(momentum=0.9, epsilon=1e-5), Flatten(), Dense(4)]
    ends = []
    for x in (first, second):
        for layer in layers:
            x = layer(x)
        ends.append(x)
    return nbbn.Model([first, second], Dense(1)(Subtract()(ends)))


def decoder():
    """One Dense whose numbers become an image, beside a gate for its channels."""
    code = Input((5,))
    x = ReLU()(norm(Dense(24)(code)))
    gate = Reshape((1, 1, 2))(Dense(2, activation="sigmoid")(code))
    x = Multiply()([Reshape((3, 4, 2))(x), gate])
    return nbbn.Model(code, Conv2D(2, 1)(x))


MODELS = {made.__name__: made for made in (
    resnet18, mobilenet_v2, unet, images_and_numbers, siamese, decoder)}


def as_list(given):
    return given if isinstance(given, list | tuple) else [given]


def rows(model, n=4):
    rng = np.random.default_rng(2)
    shapes = [one.shape for one in model.inputs]
    made = [rng.normal(size=(n, *shape)).astype("float32") for shape in shapes]
    return made[0] if len(made) == 1 else made


# -- layouts by hand


def engine_layers(model):
    """The layers in the engine's order, to which numbers of calls belong."""
    return [model.get_layer(name) for name in model._layers.names]


def state_of(model, order=None):
    """The weights of convolutions and norms as torch has them, modules `m0`, `m1` and so on."""
    layers = [layer for layer in engine_layers(model) if layer.get_weights()]
    state = {}
    for k, i in enumerate(order or range(len(layers))):
        for name, array in layers[i].copies().items():
            if array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)
            elif array.ndim == 2:
                array = array.T
            state[f"m{k}.{TORCH_NAMES[name]}"] = array
    return state


def draw(model):
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.3, 1.1, a.shape) * rng.choice([1, -1], a.shape[-1:])
                       if a.ndim > 1 else rng.uniform(0.3, 1.1, a.shape)
                       for a in model.get_weights()])
    return model


def in_call_order(model):
    """Numbers of the layers with weights, in the order in which they were called."""
    with_weights = [i for i, layer in enumerate(engine_layers(model)) if layer.get_weights()]
    return [with_weights.index(i) for i in model._layers.call_order if i in with_weights]


@pytest.mark.parametrize("first", [True, False])
def test_in_the_order_of_calls_or_run_by_run(first):
    """The modules as torch's own ResNet defines them: a shortcut behind what it goes around."""
    source = draw(resnet18())
    state = state_of(source, in_call_order(source))
    got = from_torch(state, resnet18(shortcut_first=first))
    assert isinstance(got, nbbn.Model)
    np.testing.assert_allclose(got.predict(rows(source)), source.predict(rows(source)), atol=1e-6)


def test_layers_that_are_named_take_their_modules():
    """And runs of the others are taken as wholes all the same."""
    source = draw(resnet18())
    state = state_of(source, in_call_order(source))
    inputs = Input((16, 16, 3))
    x = MaxPooling2D(2)(ReLU()(norm(conv(inputs, 4, 7, 2, name="m0"))))
    for filters in (4, 6, 8):
        for number in range(2):
            x = block(x, filters, 2 if filters > 4 and number == 0 else 1, shortcut_first=True)
    named = nbbn.Model(inputs, Dense(5)(GlobalAveragePooling2D()(x)))
    got = from_torch(state, named)
    np.testing.assert_allclose(got.predict(rows(source)), source.predict(rows(source)), atol=1e-6)


def test_what_comes_in_no_order_is_refused():
    """Convolutions first and norms behind, as no run of layers is."""
    source = resnet18()
    layers = [layer for layer in engine_layers(source) if layer.get_weights()]
    order = sorted(range(len(layers)), key=lambda i: isinstance(layers[i], BatchNormalization))
    with pytest.raises(nbbn.FileError, match=r"module 'm1' .* does not fit layer 'batch_.*, and no "
                       r"other order of the layers fits the modules; name .*name='m1'"):
        from_torch(state_of(source, order), resnet18())


def test_names_of_rows_stay():
    first, second = Input((3,), name="a"), Input((3,), name="b")
    model = nbbn.Model([first, second], {"sum": Dense(2)(Add()([first, second]))})
    got = from_torch(state_of(draw(model)), model)
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(got.predict({"b": x, "a": 2 * x})["sum"],
                                  model.predict([2 * x, x])["sum"])
    assert got.output_names == ["sum"]


def refused(model, message):
    with pytest.raises(nbbn.FileError, match=message):
        from_torch(state_of(model), model)


def test_rows_in_other_orders_are_not_joined():
    image = Input((4, 5, 3))
    flat = Flatten()(Conv2D(2, 1)(image))
    refused(nbbn.Model(image, Dense(3)(Add()([flat, Activation("relu")(Dense(40)(flat))]))),
            r"layer 'add' joins flattened images, .* put a Dense before")
    dense = Dense(3)
    numbers = Input((40,))
    refused(nbbn.Model([image, numbers], Add()([dense(flat), dense(numbers)])),
            "layer 'dense' is called on rows in several orders of torch's; use layers of their own")
    refused(nbbn.Model(image, Dense(2)(GroupNormalization(2)(flat))),
            "layer 'group_normalization' normalises groups of features")
    refused(nbbn.Model(image, [Dense(2)(flat), flat]), "the model ends in flattened images")


# -- beside torch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def torch_resnet18(torch):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inside, filters, strides):
            super().__init__()
            self.conv1 = nn.Conv2d(inside, filters, 3, strides, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, filters, 1, strides, bias=False), nn.BatchNorm2d(filters)
            ) if strides > 1 else nn.Identity()

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))

    blocks, inside = [], 4
    for filters in (4, 6, 8):
        for number in range(2):
            blocks.append(Block(inside, filters, 2 if filters > 4 and number == 0 else 1))
            inside = filters
    return nn.Sequential(
        nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def torch_mobilenet_v2(torch):
    nn = torch.nn

    def conv_norm(inside, filters, size, strides=1, groups=1, *, relu=True):
        return [nn.Conv2d(inside, filters, size, strides, size // 2, groups=groups, bias=False),
                nn.BatchNorm2d(filters), *([nn.ReLU6()] if relu else [])]

    class Inverted(nn.Module):
        def __init__(self, before, inside, filters, strides):
            super().__init__()
            self.joins = strides == 1 and before == filters
            self.conv = nn.Sequential(
                *conv_norm(before, inside, 1), *conv_norm(inside, inside, 3, strides, inside),
                *conv_norm(inside, filters, 1, relu=False))

        def forward(self, x):
            return x + self.conv(x) if self.joins else self.conv(x)

    return nn.Sequential(
        *conv_norm(3, 4, 3, 2), Inverted(4, 8, 4, 1), Inverted(4, 12, 6, 2), Inverted(6, 12, 6, 1),
        *conv_norm(6, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5))


def torch_unet(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.down1 = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4))
            self.down2 = nn.Sequential(nn.Conv2d(4, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6))
            self.up = nn.ConvTranspose2d(6, 4, 2, 2)
            self.join = nn.Sequential(nn.Conv2d(8, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4))
            self.end = nn.Conv2d(4, 1, 1)

        def forward(self, x):
            top = torch.relu(self.down1(x))
            x = self.up(torch.relu(self.down2(nn.functional.max_pool2d(top, 2))))
            x = torch.relu(self.join(torch.cat([top, x], 1)))
            return torch.sigmoid(self.end(x))

    return Net()


def torch_images_and_numbers(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 2, 3, 2, 1, bias=False)
            self.b = nn.Conv2d(3, 2, 1, 2, bias=False)
            self.norm, self.end = nn.BatchNorm1d(16), nn.Linear(16, 3)

        def forward(self, image, numbers):
            x = self.a(image).flatten(1) + self.b(image).flatten(1)
            return self.end(self.norm(torch.cat([x, numbers], 1)))

    return Net()


def torch_siamese(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(),
                                         nn.Linear(27, 4))
            self.end = nn.Linear(4, 1)

        def forward(self, first, second):
            return self.end(self.encoder(first) - self.encoder(second))

    return Net()


def torch_decoder(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.grow, self.norm = nn.Linear(5, 24), nn.BatchNorm1d(24)
            self.gate, self.end = nn.Linear(5, 2), nn.Conv2d(2, 2, 1)

        def forward(self, code):
            x = torch.relu(self.norm(self.grow(code))).reshape(-1, 2, 3, 4)
            return self.end(x * torch.sigmoid(self.gate(code))[:, :, None, None])

    return Net()


TORCH = (torch_resnet18, torch_mobilenet_v2, torch_unet, torch_images_and_numbers, torch_siamese,
         torch_decoder)


def turned(torch, x):
    """Rows as torch has them: channels first."""
    x = torch.tensor(x)
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


@pytest.mark.parametrize("make", TORCH)
def test_is_torch(torch, make, tmp_path):
    """After a step of training, so that norms' statistics are no plain numbers."""
    torch.manual_seed(0)
    theirs, ours = make(torch), MODELS[make.__name__.removeprefix("torch_")]()
    x = rows(ours, 8)
    given = [turned(torch, one) for one in as_list(x)]
    for parameter in theirs.parameters():
        parameter.data.uniform_(-0.7, 0.9)
    theirs.train()(*given)
    with torch.no_grad():
        ref = theirs.eval()(*given).numpy()
    ref = ref.transpose(0, 2, 3, 1) if ref.ndim == 4 else ref
    torch.save(theirs.state_dict(), tmp_path / "m.pt")
    for source in (theirs.state_dict(), tmp_path / "m.pt"):
        got = from_torch(source, ours).predict(x)
        np.testing.assert_allclose(got, ref, rtol=0, atol=2e-6 * np.abs(ref).max())


over_steps = pytest.mark.skipif(not {"Conv1D", "PReLU", "Embedding"} <= {*nbbn.layers.__all__},
                                reason="has no such layers yet")


def torch_steps(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv1d(3, 4, 3, bias=False), nn.BatchNorm1d(4), nn.PReLU(4),
        nn.Conv1d(4, 4, 2, groups=4), nn.ConvTranspose1d(4, 5, 2, 2), nn.PReLU(), nn.MaxPool1d(2),
        nn.Flatten(), nn.Linear(45, 6), nn.PReLU(6), nn.Linear(6, 2))


def layers_of_steps():
    L = nbbn.layers
    return [L.Input((12, 3)), L.Conv1D(4, 3, use_bias=False), L.BatchNormalization(epsilon=1e-5),
            L.PReLU(shared_axes=[1]), L.DepthwiseConv1D(2), L.Conv1DTranspose(5, 2, strides=2),
            L.PReLU(shared_axes=[1, 2]), L.MaxPooling1D(2), L.Flatten(), L.Dense(6), L.PReLU(),
            L.Dense(2)]


@over_steps
def test_steps_are_torchs(torch):
    """Torch has the channels of steps first, too, and flattens them so."""
    torch.manual_seed(0)
    theirs = torch_steps(torch)
    for parameter in theirs.parameters():
        parameter.data.uniform_(-0.7, 0.9)
    x = np.random.default_rng(0).normal(size=(8, 12, 3)).astype("float32")
    given = torch.tensor(x).permute(0, 2, 1)
    theirs.train()(given)
    with torch.no_grad():
        ref = theirs.eval()(given).numpy()
    got = from_torch(theirs.state_dict(), layers_of_steps()).predict(x)
    np.testing.assert_allclose(got, ref, rtol=0, atol=2e-6 * np.abs(ref).max())


@over_steps
def test_layouts_of_steps():
    """By hand: kernels `(out, in, size)`, one slope for each channel, features channels first."""
    L, rng = nbbn.layers, np.random.default_rng(3)
    state = {name: rng.normal(size=shape).astype("float32") for name, shape in {
        "a.weight": (4, 3, 2), "b.weight": (4,), "c.weight": (8, 1, 2), "d.weight": (8, 5, 2),
        "d.bias": (5,), "e.weight": (1,), "f.weight": (2, 20)}.items()}
    model = from_torch(state, [
        L.Input((4, 3)), L.Conv1D(4, 2, use_bias=False), L.PReLU(shared_axes=[1]),
        L.DepthwiseConv1D(2, depth_multiplier=2, use_bias=False),
        L.Conv1DTranspose(5, 2, strides=2), L.PReLU(shared_axes=[1, 2]), L.Flatten(),
        L.Dense(2, use_bias=False)])
    conv, slopes, depthwise, up, _, slope, end = model.get_weights()
    np.testing.assert_array_equal(conv, state["a.weight"].transpose(2, 1, 0))
    np.testing.assert_array_equal(slopes, state["b.weight"][None])
    for channel in range(4):
        for times in range(2):
            np.testing.assert_array_equal(depthwise[:, channel, times],
                                          state["c.weight"][2 * channel + times, 0])
    np.testing.assert_array_equal(up, state["d.weight"].transpose(2, 1, 0))
    assert slope.shape == (1, 1)
    np.testing.assert_array_equal(end.reshape(4, 5, 2),
                                  state["f.weight"].reshape(2, 5, 4).transpose(2, 1, 0))
    with pytest.raises(nbbn.FileError, match=r"'separable_conv1d' \(SeparableConv1D\) has "
                       "depthwise_kernel, pointwise_kernel, which no module of torch's has"):
        from_torch({"0.weight": np.ones((3, 1, 2))},
                   [L.Input((4, 3)), L.SeparableConv1D(2, 2, use_bias=False)])


@over_steps
def test_tables_of_vectors():
    table = np.arange(21.0, dtype="float32").reshape(7, 3)
    model = from_torch({"weight": table}, [Input((2,)), nbbn.layers.Embedding(7, 3)])
    np.testing.assert_array_equal(model.predict([[1, 6]]), table[None, [1, 6]])
