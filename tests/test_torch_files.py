"""State dicts of PyTorch.

Against torch where it is installed, and against NumPy written from torch's definitions.
"""

import importlib.util
import io
import json
import struct
import sys
import zipfile

import numpy as np
import pytest
from naive_layers import NaiveNetwork
from safetensors.numpy import save as to_safetensors

import nbbn
from nbbn.interop import from_torch
from nbbn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GroupNormalization,
    Input,
    LayerNormalization,
    MaxPooling2D,
    ReLU,
    Reshape,
    ZeroPadding2D,
)

IMAGE = (5, 7, 3)


def norm(**arguments):
    return BatchNormalization(momentum=0.9, epsilon=1e-5, **arguments)


CNN = [
    Input(IMAGE), Conv2D(4, 3), norm(), ReLU(),
    DepthwiseConv2D(2, depth_multiplier=2, use_bias=False), GroupNormalization(2),
    Conv2DTranspose(6, (2, 3), 2), MaxPooling2D(2), Flatten(), norm(), Dense(8, "relu"),
    LayerNormalization(), Dropout(0.5), Dense(3, use_bias=False),
]
MLP = [Input((6,)), Dense(6), norm(), ReLU(), Dense(6), norm(), ReLU(), Dense(6)]
DECODER = [
    Input((5,)), Dense(24), norm(), ReLU(), Reshape((3, 4, 2)), Conv2DTranspose(3, 2, 2),
    Conv2D(2, 1),
]
NETWORKS = {"cnn": CNN, "mlp": MLP, "decoder": DECODER}


def drawn(layers):
    """A network of the oracle with random weights."""
    inner = layers[1:]
    return NaiveNetwork(inner, layers[0].shape).draw(np.random.default_rng(3))


def first_to_last(image):
    """For each value of an image channels last its index channels first."""
    height, width, channels = image
    return [
        c * height * width + y * width + x
        for y in range(height)
        for x in range(width)
        for c in range(channels)
    ]


def state_dict(layers, network, paths=None, dtype=np.float32):
    """The network's weights as torch has them.

    The layouts of `torch.nn`, features of flattened images channels first.
    """
    state, shape, order = {}, layers[0].shape, None
    for i, (layer, w) in enumerate(zip(layers[1:], network.weights)):
        path, after = (paths or {}).get(i, f"features.{i}"), layer.output_shape(shape)
        if isinstance(layer, Flatten) and len(shape) == 3:
            order = first_to_last(shape)
        if isinstance(layer, Reshape):
            order = None
        w = dict(w)
        if isinstance(layer, Dense):
            if order is not None:
                kernel = np.empty_like(w["kernel"])
                kernel[order] = w["kernel"]
                w["kernel"] = kernel
            images = [later for later in layers[i + 2 :] if isinstance(later, Dense | Reshape)]
            order = (
                first_to_last(images[0].target_shape)
                if images and isinstance(images[0], Reshape)
                else None
            )
        if order is not None and len(after) == 1:
            for name in ("bias", "gamma", "beta", "mean", "var"):
                if name in w:
                    turned = np.empty_like(w[name])
                    turned[order] = w[name]
                    w[name] = turned
            if isinstance(layer, Dense):
                turned = np.empty_like(w["kernel"])
                turned[:, order] = w["kernel"]
                w["kernel"] = turned
        if "kernel" in w:
            if isinstance(layer, Dense):
                w["kernel"] = w["kernel"].T
            elif isinstance(layer, DepthwiseConv2D):
                kh, kw, channels, multiplier = w["kernel"].shape
                own = np.empty((channels * multiplier, 1, kh, kw))
                for c in range(channels):
                    for m in range(multiplier):
                        own[c * multiplier + m, 0] = w["kernel"][:, :, c, m]
                w["kernel"] = own
            else:
                w["kernel"] = np.moveaxis(w["kernel"], (3, 2), (0, 1))
        names = {
            "kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias",
            "mean": "running_mean", "var": "running_var",
        }
        state.update({f"{path}.{names[name]}": array.astype(dtype) for name, array in w.items()})
        if "mean" in w:
            state[f"{path}.num_batches_tracked"] = np.array(3)
        shape = after
    return state


def check(model, network, dtype=np.float32):
    x = np.random.default_rng(4).normal(size=(5, *model.input_shape[1:])).astype(dtype)
    ref, got = network.forward(x), model.predict(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got, ref, rtol=0, atol=(1e-13 if dtype == np.float64 else 3e-6) * max(1, np.abs(ref).max())
    )
    for array, own in zip(model.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(array, own)


# What is read


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_state_dict(name, dtype):
    layers, network = NETWORKS[name], drawn(NETWORKS[name])
    check(from_torch(state_dict(layers, network, dtype=dtype), layers), network, dtype)


@pytest.mark.parametrize("name", NETWORKS)
def test_safetensors(tmp_path, name):
    """The file sorts its tensors by name.

    `features.10` comes before `features.2`, a bias before a weight.
    """
    layers, network = NETWORKS[name], drawn(NETWORKS[name])
    path = tmp_path / "weights.safetensors"
    path.write_bytes(
        to_safetensors({k: np.ascontiguousarray(a) for k, a in state_dict(layers, network).items()})
    )
    check(from_torch(path, layers), network)
    check(from_torch(str(path), nbbn.Sequential(layers)), network)


def test_sorted_by_name():
    """A dict read from a safetensors file is sorted, too.

    Names of classes and shapes tell which is which.
    """
    network = drawn(CNN)
    paths = {
        0: "conv1", 1: "bn1", 3: "conv2", 4: "norm1", 5: "up", 8: "bn2", 9: "fc1", 10: "norm2",
        12: "fc2",
    }
    state = state_dict(CNN, network, paths)
    check(from_torch(state, CNN), network)
    check(from_torch(dict(sorted(state.items())), CNN), network)


def test_modules_by_the_layers_names():
    network = drawn(MLP)
    paths = {0: "z", 1: "y.norm", 3: "b", 4: "y.more", 6: "a"}
    state = dict(sorted(state_dict(MLP, network, paths).items()))
    named = [
        Input((6,)), Dense(6, name="z"), norm(name="y.norm"), ReLU(), Dense(6, name="b"),
        norm(name="y.more"), Dense(6),
    ]
    named.insert(6, ReLU())
    check(from_torch(state, named), network)
    check(from_torch(state, nbbn.Sequential(named)), network)
    with pytest.raises(
        nbbn.FileError,
        match=r"'a' and 'b' and 'z' both fit layer 'dense' \(Dense, which takes weight \(6, 6\)",
    ):
        from_torch(state, MLP)


def test_automatic_names_mean_nothing():
    """A model names its second Dense `dense_1`; torch's module of that name may be the first."""
    network = drawn(MLP)
    state = state_dict(MLP, network, {0: "dense_1", 1: "norm", 3: "dense", 4: "norm2", 6: "last"})
    check(from_torch(dict(state), nbbn.Sequential(MLP)), network)


@pytest.mark.parametrize(
    "wrapper",
    ["state_dict", "model_state_dict", "model", "model_state", "net", "params", "params_ema", "ema"],
)
def test_checkpoints(wrapper):
    network = drawn(MLP)
    check(from_torch({"epoch": 3, wrapper: state_dict(MLP, network)}, MLP), network)
    nested = {"step": 1, "model": {"epoch": 3, wrapper: state_dict(MLP, network)}}
    check(from_torch(nested, MLP), network)


def shuffled(*names):
    """Three equal dense layers by name, in another order than the modules have."""
    return [Input((6,)), *(Dense(6, "relu", name=name) for name in names)]


def shuffled_state(prefix="", network=None):
    network = network or drawn(shuffled("stem", "body", "out"))
    state = state_dict(shuffled(None, None, None), network, {0: "stem", 1: "body", 2: "out"})
    return network, {prefix + name: state[name] for name in reversed(state)}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.net."])
def test_names_behind_a_prefix(prefix):
    network, state = shuffled_state(prefix)
    check(from_torch(state, shuffled("stem", "body", "out")), network)
    check(from_torch(state, shuffled(*(prefix + n for n in ("stem", "body", "out")))), network)


@pytest.mark.parametrize(
    "names, wrong",
    [
        (("stm", "body", "out"), "stm"), (("stem", "bdy", "out"), "bdy"),
        (("a", "b", "c"), "a"), (("stem", None, "outt"), "outt"), (("em", None, None), "em"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_of_no_module_are_refused(names, wrong, prefix):
    state = shuffled_state(prefix)[1]
    with pytest.raises(nbbn.FileError, match=rf"no module is called '(module\.)?{wrong}', as a layer"):
        from_torch(state, shuffled(*names))


def test_a_name_of_two_modules_is_refused():
    network, one = shuffled_state("a.")
    state = {**one, **shuffled_state("b.", network)[1]}
    with pytest.raises(nbbn.FileError, match=r"layer 'stem' may be 'a\.stem' and 'b\.stem'"):
        from_torch(state, shuffled("stem", "body", "out"))


def test_images_that_were_turned_before_they_were_flattened():
    layers = [Input(IMAGE), Conv2D(4, 2), Flatten(), norm(), Dense(5, "relu"), Dense(3)]
    network = drawn(layers)
    state = state_dict(layers, network)
    check(from_torch(state, layers), network)
    with pytest.raises(ValueError, match="flatten must be 'channels_first' or 'channels_last'"):
        from_torch(state, layers, flatten="last")
    flat, *rest = [Input((4 * 4 * 6,)), *layers[3:]]
    inner = NaiveNetwork(rest, flat.shape)
    inner.weights = network.weights[2:]
    state = {k: v for k, v in state.items() if k.startswith("features.0")}
    state |= {
        k.replace("features.", "features.1"): v for k, v in state_dict([flat, *rest], inner).items()
    }
    check(from_torch(state, layers, flatten="channels_last"), network)


def parametrised(weight, kind, rng, axis=0):
    """The parts of a weight by their names, and the weight that they make."""
    if "weight norm" in kind:
        along = tuple(i for i in range(weight.ndim) if i != axis)
        gain = rng.uniform(0.5, 2, [n if i == axis else 1 for i, n in enumerate(weight.shape)])
        made = gain * weight / np.sqrt((weight**2).sum(along, keepdims=True))
        names = ("weight_g", "weight_v")
        if "new" in kind:
            names = ("parametrizations.weight.original0", "parametrizations.weight.original1")
        return dict(zip(names, (gain, weight))), made
    matrix = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    u, s, vt = np.linalg.svd(matrix)
    made = weight / s[0]
    names = ("weight_orig", "weight_u", "weight_v")
    if "new" in kind:
        names = (
            "parametrizations.weight.original", "parametrizations.weight.0._u",
            "parametrizations.weight.0._v",
        )
    return dict(zip(names, (weight, u[:, 0], vt[0]))), made


KINDS = ["weight norm", "new weight norm", "spectral norm", "new spectral norm"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", ["Dense", "Conv2D", "Conv2DTranspose"])
def test_parametrised_weights(kind, layer):
    """Square kernels, so that their shape does not tell the axis."""
    rng = np.random.default_rng(0)
    shape = (6, 6) if layer == "Dense" else (6, 6, 2, 2)
    axis = 1 if layer == "Conv2DTranspose" and "spectral" in kind else 0
    parts, made = parametrised(rng.normal(size=shape), kind, rng, axis)
    state = {f"net.0.{name}": part for name, part in parts.items()}
    state = {"net.0.bias": rng.normal(size=6), **state}
    layers = [Input((6,)), Dense(6)]
    if layer != "Dense":
        layers = [Input((5, 5, 6)), getattr(nbbn.layers, layer)(6, 2)]
    plain = {"net.0.bias": state["net.0.bias"], "net.0.weight": made}
    got, ref = from_torch(state, layers), from_torch(plain, layers)
    for a, b in zip(got.get_weights(), ref.get_weights()):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_a_weight_norm_without_a_path():
    g, v = np.array([[2.0], [3.0]]), np.array([[3.0, 4.0], [0.0, 2.0]])
    model = from_torch({"weight_g": g, "weight_v": v, "bias": np.zeros(2)}, [Input((2,)), Dense(2)])
    np.testing.assert_allclose(model.get_weights()[0], [[1.2, 0], [1.6, 3]], atol=1e-15)


@pytest.mark.parametrize(
    "names", [("original", "base"), ("original0", "original1", "original2"), ("original",)]
)
def test_other_parametrisations_are_refused(names):
    state = {f"0.parametrizations.weight.{name}": np.ones((3, 2)) for name in names}
    with pytest.raises(nbbn.FileError, match=r"'0.weight' is parametrised in a way .*remove_param"):
        from_torch({**state, "0.bias": np.ones(3)}, [Input((2,)), Dense(3)])


def test_scripts_are_not_run(tmp_path):
    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"")
        archive.writestr("m/code/__torch__.py", "")
    with pytest.raises(nbbn.FileError, match=r"TorchScript program, which is not run; .*jit\.load"):
        from_torch(tmp_path / "m.pt", [Input((2,)), Dense(2)])


def test_half_precision(tmp_path):
    """bfloat16 is the upper half of a float32."""
    kernel = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    data = (kernel.view(np.uint32) >> 16).astype(np.uint16).tobytes() + np.array(
        [1, 2], np.float16
    ).tobytes()
    header = {"0.weight": ("BF16", [2, 2], [0, 8]), "0.bias": ("F16", [2], [8, 12])}
    text = json.dumps(
        {
            name: dict(zip(("dtype", "shape", "data_offsets"), entry))
            for name, entry in header.items()
        }
    ).encode()
    path = tmp_path / "half.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    model = from_torch(path, [Input((2,)), Dense(2)])
    np.testing.assert_array_equal(model.get_weights()[0], kernel.T)
    np.testing.assert_array_equal(model.get_weights()[1], [1, 2])


def test_the_dtype_of_the_layers_counts():
    network = drawn(MLP)
    layers = [
        Input((6,)),
        *(type(layer)(**{**vars(layer), "dtype": "float64"}) for layer in MLP[1:]),
    ]
    assert (
        from_torch(state_dict(MLP, network), layers).predict(np.zeros((1, 6))).dtype == np.float64
    )


def test_the_source_stays():
    source = nbbn.Sequential(MLP)
    before = source.get_weights()
    model = from_torch(state_dict(MLP, drawn(MLP)), source)
    assert model is not source
    for array, old in zip(source.get_weights(), before):
        np.testing.assert_array_equal(array, old)


def test_a_layer_norm_over_images():
    """Torch has its weights channels first.

    The engine has no such norm: the weights alone are looked at.
    """
    gamma = np.arange(2 * 3 * 4.0).reshape(4, 2, 3)
    model = from_torch(
        {"0.weight": gamma, "0.bias": -gamma}, [Input((2, 3, 4)), LayerNormalization((1, 2, 3))]
    )
    np.testing.assert_array_equal(model.get_weights()[0], np.moveaxis(gamma, 0, 2))


# What is refused


STATE = {"0.weight": np.ones((3, 2)), "0.bias": np.ones(3)}
DENSE = [Input((2,)), Dense(3)]
REFUSED = [
    (
        STATE,
        [Input((4,)), Dense(3)],
        r"^state_dict: module '0' \(weight \(3, 2\), bias \(3,\)\) does not fit layer 'dense' "
        r"\(Dense, which takes weight \(3, 4\), bias \(3,\)\)",
    ),
    (STATE, [Input((2,)), Dense(3, use_bias=False)], r"which takes weight \(3, 2\)\)"),
    (
        STATE,
        [*DENSE, Dense(2)],
        r"no module is left for layer 'dense_1' \(Dense, which takes weight \(2, 3\), bias \(2,\)\)",
    ),
    (
        {**STATE, "2.weight": np.ones(3)},
        DENSE,
        r"module '2' \(weight \(3,\)\) belongs to no layer: the layers take 1",
    ),
    (
        {**STATE, "2.weight_g": np.ones(3)},
        DENSE,
        "key '2.weight_g' is of no module that nbbn reads, whose tensors are",
    ),
    (
        {"0.weight": np.ones((3, 2)), "0.bias": np.ones(3, int)},
        [Input((2,)), Dense(4)],
        "does not fit",
    ),
    (
        {"0.weight": np.ones((3, 2)), "0.bias": np.ones(3, bool)},
        DENSE,
        "0.bias is of bool; only floats are read",
    ),
    ({"epoch": 3}, DENSE, "is no state dict, 'epoch' is a int; give model.state_dict()"),
    (
        {"0.weight": np.full((3, 2), np.nan), "0.bias": np.ones(3)},
        DENSE,
        "kernel holds NaN or infinity",
    ),
    (
        {"0.weight": np.ones((3, 2)), "0.bias": np.full(3, 1e300)},
        [Input((2,)), Dense(3, dtype="float32")],
        "bias holds NaN",
    ),
    (
        {"a.weight": np.ones((3, 2)), "a.bias": np.ones(3)},
        [Input((5,)), Dense(3, name="a")],
        "'a' .* does not fit layer 'a'",
    ),
    (
        {"0.weight": np.ones((2, 3, 1, 1)), "0.bias": np.ones(2)},
        [Input(IMAGE), Conv2D(2, 1), Flatten()],
        "the model ends in flattened images, which torch has channels first",
    ),
    (
        {"0.weight": np.ones((2, 15)), "0.bias": np.ones(2)},
        [Input(IMAGE), Reshape((7, 15)), Dense(2)],
        r"layer 'reshape' reshapes rows of shape \(5, 7, 3\) to \(7, 15\), which torch has in another order",
    ),
    (
        {"0.weight": np.ones((2, 3, 1, 1)), "0.bias": np.ones(2)},
        [Input((105,)), Reshape(IMAGE), Conv2D(2, 1)],
        "layer 'reshape' makes images of rows that no Dense puts in nbbn's order",
    ),
    (
        {"0.weight": np.ones(105), "0.bias": np.ones(105)},
        [Input(IMAGE), Flatten(), GroupNormalization(3)],
        "layer 'group_normalization' normalises groups of features that torch has in another order",
    ),
]


@pytest.mark.parametrize(("state", "layers", "message"), REFUSED)
def test_refuses(state, layers, message):
    with pytest.raises(nbbn.FileError, match=message) as error:
        from_torch(state, layers)
    assert "\n" not in str(error.value)


def test_refuses_arguments():
    with pytest.raises(
        TypeError,
        match=r"from_torch takes a state dict or a path, got int; give model.state_dict\(\)",
    ):
        from_torch(3, DENSE)
    for layers in (Dense(3), 3, None):
        with pytest.raises(
            TypeError, match="from_torch takes a list of layers, a Sequential or a Model, got "
        ):
            from_torch(STATE, layers)
    with pytest.raises(
        ValueError,
        match=r"from_torch needs the shape of one row: begin the layers with Input\(\(...\)\)",
    ):
        from_torch(STATE, [Dense(3)])


def test_refuses_files(tmp_path):
    path = tmp_path / "weights.safetensors"
    whole = to_safetensors(STATE)
    promise = struct.pack("<Q", 2**60)
    huge = json.dumps(
        {"a": {"dtype": "F32", "shape": [2**30, 2**30], "data_offsets": [0, 2**62]}}
    ).encode()
    for data in (
        b"", b"x" * 50, whole[:-1], promise + whole[8:], struct.pack("<Q", len(huge)) + huge,
        b"\x02" + bytes(7) + b"[]",
    ):
        path.write_bytes(data)
        with pytest.raises(
            nbbn.FileError, match=r"is no state dict, or broken .*; give a .pt or .safetensors file"
        ):
            from_torch(path, DENSE)
    path.write_bytes(to_safetensors({"0.weight": np.ones((3, 2), np.uint8)}))
    with pytest.raises(
        nbbn.FileError, match=r"weights.safetensors: 0.weight is of U8; only floats are read"
    ):
        from_torch(path, DENSE)
    with pytest.raises(nbbn.FileError, match="does not exist; check the path"):
        from_torch(tmp_path / "none.pt", DENSE)


def test_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "weights.pt"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(
        ImportError,
        match=r"a .pt file needs the package torch .* save the state dict as .safetensors",
    ):
        from_torch(path, DENSE)


# Against torch


torch_alone = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


def make_torch(name):
    """The networks above as modules of torch, with running statistics that are no longer their
    initial ones.
    """
    from torch import nn

    modules = {
        "cnn": [
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 8, 2, groups=4, bias=False), nn.GroupNorm(2, 8, eps=1e-3),
            nn.ConvTranspose2d(8, 6, (2, 3), 2), nn.MaxPool2d(2), nn.Flatten(),
            nn.BatchNorm1d(2 * 4 * 6), nn.Linear(2 * 4 * 6, 8), nn.ReLU(),
            nn.LayerNorm(8, eps=1e-3), nn.Dropout(), nn.Linear(8, 3, bias=False),
        ],
        "mlp": [
            nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.BatchNorm1d(6),
            nn.ReLU(), nn.Linear(6, 6),
        ],
        "decoder": [
            nn.Linear(5, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Unflatten(1, (2, 3, 4)),
            nn.ConvTranspose2d(2, 3, 2, 2), nn.Conv2d(3, 2, 1),
        ],
        "padded": [
            nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 2),
        ],
    }
    return nn.Sequential(*modules[name])


PADDED = [
    Input(IMAGE), ZeroPadding2D(1), Conv2D(4, 3, 2), Activation("relu"), AveragePooling2D(),
    GlobalAveragePooling2D(), Dense(2),
]


@torch_alone
@pytest.mark.parametrize("kind", ["dict", "pt", "checkpoint", "safetensors"])
@pytest.mark.parametrize(("name", "layers"), [*NETWORKS.items(), ("padded", PADDED)])
def test_torch_gives_the_same(tmp_path, name, layers, kind):
    import torch

    torch.manual_seed(0)
    module, shape = make_torch(name), layers[0].shape
    channels_first = (shape[2], *shape[:2]) if len(shape) == 3 else shape
    for _ in range(3):
        module(torch.randn(16, *channels_first) + 0.5)
    x = np.random.default_rng(4).normal(size=(5, *shape)).astype(np.float32)
    ref = module.eval()(torch.tensor(np.moveaxis(x, -1, 1))).detach().numpy()
    source = module.state_dict()
    if kind in ("pt", "checkpoint"):
        torch.save(
            source if kind == "pt" else {"state_dict": source, "epoch": 3}, tmp_path / "m.pt"
        )
        source = tmp_path / "m.pt"
    elif kind == "safetensors":
        from safetensors.torch import save_file

        save_file(source, tmp_path / "m.safetensors")
        source = tmp_path / "m.safetensors"
    got = from_torch(source, layers).predict(x)
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), ref, rtol=0, atol=5e-6)


@torch_alone
def test_tensors_of_half_precision():
    import torch

    state = {
        "0.weight": torch.ones(3, 2, dtype=torch.bfloat16) * 1.5,
        "0.bias": torch.ones(3, requires_grad=True),
    }
    np.testing.assert_array_equal(from_torch(state, DENSE).get_weights()[0], np.full((2, 3), 1.5))


class Mine:
    """What an unpickler must not make."""


@torch_alone
def test_refuses_files_of_torch(tmp_path):
    import torch

    path, buffer = tmp_path / "m.pt", io.BytesIO()
    torch.save({"0.weight": torch.ones(3, 2), "0.bias": torch.ones(3)}, buffer)
    for data in (buffer.getvalue()[:-200], b"PK\x03\x04" + b"x" * 100, b"\x80\x02}" + b"q" * 20):
        path.write_bytes(data)
        with pytest.raises(
            nbbn.FileError, match=r"m.pt: is no state dict, or broken .*; save model.state_dict\(\)"
        ):
            from_torch(path, DENSE)
    torch.save({"0.weight": Mine()}, path)
    with pytest.raises(nbbn.FileError, match=r"m.pt: is no state dict, or broken"):
        from_torch(path, DENSE)
    torch.save([1, 2], path)
    with pytest.raises(
        nbbn.FileError, match=r"m.pt: holds a list, no state dict; save model.state_dict\(\)"
    ):
        from_torch(path, DENSE)
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(10**6))
    with pytest.raises(nbbn.FileError, match="its entries are compressed, which torch's are not"):
        from_torch(path, DENSE)
