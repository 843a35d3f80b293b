"""The fold engine on networks, its report and its numeric check, against a plain forward pass."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from nbbn import compiler, fallback
from nbbn import operations as op
from nbbn.fold import (
    FoldCheckFailed,
    FoldEntry,
    FoldRefused,
    FoldReport,
    SuspiciousChannel,
    check_fold,
    fold_checked,
    fold_network,
)
from nbbn.fold import check as check_module
from nbbn.layers import Activation, BatchNormalization, Dense, Layer, LayerError
from nbbn.network import Network
from nbbn.predictor import Predictor
from nbbn.program.inference import InferenceProgram

LINEAR = Activation("linear")
ACTIVATIONS = {
    "linear": lambda z: z, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True),
}


def forward(network, x):
    """The network in the dtype of `x`, layer by layer from the formulas."""
    for layer, w in zip(network.layers, network.weights, strict=True):
        if isinstance(layer, BatchNormalization):
            shape = [1] * x.ndim
            shape[layer.axis] = -1
            gamma, beta = (
                w.get("gamma", np.ones_like(w["mean"])),
                w.get("beta", np.zeros_like(w["mean"])),
            )
            mean, var, gamma, beta = (a.reshape(shape) for a in (w["mean"], w["var"], gamma, beta))
            x = gamma * (x - mean) / np.sqrt(var + layer.epsilon) + beta
            continue
        if isinstance(layer, Dense):
            x = x @ w["kernel"] + (w["bias"] if layer.use_bias else 0)
        x = ACTIVATIONS[layer.activation](x)
    return x


class Runner:
    """What `check_fold` takes: a network, computed by a function `(network, rows) -> outputs`."""

    def __init__(self, network, compute):
        self.network, self.compute = network, compute

    def __call__(self, rows):
        return self.compute(self.network, rows)

    def with_weights(self, weights):
        return Runner(replace(self.network, weights=weights), self.compute)


def runs(compute):
    """What makes runners."""
    return lambda network: Runner(network, compute)


run = runs(lambda network, rows: forward(network, rows).astype(network.dtype))


def make(layers, input_shape=(5,), dtype=np.float64, seed=0):
    """A network with random weights: biases and means far from 0, variances far from 1."""
    rng = np.random.default_rng(seed)
    draw = {
        "gamma": lambda shape: rng.normal(1, 0.5, shape),
        "var": lambda shape: rng.uniform(0.2, 4, shape),
        "kernel": lambda shape: rng.normal(size=shape) / np.sqrt(shape[0]),
    }
    weights, shape = [], tuple(input_shape)
    for layer in layers:
        shapes = layer.weight_shapes(shape)
        weights.append(
            {
                name: draw.get(name, rng.standard_normal)(s).astype(dtype)
                for name, s in shapes.items()
            }
        )
        shape = layer.output_shape(shape)
    return Network(tuple(layers), tuple(input_shape), weights, np.dtype(dtype))


def rows_for(network, n=40):
    return np.random.default_rng(1).normal(size=(n, *network.input_shape))


def assert_same_function(network, folded):
    x = rows_for(network)
    ref, got = forward(network, x), forward(folded, x)
    np.testing.assert_allclose(got, ref, rtol=0, atol=1e-12 * np.abs(ref).max())


def kinds(network):
    return [type(layer).__name__ for layer in network.layers]


BN = BatchNormalization()
# name, layers, layer types left, (into, direction) of each batch norm
FOLDS = [
    ("dense, bn", [Dense(4), BN], ["Dense"], [("dense", "backward")]),
    ("no bias", [Dense(4, use_bias=False), BN], ["Dense"], [("dense", "backward")]),
    ("bn first", [BN, Dense(4)], ["Dense"], [("dense", "forward")]),
    (
        "bn first, no bias", [BN, Dense(4, "tanh", use_bias=False)], ["Dense"],
        [("dense", "forward")],
    ),
    ("bn, linear, dense", [BN, LINEAR, Dense(4)], ["Dense"], [("dense", "forward")]),
    ("dense, linear, bn", [Dense(4), LINEAR, BN], ["Dense"], [("dense", "backward")]),
    (
        "pre",
        [Dense(4), BN, Activation("relu"), Dense(3), BN, Activation("tanh"), Dense(2, "softmax")],
        ["Dense", "Activation", "Dense", "Activation", "Dense"],
        [("dense", "backward"), ("dense_1", "backward")],
    ),
    (
        "post", [Dense(4, "relu"), BN, Dense(3, "tanh"), BN, Dense(2)], ["Dense", "Dense", "Dense"],
        [("dense_1", "forward"), ("dense_2", "forward")],
    ),
    (
        "post, layer by layer",
        [Dense(4), Activation("relu"), BN, Dense(3), Activation("relu"), BN, Dense(2)],
        ["Dense", "Activation", "Dense", "Activation", "Dense"],
        [("dense_1", "forward"), ("dense_2", "forward")],
    ),
    (
        "both sides", [BN, Dense(4), BN, Dense(3)], ["Dense", "Dense"],
        [("dense", "forward"), ("dense", "backward")],
    ),
    ("three backward", [Dense(4), BN, BN, BN], ["Dense"], [("dense", "backward")] * 3),
    (
        "two forward", [Dense(4, "relu"), BN, BN, Dense(2)], ["Dense", "Dense"],
        [("dense_1", "forward")] * 2,
    ),
    (
        "bn, linear, bn, dense", [BN, LINEAR, BN, LINEAR, Dense(2)], ["Dense"],
        [("dense", "forward")] * 2,
    ),
]


@pytest.mark.parametrize(
    ("layers", "left", "where"), [f[1:] for f in FOLDS], ids=[f[0] for f in FOLDS]
)
@pytest.mark.parametrize("row", [(5,), (3, 5)], ids=["rows", "rows of two axes"])
def test_folds(layers, left, where, row):
    network = make(layers, row)
    folded, report = fold_network(network, strict=True)
    assert kinds(folded.check()) == left
    assert [(e.into, e.direction) for e in report.entries] == where
    assert report.n_folded == report.n_total == len(where)
    assert_same_function(network, folded)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(
    "layers", [lambda bn: [Dense(4), bn], lambda bn: [bn, Dense(4)]], ids=["backward", "forward"]
)
def test_affine_four_ways(layers, scale, center):
    network = make(layers(BatchNormalization(scale=scale, center=center)))
    folded, _ = fold_network(network, strict=True)
    assert_same_function(network, folded)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_variance_near_zero(epsilon):
    network = make([Dense(4), BatchNormalization(epsilon=epsilon), Activation("relu"), Dense(2)])
    network.weights[1]["var"][:] = [1e-14, 1.0, 0.0, 2.0]
    network.weights[1]["gamma"][:] = [-2, 1, 1, 1]
    folded, report = fold_network(network)
    assert_same_function(network, folded)
    assert [(c.name, c.channel, c.var) for c in report.suspicious_channels] == [
        ("batch_normalization", 0, 1e-14),
        ("batch_normalization", 2, 0.0),
    ]
    gains = [c.gain for c in report.suspicious_channels]
    np.testing.assert_allclose(
        gains, [2 / np.sqrt(1e-14 + epsilon), 1 / np.sqrt(epsilon)], rtol=1e-12
    )
    assert report.largest_gain == gains[0]


# layers, row, (folded, reason) of each batch norm
REFUSALS = [
    (
        [Dense(4, "relu"), BN, Activation("relu"), Dense(2)],
        (5,),
        "before it: dense ends in relu, which is not linear; after it: activation is relu, which is not linear",
    ),
    (
        [Dense(4), Activation("tanh"), BN],
        (5,),
        "before it: activation is tanh, which is not linear; after it: there is no layer",
    ),
    ([BN], (5,), "before it: there is no layer; after it: there is no layer"),
    (
        [Dense(3), BatchNormalization(axis=1), Dense(3)],
        (3, 3),
        "before it: it normalises axis 1, dense acts on axis 2; after it: it normalises axis 1, dense_1 acts on axis 2",
    ),
    (
        [Dense(3), BatchNormalization(axis=-2)],
        (3, 3),
        "before it: it normalises axis 1, dense acts on axis 2; after it: there is no layer",
    ),
]


@pytest.mark.parametrize(("layers", "row", "reason"), REFUSALS)
def test_refuses_with_the_reason(layers, row, reason):
    network = make(layers, row)
    folded, report = fold_network(network)
    assert report.entries == (FoldEntry("batch_normalization", None, None, False, reason),)
    assert report.n_folded == 0
    assert folded.layers == network.layers
    for before, after in zip(network.weights, folded.weights, strict=True):
        for name in before:
            np.testing.assert_array_equal(after[name], before[name])
    with pytest.raises(
        FoldRefused, match=r"1 of 1 batch norms cannot be folded: batch_normalization \(before it"
    ):
        fold_network(network, strict=True)


def test_axis_is_compared_not_its_sign():
    network = make([Dense(4), BatchNormalization(axis=2)], (3, 5))
    folded, _ = fold_network(network, strict=True)
    assert_same_function(network, folded)


def test_merges_what_must_stay():
    network = make([Activation("relu"), BN, BatchNormalization(scale=False), Activation("relu")])
    folded, report = fold_network(network)
    assert kinds(folded.check()) == ["Activation", "BatchNormalization", "Activation"]
    assert report.entries[0] == FoldEntry(
        "batch_normalization", "batch_normalization_1", "merged", True
    )
    assert (report.entries[1].folded, report.n_folded, report.n_total) == (False, 1, 2)
    assert_same_function(network, folded)


def test_batch_norms_over_different_axes_are_not_merged():
    network = make([BatchNormalization(axis=1), BN], (3, 3))
    folded, report = fold_network(network)
    assert kinds(folded) == kinds(network)
    assert (
        "batch_normalization normalises axis 1, batch_normalization_1 axis 2"
        in report.entries[0].reason
    )
    assert_same_function(network, folded)


def test_merged_batch_norm_keeps_its_mean():
    """Multiplied out, gain * x + shift loses what x - mean keeps.

    Here 1e6 against a deviation of 1.
    """
    network = make([BN, BN, Activation("relu")], dtype=np.float32)
    network.weights[0]["mean"][:] = 1e6
    x = (1e6 + np.round(rows_for(network) * 16) / 16).astype(np.float32)
    ref = forward(
        replace(
            network, weights=[{k: v.astype(float) for k, v in w.items()} for w in network.weights]
        ),
        x,
    )
    np.testing.assert_allclose(forward(fold_network(network)[0], x), ref, atol=1e-5)


def test_layer_without_a_rule():
    class Unheard(op.Operation):
        pass

    class Unknown(Layer):
        def operations(self, input_shape, *others):
            return [Unheard()]

    _, report = fold_network(make([Unknown(), BN]))
    assert "unknown is a Unknown, which takes in no batch norm" in report.entries[0].reason


def test_source_is_untouched_and_shares_nothing():
    network = make([Dense(4, use_bias=False), BN, Activation("relu"), Dense(2)])
    copies = pickle.loads(pickle.dumps(network.weights))
    for arrays in network.weights:
        for array in arrays.values():
            array.setflags(write=False)
    layers = network.layers
    folded, _ = fold_network(network)
    assert network.layers is layers
    for arrays, copy in zip(network.weights, copies, strict=True):
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, copy[name])
            assert not any(
                np.shares_memory(array, other) for w in folded.weights for other in w.values()
            )


def test_whole_chain_in_float64_cast_last():
    """Each of three folds rounded to float32 by itself would lose the small difference of large
    offsets.
    """
    network = make([Dense(4), BN, BN, BN], dtype=np.float32)
    for arrays, mean, beta in zip(
        network.weights[1:], (0, 1e6 + 0.25, 0), (1e6, 0, 0), strict=True
    ):
        arrays.update(gamma=np.full(4, 1, np.float32), beta=np.full(4, beta, np.float32))
        arrays.update(mean=np.full(4, mean, np.float32), var=np.full(4, 1 - 1e-3, np.float32))
    wide = replace(
        network, weights=[{k: v.astype(float) for k, v in w.items()} for w in network.weights]
    )
    ref = fold_network(replace(wide, dtype=np.dtype(float)))[0].weights[0]["bias"]
    folded, _ = fold_network(network)
    assert folded.dtype == folded.weights[0]["bias"].dtype == np.float32
    np.testing.assert_array_equal(folded.weights[0]["bias"], ref.astype(np.float32))


def test_no_batch_norm():
    network = make([Dense(4), LINEAR, Activation("relu")])
    folded, report = fold_network(network, strict=True)
    assert kinds(folded) == ["Dense", "Activation"]
    assert (report.n_total, report.largest_gain, str(report)) == (
        0, 0.0, "0 of 0 batch norms folded",
    )
    assert kinds(fold_network(make([LINEAR, LINEAR]))[0]) == ["Activation"]


def test_weights_that_do_not_fit_the_dtype():
    network = make([Dense(4), BN], dtype=np.float32)
    network.weights[0]["kernel"][:] = 1e38
    network.weights[1].update(gamma=np.full(4, 1e5, np.float32))
    with pytest.raises(ValueError, match="kernel of dense is not finite in float32 after folding"):
        fold_network(network)


def test_refuses_a_network_that_does_not_fit():
    network = make([Dense(4), BN])
    del network.weights[1]["var"]
    with pytest.raises(LayerError, match="needs arrays"):
        fold_network(network)


# The numeric check

DEEP = [Dense(32), BN, Activation("relu"), Dense(16, "tanh"), BN, Dense(3, "softmax")]


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 1e-4), (np.float64, 1e-13)])
@pytest.mark.parametrize("seed", range(5))
def test_check_passes_and_is_tight(dtype, largest, seed):
    network = make(DEEP, (20,), dtype, seed)
    folded, report = fold_checked(network, run=run)
    assert 0 < report.max_abs_error <= report.bound < largest
    assert 0 < report.max_rel_error < largest
    assert report.rows_checked == 64
    x = rows_for(network).astype(dtype)
    np.testing.assert_allclose(run(folded)(x), run(network)(x), rtol=0, atol=report.bound)


def test_check_allows_for_cancellation_and_gains():
    """A relu far from zero, centred by a batch norm of gain 59.

    Rounding moves outputs by 1e-4, and the fold is right.
    """
    network = make([Dense(30, "relu"), BN, Dense(3)], (20,), np.float32)
    network.weights[0]["bias"][:] = 300
    network.weights[1].update(mean=np.full(30, 300, np.float32), var=np.full(30, 1e-5, np.float32))
    _, report = fold_checked(network, run=run)
    assert report.max_rel_error > 8 * np.finfo(np.float32).eps
    assert report.bound < 0.01 * report.max_abs_error / report.max_rel_error


def test_bound_is_taken_on_the_rows_that_differ_most():
    """One row among 464 whose roundings are magnified.

    No output is large, so only its own spread explains them.
    """

    wave = runs(lambda network, rows: np.sin(forward(network, rows)))
    rows = np.random.default_rng(0).normal(size=(400, 5))
    rows[123] *= 1e4
    network = make([Dense(8), BN], dtype=np.float32)
    _, report = fold_checked(network, check=rows, run=wave)
    assert report.max_abs_error > 10 * fold_checked(network, run=wave)[1].bound


def test_check_allows_for_the_last_bits_of_an_activation():
    """No weight, so no spread: two kernels for one tanh may still round differently."""
    before = make([Activation("tanh")], dtype=np.float32)
    after = make([Activation("tanh"), LINEAR], dtype=np.float32)

    def rounded(network, rows):
        return forward(network, rows) + np.float32(1e-7) * (len(network.layers) - 1)

    found = check_fold(before, after, None, runs(rounded))
    assert 0 < found.max_abs <= found.bound < 1e-6


@pytest.mark.parametrize(
    ("layer", "name", "factor"), [(0, "bias", 1.01), (0, "kernel", 1.001), (4, "bias", 0.99)]
)
def test_check_catches_a_wrong_fold(monkeypatch, layer, name, factor):
    def wrong(network, strict):
        folded, report = fold_network(network)
        i = [i for i, kind in enumerate(kinds(folded)) if kind == "Dense"][layer // 2]
        folded.weights[i][name] *= np.float32(factor)
        return folded, report

    monkeypatch.setattr(check_module, "fold_network", wrong)
    with pytest.raises(
        FoldCheckFailed,
        match=r"differs by .* on 64 rows, where rounding explains .* \(largest gain",
    ):
        fold_checked(make(DEEP, (20,), np.float32), run=run)


def test_check_uses_the_given_rows_too():
    """A unit that is dead on all random rows: only the given row shows the difference."""
    before = Network(
        (Dense(1), Activation("relu")), (1,),
        [{"kernel": np.ones((1, 1)), "bias": np.full(1, -50.0)}, {}], np.dtype(float),
    )
    after = replace(
        before, weights=[{"kernel": np.full((1, 1), 2.0), "bias": np.full(1, -100.0)}, {}]
    )
    assert check_fold(before, after, None, run)[:2] == (0.0, 0.0)
    found = check_fold(before, after, [[60.0], [55.0]], run)
    assert (found.max_abs, found.max_rel, found.rows) == (10.0, 1.0, 66)
    assert found.max_abs > found.bound


def test_check_is_repeatable():
    network = make(DEEP, (20,), np.float32)
    assert fold_checked(network, run=run)[1] == fold_checked(network, run=run)[1]


@pytest.mark.parametrize(("first", "row"), [(BN, (3,)), (BatchNormalization(axis=1), (3, 4))])
def test_random_rows_follow_a_batch_norm_that_comes_first(first, row):
    network = make([first], row)
    network.weights[0].update(mean=np.array([0, 1e4, -1e4]), var=np.array([1, 1e-2, 1e4]))
    seen = []

    watch = runs(lambda network, rows: seen.append(rows) or forward(network, rows))
    check_fold(network, network, None, watch)
    per_channel = np.moveaxis(seen[0], 1, 0).reshape(3, -1)
    np.testing.assert_allclose(per_channel.mean(axis=1), [0, 1e4, -1e4], atol=0.4 * 100)
    np.testing.assert_allclose(per_channel.std(axis=1), [1, 0.1, 100], rtol=0.3)


@pytest.mark.parametrize(
    ("error", "rows", "message"),
    [
        (ValueError, np.zeros((3, 4)), r"check must have shape \(n, 5\), .* got \(3, 4\)"),
        (ValueError, np.zeros(5), r"check must have shape \(n, 5\), .* got \(5,\)"),
        (ValueError, 3.0, r"check must have shape \(n, 5\), .* got \(\)"),
        (TypeError, [["a"] * 5], "check must hold real numbers, got <U1"),
        (ValueError, np.full((1, 5), np.nan), "check holds NaN, infinity or values beyond float32"),
        (ValueError, np.full((1, 5), 1e300), "check holds NaN, infinity or values beyond float32"),
    ],
)
def test_check_refuses_rows(error, rows, message):
    with pytest.raises(error, match=message):
        fold_checked(make([Dense(4), BN], dtype=np.float32), check=rows, run=run)


@pytest.mark.parametrize(
    "rows", [np.zeros((0, 5)), np.ones((2, 5), np.uint8), np.ones((1, 5), bool), [[1, 2, 3, 4, 5]]]
)
def test_check_takes_any_real_rows(rows):
    _, report = fold_checked(make([Dense(4), BN], dtype=np.float32), check=rows, run=run)
    assert report.rows_checked == 64 + len(rows)


@pytest.mark.parametrize(("bad", "which"), [(0, "unfolded"), (1, "folded")])
def test_check_refuses_outputs_that_are_not_finite(bad, which):
    network, calls = make([Dense(4), BN]), []

    def broken(network):
        calls.append(network)
        outputs = np.zeros((64, 4))
        if len(calls) == bad + 1:
            outputs[2:5, 1] = np.inf
        return lambda rows: outputs

    with pytest.raises(
        FoldCheckFailed, match=f"outputs of the {which} network are not finite on 3 of 64 rows"
    ):
        fold_checked(network, run=broken)


@pytest.mark.parametrize("way", ["engine", "numpy"])
def test_each_network_is_lowered_once(monkeypatch, way):
    """The perturbed copies have the structure of their source: two lowerings, not ten."""
    made = []

    def counted(kind, method):
        plain = getattr(kind, method)
        monkeypatch.setattr(kind, method, lambda *args, **more: (made.append(kind), plain(*args, **more))[1])

    counted(InferenceProgram if way == "engine" else fallback.NumpyBlocks, "__init__")
    monkeypatch.setattr(compiler, "available", lambda: way == "engine")
    network = make(DEEP, (20,), np.float32)
    _, report = fold_checked(network, run=Predictor)
    assert len(made) == 2 and 0 < report.max_abs_error <= report.bound < 1e-4


@pytest.mark.parametrize("way", ["engine", "numpy"])
def test_a_predictor_takes_other_weights(monkeypatch, way):
    monkeypatch.setattr(compiler, "available", lambda: way == "engine")
    network, other = (make(DEEP, (20,), seed=seed) for seed in (0, 1))
    x = rows_for(network)
    first = Predictor(network)
    before = first(x)
    second = first.with_weights(other.weights)
    np.testing.assert_array_equal(second(x), Predictor(other)(x))
    np.testing.assert_array_equal(first(x), before)


def test_strict_reaches_the_engine():
    with pytest.raises(FoldRefused, match="there is no layer"):
        fold_checked(make([BN]), strict=True, run=run)


# The report


def full_report():
    network = make([Dense(6), BN, Activation("relu"), BN, Activation("relu"), Dense(2)])
    network.weights[1]["var"][:] = 1e-9
    return fold_checked(network, run=run)[1]


def test_report_goes_through_json():
    report = full_report()
    back = FoldReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert back == report
    assert isinstance(back.suspicious_channels[0], SuspiciousChannel)
    assert pickle.loads(pickle.dumps(report)) == report


@pytest.mark.parametrize(
    "change",
    [{"entries": 3}, {"entries": [{"nam": 1}]}, {"unknown": 1}, {"suspicious_channels": [1]}],
)
def test_report_refuses_other_values(change):
    with pytest.raises(ValueError, match="not a fold report"):
        FoldReport.from_dict({**full_report().to_dict(), **change})
    with pytest.raises(ValueError, match="not a fold report"):
        FoldReport.from_dict({})


def test_report_as_a_table():
    text = str(full_report())
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 120
    lines = text.splitlines()
    assert lines[0] == "1 of 2 batch norms folded"
    assert "|batch_normalization|yes|backward|dense|" in text.replace(" ", "")
    assert "| batch_normalization_1 | no" in text
    (stays,) = (entry for entry in full_report().entries if not entry.folded)
    assert "which is not linear" in stays.reason
    assert f"batch_normalization_1 stays: {stays.reason}" in " ".join(text.split())  # whole
    assert "on 64 rows, bound " in lines[-8]
    assert lines[-7].endswith("channels with var < epsilon: 6")
    assert lines[-6].startswith("  batch_normalization, channel 5: var 1e-09, gain 55.")
    assert lines[-1] == "  and 1 more with smaller gains"


def test_report_without_refusals_or_suspicion():
    text = str(fold_checked(make([Dense(4), BN]), run=run)[1])
    assert "stays" not in text
    assert text.splitlines()[-1].endswith("channels with var < epsilon: none")
