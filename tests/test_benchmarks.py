"""The benchmarks themselves.

They measure what they say, peers give the same numbers, and nothing is compiled within a timing.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pkgutil
import re
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import nbbn  # noqa: E402
from asv_bench import benchmarks  # noqa: E402
from asv_bench.benchmarks import (  # noqa: E402
    contest,
    dense,
    graphs,
    images,
    norm,
    recipes,
    scaling,
    versus,
    workloads,
)
from asv_bench.benchmarks.peers import availability, inference, training  # noqa: E402
from asv_bench.benchmarks.peers import graphs as graph_peers  # noqa: E402
from asv_bench.benchmarks.timed import Timed, calls_a_sample  # noqa: E402
from asv_bench.dashboard import suite, summary  # noqa: E402

MEASURES = re.compile("^(time|track|peakmem|mem|timeraw)_")


def suites():
    """Every class with a benchmark."""
    found = {}
    for module in pkgutil.walk_packages(benchmarks.__path__, benchmarks.__name__ + "."):
        for name, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if not name.startswith("_") and any(MEASURES.match(n) for n in dir(each)):
                found[f"{module.name.rpartition('.')[2]}.{name}"] = each
    return found


@pytest.mark.parametrize("name", sorted(suites()))
def test_each_benchmark_is_well_formed(name):
    each = suites()[name]
    assert "version" in vars(each), "asv would drop the history when the code changes"
    assert each.__doc__, "the page shows it"
    assert each.__module__.endswith("." + name.split(".")[0]), "asv finds it twice"
    params = getattr(each, "params", ())
    axes = params if isinstance(params, tuple) else (params,)
    names = getattr(each, "param_names", ())
    assert len(names) == len(axes)
    assert all(isinstance(axis, list) and axis for axis in axes)
    if any(MEASURES.match(n) and n.startswith("track_") for n in dir(each)):
        assert each.unit


def test_every_topic_has_a_text_and_stands_in_the_readme():
    texts = summary.documentation(ROOT / "asv_bench")
    readme = (ROOT / "asv_bench" / "README.md").read_text()
    for name in suites():
        module = name.split(".")[0]
        assert texts[module], module
        assert re.search(rf"[`/ ]{module}\.py\b", readme), f"asv_bench/README.md lacks {module}.py"


def test_the_quick_profile_measures_something_of_every_topic():
    (_, pattern) = suite.selection(None, suite.PROFILES["quick"].left_out)
    missing = {name.split(".")[0] for name in suites()}
    for name, each in suites().items():
        params = getattr(each, "params", ())
        axes = params if isinstance(params, tuple) else (params,)
        for values in itertools.product(*axes):
            given = f"({', '.join(map(repr, values))})" if values else ""
            if any(
                re.search(pattern, f"{name}.{n}{given}") for n in dir(each) if MEASURES.match(n)
            ):
                missing.discard(name.split(".")[0])
    assert not missing


def test_peers_are_not_imported_before_they_are_asked_for():
    """Discovery imports every module; a peer's threads and memory must not be there then."""
    for path in (ROOT / "asv_bench" / "benchmarks").rglob("*.py"):
        assert not re.search(r"^(?:import|from) (?:torch|jax|onnx)", path.read_text(), re.M), path


# -- Timed


class Counted(Timed):
    def __init__(self):
        self.prepared, self.called = [], 0

    def prepare(self, *params):
        self.prepared.append(params)
        return self.count

    def count(self):
        self.called += 1


def test_timed_prepares_once_a_set_of_parameters():
    counted = Counted()
    counted.setup(1, "a")
    warm = counted.called
    assert warm >= 2
    assert counted.number > 1
    counted.setup(1, "a")
    assert (counted.prepared, counted.called) == ([(1, "a")], warm)
    counted.setup(2, "a")
    assert counted.prepared == [(1, "a"), (2, "a")]


def test_slow_calls_are_samples_of_one():
    assert calls_a_sample(lambda: time.sleep(0.002), seconds=0.001) == 1
    assert calls_a_sample(lambda: None) == 10_000


# -- contests


def test_contest_goes_in_turn_and_back(monkeypatch):
    order = []

    def block(call, inner, waking):
        order.append(call)
        return {"a": 1.0, "b": 3.0}[call]

    monkeypatch.setattr(contest, "block", block)
    monkeypatch.setattr(contest, "plan", lambda call: (1, 0))
    assert contest.medians({"own": "a", "peer": "b"}, rounds=3) == {"own": 1.0, "peer": 3.0}
    assert order == ["a", "b", "b", "a", "a", "b"]
    order.clear()
    contest.medians({"own": "a", "peer": "b"}, rounds=9, seconds=0)
    assert len(order) == 2 * 3
    assert contest.ratio("a", "b", rounds=1) == 3.0
    assert contest.ratio("b", "a", rounds=1) == pytest.approx(1 / 3)


def test_a_contest_tells_its_times_and_whether_its_rounds_agree(monkeypatch, tmp_path):
    taken = {"a": [2.0, 1.0, 3.0, 1.0, 1.0], "b": [4.0, 3.0, 4.5, 2.0, 1.5]}

    def in_turn(calls, rounds, seconds=None):
        return {name: taken[call][:rounds] for name, call in calls.items()}

    monkeypatch.setattr(contest, "in_turn", in_turn)
    found = contest.figures("a", "b", rounds=5)
    assert found == {
        "ratio": 3.0, "own": [1.0, 1.0, 2.0], "peer": [2.0, 3.0, 4.0],
        "ratios": [1.5, 2.0, 2.0], "sure": True, "rounds": 5,
    }
    taken["b"][4] = 0.5
    assert contest.figures("a", "b", rounds=5)["sure"] is False
    assert contest.figures("a", "b", rounds=2)["sure"] is False  # too few to say
    monkeypatch.delenv("NBBN_BENCH_DETAILS", raising=False)
    contest.keep("x", (1,), found)
    monkeypatch.setenv("NBBN_BENCH_DETAILS", str(tmp_path / "lines"))
    contest.keep("versus.A.track_ratio", (32, "JAX", (1, 2)), {"ratio": 2.0})
    contest.keep("versus.B.track_ratio", (), {"ratio": 3.0})
    first, second = (json.loads(line) for line in (tmp_path / "lines").read_text().splitlines())
    assert first == {"benchmark": "versus.A.track_ratio", "parameters": ["32", "'JAX'", "(1, 2)"],
                     "ratio": 2.0}
    assert second["parameters"] == []


@pytest.mark.parametrize(
    ("lasts", "plan", "calls"), [(0.02, (2, 0.05), 3 + 2), (0.1, (1, 0.05), 1 + 1), (1, (1, 0), 1)]
)
def test_a_block_starts_awake(monkeypatch, lasts, plan, calls):
    clock, seen = Clock(0), []
    monkeypatch.setattr(contest, "time", clock)

    def call():
        clock.sleep(lasts)
        seen.append(clock.now)

    assert contest.plan(call) == plan
    seen.clear()
    assert contest.block(call, *plan) == pytest.approx(lasts)
    assert len(seen) == calls


class Clock:
    """A made-up machine, one of whose threads spins for so many seconds of its life."""

    def __init__(self, spins):
        self.now, self.spins = 0.0, spins

    def perf_counter(self):
        return self.now

    def process_time(self):
        return min(self.now, self.spins)

    def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize(("spins", "waits"), [(0, 0.01), (0.1, 0.11), (100, 1)])
def test_settle_waits_for_spinning_threads(monkeypatch, spins, waits):
    clock = Clock(spins)
    monkeypatch.setattr(contest, "time", clock)
    contest.settle(slice_seconds=0.01, limit=1)
    assert clock.now == pytest.approx(waits, abs=0.011)


def test_absent_peer_is_skipped_by_name(monkeypatch):
    monkeypatch.setitem(availability.MODULES, "JAX", "no_such_module_at_all")
    with pytest.raises(
        NotImplementedError, match="JAX is not installed: No module named 'no_such_module_at_all'"
    ):
        availability.require("JAX")
    with pytest.raises(NotImplementedError, match="JAX is not installed"):
        versus.BatchNorm().setup((32, 128), "forward", "JAX")


def test_different_answers_are_not_timed():
    a = np.zeros((10, 3))
    assert versus.agree(lambda: a, lambda: a + 1e-7, 1e-6)
    with pytest.raises(AssertionError, match="100 % of the numbers differ by more than"):
        versus.agree(lambda: a, lambda: a + 1, 1e-6)
    with pytest.raises(AssertionError, match="100 % of the numbers differ"):
        versus.agree(lambda: a, lambda: np.full_like(a, np.nan), 1e-6)
    with pytest.raises(AssertionError, match=r"nbbn gives shape \(10, 3\), the peer \(3,\)"):
        versus.agree(lambda: a, lambda: a[0], 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("peer", sorted(inference.DENSE))
def test_dense_peers_answer_alike(peer):
    available(peer)
    versus.Inference().prepare(32, peer)


@pytest.mark.parametrize("peer", sorted(inference.IMAGES))
def test_image_peers_answer_alike(peer):
    available(peer)
    versus.ConvolutionalInference().prepare(32, peer)


@pytest.mark.parametrize("peer", sorted(training.IMAGES))
def test_image_peers_train_the_same_network(peer):
    """From the same weights, the same losses in steps on all rows at once."""
    available(peer)
    (x, y), model = workloads.pictures(64), workloads.cnn()
    step = training.IMAGES[peer](x, y, model.network(), len(x))
    theirs = [step() for _ in range(3)]
    ours = [model.fit(x, y, len(x), verbose=0).history["loss"][0] for _ in range(3)]
    np.testing.assert_allclose(theirs, ours, rtol=2e-3)


@pytest.mark.parametrize("peer", sorted(graph_peers.INFERENCE))
@pytest.mark.parametrize("name", graphs.NETWORKS)
def test_peers_of_networks_with_branches_answer_alike(name, peer, monkeypatch):
    available(peer)
    sizes = {"ResNet-18": {"width": 4},
             "MobileNetV2": {"stages": ((1, 4, 1, 1), (2, 4, 2, 2), (2, 4, 1, 2)), "last": 16}}
    small, whole = sizes[name], graphs.network
    monkeypatch.setattr(graphs, "network", lambda name: whole(name, **small))
    own, theirs = versus.GraphInference().prepare(name, 1, peer)
    assert np.shape(own()) == np.shape(theirs()) == (1, 10)


@pytest.mark.parametrize("peer", sorted(graph_peers.TRAINING))
def test_peers_train_the_same_network_with_branches(peer):
    """From the same weights, the same losses in steps on all rows at once."""
    available(peer)
    (x, y), model = graphs.images(16), graphs.compiled(width=4)
    step = graph_peers.TRAINING[peer](model, x, y, len(x), exact=True)
    theirs = [step() for _ in range(3)]
    ours = [model.fit(x, y, batch_size=16, verbose=0).history["loss"][0] for _ in range(3)]
    np.testing.assert_allclose(theirs, ours, rtol=5e-3)


@pytest.mark.parametrize("peer", ["PyTorch", "JAX"])
@pytest.mark.parametrize("direction", ["forward", "forward, backward", "inference"])
@pytest.mark.parametrize("shape", [(32, 128), (4, 5, 6, 7)])
def test_norm_peers_answer_alike(shape, direction, peer):
    available(peer)
    versus.BatchNorm().prepare(shape, direction, peer)


@pytest.mark.parametrize("taps", list(images.TAPS))
def test_convolution_peers_answer_alike(taps):
    available("PyTorch")
    versus.Taps().prepare(taps, "PyTorch")


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_padded_convolution_peers_answer_alike(padding):
    available("PyTorch")
    versus.Convolution().prepare((2, 9, 8, 5), padding, "PyTorch")


@pytest.mark.parametrize("window", [2, 3])
def test_pool_peers_answer_alike(window):
    available("PyTorch")
    versus.MaxPool().prepare((2, 9, 8, 5), window, "PyTorch")


@pytest.mark.parametrize("name", norm.WITHIN_ROWS)
@pytest.mark.parametrize("shape", [(32, 128), (4, 5, 6, 16)])
def test_peers_of_norms_within_rows_answer_alike(shape, name):
    available("PyTorch")
    versus.WithinRows().prepare(shape, name, "PyTorch")


# -- workloads


def test_recipes_are_the_gallerys_and_nothing_of_their_pages_runs():
    """Parameters as counted by hand: He et al. (2016), Sandler et al. (2018), for 1000 classes."""
    counts = {"plot_20_resnet": 11_699_112, "plot_21_mobilenet": 3_538_984}
    for page, count in counts.items():
        names = recipes.recipe(page)
        assert not {"X", "plt", "model"} & set(names)
        make = recipes.resnet18 if "resnet" in page else recipes.mobilenet_v2
        assert make((224, 224, 3), 1000).count_params() == count


@pytest.mark.parametrize("make", [
    lambda: recipes.resnet18((16, 16, 1), 3, 4),
    lambda: recipes.mobilenet_v2((16, 16, 1), 3, stages=((1, 4, 1, 1), (2, 4, 2, 2)), last=8),
], ids=["resnet18", "mobilenet_v2"])
def test_recipes_train_and_fold(make):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((48, 16, 16, 1), dtype=np.float32), rng.integers(0, 3, 48)
    x[np.arange(48), 4 * y, 4 * y] += 8
    nbbn.set_random_seed(0)
    model = make()
    model.compile(nbbn.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    losses = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    folded = model.fold(strict=True)
    assert folded.report.n_folded == folded.report.n_total > 5
    np.testing.assert_allclose(folded.predict(x), model.predict(x), atol=1e-5)


def test_settled_networks_differ_by_their_batch_norms_alone():
    made, settled = recipes.resnet18(width=4), recipes.settled(recipes.resnet18(width=4))
    first = next(layer for layer in settled.layers if len(layer.get_weights()) == 4)
    gamma, _, mean, var = first.get_weights()
    assert 0 < np.std(gamma) and 0 < np.std(mean) and np.all(var > 0.4)
    assert len(made.layers) == len(settled.layers)


def test_sparse_rows_are_what_they_say():
    x, y = workloads.sparse_rows(50, 6000, 80)
    assert (x.shape, x.format, x.dtype, x.has_canonical_format) == ((50, 6000), "csr", "f4", True)
    assert np.all(np.diff(x.indptr) == 80)
    assert len(np.unique(y)) > 5


@pytest.mark.parametrize(("own", "all_threads"), [(1, False), (2, False), (4, True)])
def test_scaling_measures_no_number_of_threads_twice(monkeypatch, own, all_threads):
    monkeypatch.setattr(scaling.nbbn, "get_num_threads", lambda: own)
    seen = []
    monkeypatch.setattr(scaling.nbbn, "num_threads", lambda n: seen.append(n) or nullcontext())
    measured = []
    for threads in [1, 2, "all"]:
        try:
            scaling.on(threads, lambda: None)()
        except NotImplementedError as error:
            assert "threads" in str(error)
        else:
            measured.append(threads)
    assert seen == [1, 2, 4][: {1: 1, 2: 2, 4: 3}[own]]
    assert ("all" in measured) == all_threads


def available(peer):
    """Skip where the peer is not."""
    try:
        availability.require(peer)
    except NotImplementedError as error:
        pytest.skip(str(error))


# -- what stands beside nbbn


@pytest.mark.parametrize("shape", [(32, 16), (4, 5, 6, 8)])
def test_numpy_formulas_are_nbbns(shape):
    inputs = norm.Inputs(shape, "float64")
    y, xhat, var = norm.numpy_forward(inputs.x, inputs.gamma, inputs.beta)
    ours, cache = inputs.forward("relu")
    np.testing.assert_allclose(ours, y, atol=1e-12)
    ref = norm.numpy_backward(inputs.dy, y, xhat, var, inputs.gamma)
    for got, wanted in zip(inputs.backward(cache), ref):
        np.testing.assert_allclose(got, wanted, atol=1e-10)


def test_numpy_dense_is_nbbns():
    inputs = dense.Inputs((9, 20, 12))
    ours = inputs.nbbn().copy()
    inputs.numpy()
    np.testing.assert_allclose(inputs.out, ours, rtol=1e-5, atol=1e-5)
