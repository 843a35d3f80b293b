"""The C source of a network.

Compiled without a warning, and the same numbers as the oracle and as nbbn itself.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import shlex
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from naive_layers import NaiveNetwork
from networks import NETWORKS

import nbbn
from nbbn import operations as op
from nbbn.expressions import OPERATORS
from nbbn.fallback import NumpyBlocks
from nbbn.folded_model import FoldedModel
from nbbn.formats.csource import functions, to_c
from nbbn.formats.csource.buffers import placed
from nbbn.formats.csource.steps import literal, lower
from nbbn.layers import (
    ELU,
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
    Layer,
    LayerError,
    LayerNormalization,
    LeakyReLU,
    MaxPooling2D,
    ReLU,
    Reshape,
    Softmax,
    ZeroPadding2D,
)
from nbbn.network import Network

COMPILER = shlex.split(os.environ.get("CC", "")) or [
    shutil.which("cc") or shutil.which("gcc") or ""
]
needs_compiler = pytest.mark.skipif(
    not COMPILER[0], reason="no C compiler: neither $CC nor cc nor gcc is there"
)
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2")
# Of the largest output: what the order of sums and the C library's exponentials may change.
ROUNDINGS = 64


def drawn(shape, layers, dtype=np.float32, seed=5):
    """A network of the layers with random weights that float32 holds exactly."""
    rng, weights, row = np.random.default_rng(seed), [], tuple(shape)
    for layer in layers:
        weights.append({})
        for name, size in layer.weight_shapes(row).items():
            spread = 1 / np.sqrt(max(np.prod(size[:-1]), 2)) if name == "kernel" else 0.3
            array = (
                rng.uniform(0.5, 2, size)
                if name == "var"
                else rng.normal(name == "gamma", spread, size)
            )
            weights[-1][name] = array.astype(np.float32).astype(dtype)
        row = layer.output_shape(row)
    return Network(tuple(layers), tuple(shape), weights, np.dtype(dtype)).check()


@dataclass(frozen=True)
class Declared(Layer):
    """A layer of any operations without arrays."""

    of: tuple[op.Operation, ...] = ()

    def operations(self, input_shape, *others):
        return list(self.of)


def rows(network, n=7, seed=11):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.3, 1.2, (n, *network.input_shape)).astype(network.dtype)
    for some in network.computation().indices:
        x.reshape(n, -1)[:, some.first : some.first + some.size] = rng.integers(
            some.count, size=(n, some.size))
    return x


def compiled(source, folder, *flags):
    """The source as a library, compiled with every warning an error."""
    (folder / "model.c").write_text(source)
    command = [*COMPILER, *FLAGS, *flags, "-fPIC", "-shared", "model.c", "-o", "model.so", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return ctypes.CDLL(str(folder / "model.so"))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def call(function, x, outputs, dtype, *more):
    """The function's outputs for rows; an item past the end is there to be left alone."""
    x, out = np.ascontiguousarray(x), np.full(len(x) * outputs + 1, 77, dtype)
    function.restype = None
    function(pointer(x), pointer(out), ctypes.c_size_t(len(x)), *more)
    assert out[-1] == 77
    return out[:-1].reshape(len(x), -1)


def scratch_of(source, dtype):
    return np.full(int(re.search(r"_SCRATCH (\d+)\n", source)[1]), np.nan, dtype)


def check(network, folder, *, oracle=True, engine=True):
    x, source = rows(network), to_c(network)
    library, outputs = compiled(source, folder), int(np.prod(network.output_shape))
    got = call(library.model_predict, x, outputs, network.dtype)
    refs = []
    if oracle:
        refs.append(NaiveNetwork(network.layers, network.input_shape, network.weights).forward(x))
    if engine:
        refs.append(FoldedModel(network).predict(x))
    for ref in refs:
        bound = ROUNDINGS * np.finfo(network.dtype).eps * max(1, np.abs(ref).max())
        np.testing.assert_allclose(got, ref.reshape(len(x), -1), rtol=0, atol=bound)
    scratch = scratch_of(source, network.dtype)
    again = call(library.model_predict_with, x, outputs, network.dtype, pointer(scratch))
    np.testing.assert_array_equal(again, got)


CASES = {
    name: case
    for name, case in NETWORKS.items()
    if not name.startswith("loss") and "frozen" not in name
}
# What the oracle does not know.
NOT_IN_ORACLE = {"dilated and transposed", "an input layer"}


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_every_network_in_float32(name, tmp_path):
    case = CASES[name]
    check(drawn(case.input_shape, case.built(nbbn)[0]), tmp_path)


@needs_compiler
@pytest.mark.parametrize("name", list(CASES)[::6])
def test_networks_in_float64(name, tmp_path):
    case = CASES[name]
    check(drawn(case.input_shape, case.built(nbbn)[0], np.float64), tmp_path)


IMAGE = (5, 7, 3)
MORE = {
    "no layer does anything": ((5,), [Dropout(0.5), Activation("linear")]),
    "an input layer": (IMAGE, [Input(IMAGE), Flatten()]),
    "in place at once": (IMAGE, [BatchNormalization(), ReLU(6.0), LeakyReLU(0.1), ELU(0.5)]),
    "softmax of pixels": (
        IMAGE,
        [Conv2D(4, 2), Softmax(), Conv2D(3, 2, activation="softmax"), Softmax((1, 3))],
    ),
    "layer norm over all axes but one": (
        IMAGE,
        [Conv2D(4, 2), LayerNormalization((1, 3)), LayerNormalization((1, 2, 3))],
    ),
    "group norm over rows": (
        (6, 4, 3),
        [GroupNormalization(3, axis=1), ReLU(), GroupNormalization(2, axis=2)],
    ),
    "at the entrance": ((4, 6), [Softmax(1), LayerNormalization(axis=1)]),
    "exponential": ((6,), [Dense(4, "exponential")]),
    "dilated and transposed": (
        IMAGE,
        [Conv2D(6, 2, dilation_rate=(1, 2)), Conv2DTranspose(4, 2, dilation_rate=2)],
    ),
    "all kinds": (
        (9, 11, 3),
        [
            Conv2D(6, 3, padding="same", use_bias=False), BatchNormalization(), ReLU(6),
            DepthwiseConv2D(3, 2, "same"), MaxPooling2D(2, padding="same"),
            AveragePooling2D(2, 1, "same"), Conv2DTranspose(10, 3, 2, "same"),
            ZeroPadding2D(((1, 0), (2, 1))), GroupNormalization(5), LayerNormalization(),
            Conv2D(10, 2, groups=2), Flatten(), Dense(12, "gelu"), Reshape((2, 2, 3)),
            GlobalAveragePooling2D(), Dense(3, "softmax"),
        ],
    ),
}


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MORE)
def test_more_networks(name, dtype, tmp_path):
    check(drawn(*MORE[name], dtype), tmp_path, oracle=name not in NOT_IN_ORACLE)


@needs_compiler
def test_functions_at_their_corners(tmp_path):
    layers = [
        ReLU(1.0, 0.3, 0.2), Activation("sigmoid"), Activation("softplus"), Activation("silu"),
        Activation("tanh"),
    ]
    x = np.array([[-1e4, -200, -0.0, 0.0, 0.25, 200, 1e4, np.inf]], np.float32)
    for i, layer in enumerate(layers):
        (tmp_path / str(i)).mkdir()
        library = compiled(to_c(drawn((8,), [layer])), tmp_path / str(i))
        with np.errstate(all="ignore"):
            ref = NaiveNetwork([layer], (8,)).forward(x)
        np.testing.assert_allclose(
            call(library.model_predict, x, 8, np.float32), ref, rtol=1e-6, atol=1e-37
        )


@needs_compiler
def test_nan_stays_nan(tmp_path):
    x = np.ones((2, 4), np.float32)
    x[0, 2] = np.nan
    for i, activation in enumerate(("relu", "softmax", "sigmoid", "leaky_relu", "elu")):
        (tmp_path / str(i)).mkdir()
        library = compiled(to_c(drawn((4,), [Dense(3, activation)])), tmp_path / str(i))
        got = call(library.model_predict, x, 3, np.float32)
        assert np.isnan(got[0]).all() and np.isfinite(got[1]).all()


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ((2, 2, 3, 2, 2), Softmax(axis=1)), ((2, 3, 2, 4), LayerNormalization(axis=(1, 3))),
        ((4, 3), Declared((op.Permute((1, 0)), op.Softmax()))),
        ((2, 3, 4), Declared((op.Permute((2, 0, 1)),))), ((5, 3), Declared((op.Repeat((1, 4)),))),
        ((5, 2, 3), Declared((op.Repeat((2, 3, 4)),))),
        ((5, 2, 3), Declared((op.Repeat((1, 3, 1)),))),
        ((6,), Declared((op.Reshape((3, 2)), op.Softmax(), op.Reshape((2, 3))))),
    ],
    ids=repr,
)
def test_moves(shape, layer, dtype, tmp_path):
    """What the engine does not know yet: other axes of any row, permutations and repetitions."""
    network = drawn(shape, [layer], dtype)
    x, outputs = rows(network), math.prod(network.output_shape)
    library = compiled(to_c(network), tmp_path)
    got, ref = call(library.model_predict, x, outputs, dtype), NumpyBlocks(network).run(x)
    np.testing.assert_allclose(got, ref, rtol=0, atol=16 * np.finfo(dtype).eps)


ACTIVATIONS = {
    **{name: Activation(name) for name in nbbn.layers.ACTIVATIONS if name != "softmax"},
    "relu6": ReLU(6.0), "all of relu": ReLU(6.0, 0.25, 0.5), "leaky_relu of 0": LeakyReLU(0.0),
    "elu of 2": ELU(2.0),
}


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_everywhere(dtype, tmp_path):
    """NumPy's values to a few roundings of each: near 0, far out, at infinities and NaN."""
    powers = np.geomspace(1e-12, 30, 50)
    x = np.concatenate([-powers, powers, [-1e4, 1e4, -np.inf, np.inf, np.nan, 0.5, 6.0, -0.0, 0.0]])
    x = x.astype(dtype)[:, None]
    for name, layer in ACTIVATIONS.items():
        (tmp_path / name).mkdir()
        network = drawn((1,), [layer], dtype)
        library = compiled(to_c(network), tmp_path / name)
        got, ref = call(library.model_predict, x, 1, dtype), NumpyBlocks(network).run(x)
        np.testing.assert_allclose(got, ref, rtol=8 * np.finfo(dtype).eps, atol=0, err_msg=name)


def test_every_operator_of_expressions_has_its_c():
    assert set(functions.OPERATORS) == set(OPERATORS)


@needs_compiler
def test_the_bound_of_a_relu_holds_for_infinities(tmp_path):
    x = np.array([[-np.inf], [np.inf], [-1], [7], [np.nan]], np.float32)
    network = drawn((1,), [ReLU(6)])
    library = compiled(to_c(network), tmp_path)
    answers = {
        "C": call(library.model_predict, x, 1, np.float32),
        "NumPy": NumpyBlocks(network).run(x),
        "engine": FoldedModel(network).predict(x),
    }
    for way, got in answers.items():
        np.testing.assert_array_equal(got, [[0], [6], [0], [6], [np.nan]], err_msg=way)


# -- buffers


def copied(x, y, n):
    return f"copy {x} {y} {n}"


def step(*sources, shape=(4,)):
    return op.Step(op.Softmax(), 0, sources, (shape,) * len(sources), shape)


NEW, SUM, IN_PLACE, SUM_IN_PLACE = "{0}>{y}", "{0}+{1}>{y}", "{y}!", "{y}+={1}"
PLACED = {
    "a chain takes turns": (
        [(NEW, step(-1)), (NEW, step(0)), (IN_PLACE, step(1)), (NEW, step(2)), (NEW, step(3))],
        ["x>t0", "t0>t1", "t1!", "t1>t0", "t0>out"],
    ),
    "in place at the end": (
        [(NEW, step(-1)), (IN_PLACE, step(0)), (None, step(1))], ["x>out", "out!"],
    ),
    "the caller's rows stay": (
        [(IN_PLACE, step(-1)), (NEW, step(0))], ["copy x t0 4", "t0!", "t0>out"],
    ),
    "nothing": ([], ["copy x out 9"]),
    "nothing but another shape": ([(None, step(-1))], ["copy x out 9"]),
    "what is read later stays": (
        [(NEW, step(-1)), (NEW, step(0)), (NEW, step(1)), (SUM, step(0, 2)), (NEW, step(3))],
        ["x>t0", "t0>t1", "t1>t2", "t0+t2>t1", "t1>out"],
    ),
    "not in place of what is read later": (
        [(NEW, step(-1)), (IN_PLACE, step(0)), (SUM_IN_PLACE, step(1, 0))],
        ["x>t0", "copy t0 out 4", "out!", "out+=t0"],
    ),
    "another shape of what is read later": (
        [(NEW, step(-1)), (None, step(0)), (IN_PLACE, step(1)), (SUM, step(0, 2)),
         (IN_PLACE, step(3))],
        ["x>t0", "copy t0 t1 4", "t1!", "t0+t1>out", "out!"],
    ),
    "a result that nobody reads": (
        [(NEW, step(-1)), (NEW, step(-1)), (NEW, step(1))], ["x>t0", "x>t0", "t0>out"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACED)
def test_buffers_by_lifetime(name):
    made, calls = PLACED[name]
    assert placed(9, [s for _, s in made], [c for c, _ in made], copied).calls == calls


def test_a_buffer_is_as_large_as_what_it_holds():
    sizes = (6, 5, 7, 2, 3)
    steps = [step(i - 1, shape=(n,)) for i, n in enumerate(sizes)]
    assert placed(9, steps, [NEW] * len(steps), copied).buffers == {"t0": 7, "t1": 5}


def test_a_chain_takes_two_buffers_at_most():
    chains = [*MORE.values(), *((case.input_shape, case.built(nbbn)[0]) for case in CASES.values())]
    for shape, layers in chains:
        assert len(lower(drawn(shape, layers))[1].buffers) <= 2


# -- heads


HEAD = {2: [Dense(1, "sigmoid")], 3: [Dense(6, "relu"), Dense(3, "softmax")]}
LABELS = {
    "ints": np.array([-5, 3, 7]), "smallest ints": np.array([-(2**63), 3, 2**63 - 1]),
    "texts": np.array(['a "quoted" \\ ??/', "\N{SNOWMAN}\n", ""]),
    "objects": np.array(["x", "y", "z"], object), "floats": np.array([0.1, 2.5, 1e300]),
    "two texts": np.array(["no", "yes"]), "flags": np.array([False, True]),
}


@needs_compiler
@pytest.mark.parametrize("name", LABELS)
def test_classes(name, tmp_path):
    classes = LABELS[name]
    network = drawn((5,), HEAD[len(classes)])
    model, x = FoldedModel(network, kind="classifier", classes=classes), rows(network, 40)
    library = compiled(model.to_c(name="net"), tmp_path)
    index = call(library.net_classify, x, 1, np.uintp)[:, 0]
    np.testing.assert_array_equal(classes[index], model.predict(x))
    assert len(set(index)) > 1
    if classes.dtype.kind in "UO" or name == "smallest ints":
        values = [
            v.decode() for v in (ctypes.c_char_p * len(classes)).in_dll(library, "net_labels")
        ]
        assert values == [str(c) for c in classes]
    else:
        kind = ctypes.c_double if classes.dtype.kind == "f" else ctypes.c_longlong
        assert list((kind * len(classes)).in_dll(library, "net_labels")) == classes.tolist()


@needs_compiler
def test_ties_go_to_the_first_class(tmp_path):
    network = Network(
        (Dense(3, "softmax"),), (2,),
        [{"kernel": np.zeros((2, 3), "f4"), "bias": np.array([0, 1, 1], "f4")}], np.dtype("f4"),
    )
    library = compiled(FoldedModel(network, kind="classifier", classes=[4, 5, 6]).to_c(), tmp_path)
    assert call(library.model_classify, np.zeros((1, 2), "f4"), 1, np.uintp)[0, 0] == 1


@needs_compiler
def test_one_sigmoid_in_the_middle_is_the_first_class(tmp_path):
    weights = {"kernel": np.ones((1, 1), "f4"), "bias": np.zeros(1, "f4")}
    network = Network((Dense(1, "sigmoid"),), (1,), [weights], np.dtype("f4"))
    model = FoldedModel(network, kind="classifier", classes=[4, 5])
    x = np.array([[0], [1e-6], [-1]], "f4")
    library = compiled(model.to_c(), tmp_path)
    assert call(library.model_predict, x, 1, np.float32)[0, 0] == 0.5
    assert call(library.model_classify, x, 1, np.uintp)[:, 0].tolist() == [0, 1, 0]
    assert model.predict(x).tolist() == [4, 5, 4]


def test_only_a_classifier_has_classes():
    network = drawn((5,), [Dense(3, "sigmoid")])
    assert "_classify" not in to_c(network)
    text = FoldedModel(network, kind="multilabel", classes=np.arange(3)).to_c()
    assert "_classify" not in text and "above 0.5" in text


# -- the file


@needs_compiler
def test_declarations_alone_and_two_models_in_one_program(tmp_path):
    for name, units in (("one", 2), ("two", 3)):
        to_c(drawn((4,), [Dense(units)]), tmp_path / f"{name}.c")
    (tmp_path / "main.c").write_text("""
        #define ONE_DECLARATIONS_ONLY
        #include "one.c"
        #define TWO_DECLARATIONS_ONLY
        #include "two.c"
        int main(void)
        {
            one_real x[ONE_INPUTS] = {0}, one[ONE_OUTPUTS];
            two_real two[TWO_OUTPUTS];
            one_predict(x, one, 1);
            two_predict(x, two, 1);
            return ONE_INPUTS == 4 && TWO_OUTPUTS == 3 ? 0 : 1;
        }
    """)
    command = [*COMPILER, *FLAGS, "main.c", "one.c", "two.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"]).returncode == 0


@needs_compiler
def test_declarations_in_cpp(tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler: neither c++ nor g++ is there")
    to_c(drawn((4,), [Dense(2)]), tmp_path / "one.c")
    head = '#define ONE_DECLARATIONS_ONLY\n#include "one.c"\n'
    (tmp_path / "main.cpp").write_text(
        head + "int main() { one_real x[4] = {}, y[2]; one_predict(x, y, 1); return 0; }\n"
    )
    subprocess.run([*COMPILER, *FLAGS, "-c", "one.c"], cwd=tmp_path, check=True)
    subprocess.run(
        [compiler, "-Wall", "-Werror", "main.cpp", "one.o", "-o", "main", "-lm"],
        cwd=tmp_path,
        check=True,
    )
    assert subprocess.run([tmp_path / "main"]).returncode == 0


@needs_compiler
def test_many_threads_at_once(tmp_path):
    network = drawn(*MORE["all kinds"])
    library, x = compiled(to_c(network), tmp_path), rows(network, 300)
    ref = call(library.model_predict, x, 3, np.float32)
    results = [None] * 8

    def work(i):
        # Ctypes lets go of the interpreter's lock.
        results[i] = call(library.model_predict, x, 3, np.float32)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got in results:
        np.testing.assert_array_equal(got, ref)


@needs_compiler
def test_a_large_network_takes_the_callers_scratch_only(tmp_path):
    network = drawn((100, 100, 1), [Conv2D(8, 3), ReLU(), MaxPooling2D(2), Flatten(), Dense(2)])
    source = to_c(network)
    assert "void model_predict(" not in source and "on the stack that would be too much" in source
    x = rows(network, 2)
    got = call(
        compiled(source, tmp_path).model_predict_with, x, 2, np.float32,
        pointer(scratch_of(source, np.float32)),
    )
    np.testing.assert_allclose(got, FoldedModel(network).predict(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_literals_are_exact(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    for value in (
        0.1, -3.0, 0.0, 1e-30, 12345.678, float(tiny), float(np.finfo(dtype).max), 65536.0,
    ):
        text = literal(dtype(value))
        assert dtype(float.fromhex(text.rstrip("f"))) == dtype(value) and text.endswith("f") == (
            dtype == np.float32
        )
        assert "p" in text and "x" in text  # a literal of C99 needs the exponent
    assert literal(dtype("inf")) == "INFINITY" and literal(dtype("-inf")) == "-INFINITY"


def test_the_file_and_its_name(tmp_path):
    model = FoldedModel(drawn((4,), [Dense(2)]))
    for file, name in (("net.c", "net"), ("my-net.v2.c", "my_net_v2"), ("2.c", "model_2")):
        text = model.to_c(tmp_path / file)
        assert (
            tmp_path / file
        ).read_text() == text and f"void {name}_predict(const {name}_real *x" in text
    assert model.to_c() == model.to_c()  # the same text each time
    with pytest.raises(ValueError, match="must be a C identifier"):
        model.to_c(name="a b")
    with pytest.raises(nbbn.FileError, match="does not exist"):
        model.to_c(tmp_path / "none" / "net.c")


class Unknown(op.Operation):
    """An operation that C does not know."""


def test_refuses_an_operation_that_it_does_not_know():
    with pytest.raises(LayerError, match="layer 0: to_c cannot write Unknown; it writes Dense"):
        to_c(Network((Declared((Unknown(),)),), (4,), [{}], np.dtype("f4")))


def test_refuses_labels_that_are_no_strings():
    model = FoldedModel(drawn((5,), HEAD[2]), kind="classifier", classes=["a", "b\0c"])
    with pytest.raises(ValueError, match="NUL character"):
        model.to_c()


def test_refuses_a_network_that_does_not_fit():
    with pytest.raises(LayerError, match="needs arrays"):
        to_c(Network((Dense(2),), (3,), [{}], np.dtype("f4")))


@needs_compiler
@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_the_snippet_of_the_docs_is_right_for_every_number_type(tmp_path, dtype):
    """Written for float it once read past the arrays of a float64 model."""
    root = Path(__file__).resolve().parents[1]
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "docs").rglob("*.rst")]
    blocks = [block for page in pages
              for block in re.findall(r"#define DIGITS_DECLARATIONS_ONLY.*?(?=\n```)",
                                      page.read_text(encoding="utf-8"), re.S)]
    found = [block for block in blocks if "digits_real x" in block]
    head, calls = found[0].split("digits_real x", 1)
    network = drawn((4,), [Dense(3, "softmax")], dtype=np.float64)
    model = FoldedModel(network, kind="classifier", classes=[5, 6, 7])
    text = model.to_c(tmp_path / "digits.c", dtype=dtype)
    kind = "float" if dtype == "float32" else "double"
    assert f"typedef {kind} digits_real;" in text and f"4 numbers of type digits_real ({kind})" in text
    (tmp_path / "main.c").write_text(
        f"{head}\n#include <stdio.h>\nint main(void)\n{{\n"
        + "digits_real x" + calls.replace("digits_predict", """for (int i = 0; i < 4; i++)
            x[i] = (digits_real)(i + 1) / 4;
        digits_predict""", 1)
        + '\nfor (int i = 0; i < 3; i++) printf("%.17g\\n", (double)proba[i]);'
        + '\nprintf("%d\\n", (int)digits_labels[class]);\nreturn 0;\n}\n'
    )
    command = [*COMPILER, *FLAGS, "main.c", "digits.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    *got, label = out.stdout.split()
    x = np.arange(1, 5)[None] / 4
    ref = model.predict_proba(x)[0]
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(np.array(got, float), ref, rtol=tolerance)
    assert int(label) == model.predict(x)[0]
