"""Every SIMD path: forced upon child processes, held against NumPy, and read in the assembly.

A child compiles for the CPU and the features that its environment names; it runs a function of this
file. What it computes is compared with the oracle in float64. The children run in the background,
two at once, each with a kernel cache of its own.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import llvmlite.binding as llvm
import naive
import numpy as np
import pytest
from numba.core.codegen import get_host_cpu_features

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
# Set for a child by its machine alone.
VARIABLES = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_NUM_THREADS")
TIMEOUT = 500  # seconds: a child that takes so long hangs


@dataclass(frozen=True)
class Machine:
    """A CPU to compile for, and what nbbn must make of it."""

    vector_bytes: int
    registers: int
    fused: bool
    needs: frozenset = frozenset()  # features of the host without which the code cannot run
    environment: dict = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32", "float64")
    # Dtypes for `nbbn.functional`, whose kernels know lanes, neither registers nor tiles.
    norms: tuple[str, ...] = ()


def forced(vector_bytes, registers, fused, needs, name, features=None, **work):
    """An x86 machine, by the variables with which Numba is told to compile for it."""
    environment = {
        "NUMBA_CPU_NAME": name,
        **({} if features is None else {"NUMBA_CPU_FEATURES": features}),
    }
    return Machine(vector_bytes, registers, fused, frozenset(needs.split()), environment, **work)


X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")
# The features that Numba compiles for where no variable says otherwise.
HOST_FEATURES = {f[1:] for f in get_host_cpu_features().split(",") if f.startswith("+")}
HOST = Machine(
    vector_bytes=64 if "avx512f" in HOST_FEATURES else 32 if "avx" in HOST_FEATURES else 16,
    registers=32 if HOST_FEATURES & {"avx512f", "neon"} else 16,
    fused=bool(HOST_FEATURES & {"fma", "neon"}),
    norms=("float32",),
)
MACHINES = {
    "host": HOST,
    "avx2": forced(32, 16, True, "avx avx2 fma", "haswell", "+avx,+avx2,+fma", norms=("float64",)),
    # The lanes of avx2, and what the lack of FMA changes.
    "avx": forced(32, 16, False, "avx", "sandybridge", "+avx", dtypes=("float32",)),
    "sse2": forced(16, 16, False, "", "generic", norms=("float32", "float64")),
    # NEON's vectors and tiles in x86 instructions: LLVM ignores a feature that the target does not
    # know.
    "neon": forced(16, 32, True, "avx fma", "generic", "+neon,+fma"),
}
KINDS = ("MLPClassifier", "MLPRegressor")
# Kernels whose assembly is read: products, square roots and a stack array, norms, exponentials.
READ = ("dense_forward", "dense_update_adam", "norm_forward", "softmax_forward")
ARRAYS = ("coefs", "intercepts", "gammas", "betas", "running_means", "running_vars")
# No width is a multiple of a vector, nor of a tile's rows; a batch takes tiles of each height.
HIDDEN, BATCH, EPOCHS, RATE, ALPHA = (34, 21), 11, 2, 0.01, 0.01


def make_data():
    """Odd sizes; float64, but every number is one of float32 too."""
    rng = np.random.default_rng(20150211)
    data = {
        "X": rng.normal(0.3, 1.5, (60, 39)), "unseen": rng.normal(0.3, 1.5, (23, 39)),
        "x": rng.normal(0.5, 2, (101, 37)), "dy": rng.normal(size=(101, 37)),
        "gamma": rng.normal(1, 0.5, 37), "beta": rng.normal(0, 0.5, 37),
        "mean": rng.normal(0.5, 1, 37), "var": rng.uniform(0.5, 4, 37),
    }
    scores = data["X"] @ rng.normal(size=(39, 3)) / 6 + 0.3 * rng.normal(size=(60, 3))
    data["targets"] = scores[:, 0]
    return {
        name: array.astype(np.float32).astype(float) for name, array in data.items()
    }, scores.argmax(1)


# --- in the children
# --------------------------------------------------------------------------------------------------


def train(kind, X, y, hidden=HIDDEN, **params):
    """A fitted estimator."""
    import nbbn

    params = {
        "batch_size": BATCH, "max_iter": EPOCHS, "learning_rate_init": RATE, "alpha": ALPHA,
        **params,
    }
    if kind == "MLPRegressor":
        params["normalize_y"] = False  # the oracle trains on targets as they are
    return getattr(nbbn, kind)(
        hidden_layer_sizes=hidden, shuffle=False, random_state=0, **params
    ).fit(X, y)


def outputs(model, X):
    """Probabilities of a classifier, predictions of a regressor, as a matrix."""
    return (
        model.predict_proba(X)
        if hasattr(model, "classes_")
        else model.predict(X).reshape(len(X), -1)
    )


def use_all_threads():
    """Every training step on all threads, whichever number is faster."""
    from nbbn.thread_choice import ThreadChoice

    ThreadChoice.next = lambda self, threads, left: (threads, left)
    ThreadChoice.note = lambda self, threads, steps, seconds: None


def run_everything(name, folder):
    """All work of a machine: training, prediction, folding, batch norm.

    `results.npz` and `report.json` in the folder.
    """
    import nbbn
    from nbbn.functional import batch_norm_backward, batch_norm_inference, batch_norm_train
    from nbbn.kernels import KERNELS, simd

    use_all_threads()
    numbers, labels = make_data()
    results = {}
    for dtype in MACHINES[name].dtypes:
        data = {name: array.astype(dtype) for name, array in numbers.items()}
        for kind in KINDS:
            y = labels if kind == "MLPClassifier" else data["targets"]
            start = train(kind, data["X"], y, max_iter=1, learning_rate_init=1e-200)
            models = {"start": start}
            for threads in (1, 2):
                with nbbn.num_threads(threads):
                    models[f"threads{threads}"] = train(kind, data["X"], y)
            for which, model in models.items():
                for array in ARRAYS:
                    values = enumerate(getattr(model, f"{array}_"))
                    results |= {
                        f"{dtype}/{kind}/{which}/{array}{i}": v for i, v in values if v is not None
                    }
                results[f"{dtype}/{kind}/{which}/loss"] = np.array(model.loss_curve_)
                results[f"{dtype}/{kind}/{which}/output"] = outputs(model, data["unseen"])
            folded = model.fold()
            folded.save(f"{folder}/{dtype}-{kind}.safetensors")
            results[f"{dtype}/{kind}/folded"] = outputs(folded, data["unseen"])
        if dtype not in MACHINES[name].norms:
            continue
        y, cache = batch_norm_train(data["x"], data["gamma"], data["beta"])
        dx, dgamma, dbeta = batch_norm_backward(data["dy"], cache)
        z = batch_norm_inference(*(data[n] for n in ("x", "gamma", "beta", "mean", "var")))
        norms = {
            "y": y, "mean": cache.mean, "var": cache.var, "dx": dx, "dgamma": dgamma,
            "dbeta": dbeta, "inference": z,
        }
        results |= {f"{dtype}/norm/{which}": array for which, array in norms.items()}
    np.savez(f"{folder}/results.npz", **results)
    bodies = {kernel: KERNELS[kernel].body for kernel in READ}
    report = {
        "simd": [simd.VECTOR_BYTES, simd.REGISTERS, simd._FUSED],
        "config": nbbn.show_config(),
        "assembly": {kernel: list(body.inspect_asm().values()) for kernel, body in bodies.items()},
        "llvm": {kernel: list(body.inspect_llvm().values()) for kernel, body in bodies.items()},
    }
    Path(folder, "report.json").write_text(json.dumps(report))


def print_simd():
    """Vector bytes, registers and the name of the fused operation."""
    from nbbn.kernels import simd

    print(simd.VECTOR_BYTES, simd.REGISTERS, simd._FUSED)


def predict_saved(model, out):
    """Outputs of a saved model; prints how many functions were compiled for them."""
    from numba.core import event

    import nbbn

    with event.install_recorder("numba:compile") as compiled:
        np.save(out, outputs(nbbn.load(model), make_data()[0]["unseen"].astype(np.float32)))
    print(len(compiled.buffer))


def train_on(*threads):
    """A wide network on each number of threads; prints how many different networks came of it."""
    import nbbn

    use_all_threads()
    numbers, labels = make_data()
    found = set()
    for n in threads:
        with nbbn.num_threads(int(n)):
            assert nbbn.get_num_threads() == int(n)
            model = train(
                "MLPClassifier", numbers["X"].astype(np.float32), labels, hidden=(1100, 70)
            )
            found.add(b"".join(a.tobytes() for a in [*model.coefs_, *model.running_vars_]))
    print(len(found))


# --- in the parent
# ----------------------------------------------------------------------------------------------------


def run_child(function, *arguments, cache, machine=HOST, **environment):
    """Run a function of this file in a fresh interpreter; return the words it printed."""
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    env |= {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(cache), "NUMBA_NUM_THREADS": "2"}
    env |= machine.environment | environment
    command = [sys.executable, __file__, function, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, (
        f"{function} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout.split()


def why_not(machine):
    """Why this host cannot execute a machine's code; None where it can."""
    if machine.environment and not X86:
        return f"{platform.machine()} cannot execute x86 instructions"
    missing = machine.needs - HOST_FEATURES
    return f"this CPU has no {', '.join(sorted(missing))}" if missing else None


@pytest.fixture(scope="module")
def ran(request, tmp_path_factory):
    """A function from a machine's name to the folder of its results.

    The machines of all chosen tests start at once.
    """
    running = {}

    def start(name):
        if name not in running and not why_not(MACHINES[name]):
            folder = tmp_path_factory.mktemp(name)
            arguments = ("run_everything", name, folder)
            work = pool.submit(
                run_child, *arguments, cache=folder / "cache", machine=MACHINES[name]
            )
            running[name] = folder, work

    def finish(name):
        start(name)
        folder, work = running[name]
        work.result()
        return folder

    pool = ThreadPoolExecutor(2)
    for item in request.session.items:
        if item.path == request.path and "machine" in getattr(
            getattr(item, "callspec", None), "params", {}
        ):
            start(item.callspec.params["machine"])
    yield finish
    pool.shutdown(cancel_futures=True)


@pytest.fixture
def machine(request):
    """The name of a machine that this host can be."""
    reason = why_not(MACHINES[request.param])
    if reason:
        pytest.skip(reason)
    return request.param


machines = pytest.mark.parametrize("machine", MACHINES, indirect=True)
only_x86 = pytest.mark.skipif(not X86, reason=f"{platform.machine()} is not x86")


def each(attribute):
    """A mark: every machine with each dtype that its attribute names."""
    pairs = [(name, dtype) for name, m in MACHINES.items() for dtype in getattr(m, attribute)]
    return pytest.mark.parametrize(("machine", "dtype"), pairs, indirect=["machine"])


@pytest.fixture
def report(ran, machine):
    """What the machine's child said of itself."""
    return json.loads((ran(machine) / "report.json").read_text())


@pytest.fixture
def results(ran, machine):
    """Arrays by `dtype/work/name`."""
    with np.load(ran(machine) / "results.npz") as file:
        return dict(file)


def part(results, prefix):
    """The arrays below a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): array
        for name, array in results.items()
        if name.startswith(prefix)
    }


# Roundings that a result may show, each as large as the largest effect of one rounding of every
# input.
ROUNDINGS = 16


def assert_rounded(got, function, inputs, dtype):
    """`got` is `function(inputs)` but for rounding.

    How far roundings reach is measured: the inputs are moved by one unit of float32 in float64, up
    or down at random. The effect of a unit of float64 is smaller in proportion.
    """
    unit = np.finfo(np.float32).eps
    rng = np.random.default_rng(0)
    ref = function(inputs)
    reach = dict.fromkeys(ref, 0.0)
    for _ in range(4):
        moved = function(
            {name: a * (1 + unit * rng.choice([-1, 1], a.shape)) for name, a in inputs.items()}
        )
        reach = {name: max(reach[name], np.abs(moved[name] - ref[name]).max()) for name in ref}
    assert got.keys() == ref.keys()
    for name in ref:
        assert got[name].shape == ref[name].shape
        limit = ROUNDINGS * reach[name] * np.finfo(dtype).eps / unit
        np.testing.assert_allclose(got[name], ref[name], rtol=0, atol=limit, err_msg=name)


def network(arrays, kind):
    """The oracle's network with an estimator's arrays."""
    lists = {
        a: [arrays[n].astype(float) for n in sorted(arrays) if re.fullmatch(a + r"\d", n)]
        for a in ARRAYS
    }
    out_activation = "softmax" if kind == "MLPClassifier" else "identity"
    norms = ["pre"] * len(HIDDEN)
    mlp = naive.MLP(lists["coefs"], lists["intercepts"], norms, out_activation=out_activation)
    for name in ("gammas", "betas", "running_means", "running_vars"):
        setattr(mlp, name, lists[name])
    return mlp


def flat(mlp):
    """The arrays of the oracle's network, by name."""
    return {f"{name}{i}": array for name in ARRAYS for i, array in enumerate(getattr(mlp, name))}


@machines
def test_width_registers_and_fma(machine, report):
    wanted = MACHINES[machine]
    assert report["simd"] == [
        wanted.vector_bytes, wanted.registers, "llvm.fma" if wanted.fused else "llvm.fmuladd",
    ]
    assert (
        f"SIMD: {8 * wanted.vector_bytes}-bit vectors, {wanted.registers} registers"
        in report["config"]
    )


@machines
def test_instructions(machine, report):
    """Registers as wide as the machine's, its fused operation, and no function of the C library
    lane by lane.
    """
    wanted = MACHINES[machine]
    product = "".join(report["assembly"]["dense_forward"])
    if X86:
        products = re.findall(r"(?m)^\s*v?(?:mul|fmadd\d+)p[sd]\s.*%([xyz])mm\d+$", product)
        assert set(products) == {{16: "x", 32: "y", 64: "z"}[wanted.vector_bytes]}
        assert ("vfmadd" in product) == wanted.fused
    elif ARM:
        assert re.search(r"\bfmla\s+v", product)
    functions = {"fma", "fmaf", "sqrt", "sqrtf", "exp", "expf"}
    if machine != "sse2":  # SSE4.1 brought rounding
        functions |= {"floor", "floorf"}
    for name, texts in report["assembly"].items():
        assert not functions & set(re.findall(r"\w+", "".join(texts))), name


@each("dtypes")
@pytest.mark.parametrize("kind", KINDS)
def test_training(results, kind, dtype):
    """Two epochs of Adam are the oracle's; the bits are the same on one thread and two."""
    one, two = (part(results, f"{dtype}/{kind}/threads{n}/") for n in (1, 2))
    assert {a.dtype.name for name, a in one.items() if name != "loss"} == {dtype}
    assert {name: a.tobytes() for name, a in one.items()} == {
        name: a.tobytes() for name, a in two.items()
    }

    numbers, labels = make_data()
    start = part(results, f"{dtype}/{kind}/start/")
    weights = {
        name: start[name].astype(float) for name in start if re.match("coefs|intercepts", name)
    }
    targets = np.eye(3)[labels] if kind == "MLPClassifier" else numbers["targets"][:, None]

    def oracle(inputs):
        mlp = network({**start, **inputs}, kind)
        fresh = naive.MLP(
            mlp.coefs, mlp.intercepts, mlp.batch_norm, out_activation=mlp.out_activation
        )
        fresh.gammas, fresh.betas = mlp.gammas, mlp.betas
        epochs = [naive.batches(60, BATCH, merge_tail=True)] * EPOCHS
        mlp, curve = naive.train_mlp(
            fresh, inputs["X"], targets, epochs, naive.adam, alpha=ALPHA, learning_rate=RATE
        )
        return {**flat(mlp), "loss": np.array(curve), "output": mlp.predict(inputs["unseen"])}

    assert_rounded(one, oracle, {**weights, "X": numbers["X"], "unseen": numbers["unseen"]}, dtype)


def assert_predicted(output, results, kind, dtype):
    """`output` is what the formula gives for the arrays that two threads trained."""
    arrays = part(results, f"{dtype}/{kind}/threads2/")
    weights = {
        name: array.astype(float)
        for name, array in arrays.items()
        if name not in ("loss", "output")
    }

    def oracle(inputs):
        return {"output": network(inputs, kind).predict(inputs["unseen"])}

    assert_rounded(
        {"output": output}, oracle, {**weights, "unseen": make_data()[0]["unseen"]}, dtype
    )


@each("dtypes")
@pytest.mark.parametrize("kind", KINDS)
def test_prediction(results, kind, dtype):
    """A fitted network, and the folded one."""
    assert_predicted(results[f"{dtype}/{kind}/threads2/output"], results, kind, dtype)
    assert_predicted(results[f"{dtype}/{kind}/folded"], results, kind, dtype)


@each("norms")
def test_batch_norm(results, dtype):
    """`nbbn.functional` forward, backward and in inference."""

    def oracle(inputs):
        x, gamma, beta, mean, var, dy = (inputs[n] for n in names)
        y, batch_mean, batch_var = naive.batch_norm_train(x, gamma, beta)
        dx, dgamma, dbeta = naive.batch_norm_backward(dy, x, gamma, beta)
        inference = naive.batch_norm_inference(x, gamma, beta, mean, var)
        forward = {"y": y, "mean": batch_mean, "var": batch_var, "inference": inference}
        return {**forward, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}

    names = ("x", "gamma", "beta", "mean", "var", "dy")
    numbers, _ = make_data()
    assert_rounded(part(results, f"{dtype}/norm/"), oracle, {n: numbers[n] for n in names}, dtype)


def test_more_threads_than_cores(ran):
    """64 threads on any number of cores: an end, and the bits of one thread."""
    cache = ran("host") / "cache"
    assert run_child("train_on", 1, 64, cache=cache, NUMBA_NUM_THREADS="64") == ["1"]


# An LLVM older than the processor gives it the name of a plain one.
knows_host = pytest.mark.skipif(
    llvm.get_host_cpu_name() in ("generic", "x86-64"),
    reason="this version of LLVM has no name for the processor",
)


@only_x86
@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        pytest.param({"NUMBA_CPU_NAME": llvm.get_host_cpu_name()}, HOST, marks=knows_host),
        (
            {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse3,+ssse3,+sse4.1,+sse4.2"},
            MACHINES["sse2"],
        ),
    ],
    ids=["its own name", "nehalem"],
)
def test_what_numba_is_told(environment, wanted, tmp_path):
    """Vectors follow the features that Numba compiles for, whichever variable chose them."""
    fused = "llvm.fma" if wanted.fused else "llvm.fmuladd"
    assert run_child("print_simd", cache=tmp_path, **environment) == [
        str(wanted.vector_bytes), str(wanted.registers), fused,
    ]


@only_x86
def test_without_avx(tmp_path):
    """NUMBA_ENABLE_AVX=0, which Numba itself sets on some CPUs."""
    assert run_child("print_simd", cache=tmp_path, NUMBA_ENABLE_AVX="0")[:2] == ["16", "16"]


@only_x86
@knows_host
def test_machines_share_a_cache(ran, tmp_path):
    """Each machine finds its own kernels in one folder; the host under its name is the host."""
    model = ran("host") / "float32-MLPClassifier.safetensors"
    shutil.copytree(ran("host") / "cache", tmp_path / "cache")
    with np.load(ran("host") / "results.npz") as file:
        results = dict(file)

    def run(machine=HOST, **environment):
        out, cache = tmp_path / "out.npy", tmp_path / "cache"
        compiled = run_child(
            "predict_saved", model, out, cache=cache, machine=machine, **environment
        )
        return int(compiled[0]), np.load(out)

    compiled, got = run(MACHINES["sse2"])
    assert compiled > 0
    assert_predicted(got, results, "MLPClassifier", "float32")
    for environment in ({"NUMBA_CPU_NAME": llvm.get_host_cpu_name()}, {}):
        compiled, got = run(**environment)
        assert compiled == 0
        np.testing.assert_array_equal(got, results["float32/MLPClassifier/folded"])


@pytest.fixture(scope="module")
def aarch64():
    """LLVM's target machine of a plain ARMv8."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError as e:
        pytest.skip(f"this llvmlite cannot compile for aarch64: {e}")
    return target.create_target_machine(cpu="generic", features="+neon", opt=3)


def test_neon_assembly(ran, aarch64):
    """NEON's vectors and tiles become its instructions.

    Fused products and roots, no function of the C library.
    """
    if why_not(MACHINES["neon"]):
        pytest.skip(why_not(MACHINES["neon"]))
    report = json.loads((ran("neon") / "report.json").read_text())
    assembly = {}
    for name, texts in report["llvm"].items():
        assembly[name] = ""
        for text in texts:
            text = re.sub(r"(?m)^target (datalayout|triple) = .*$", "", text)
            module = llvm.parse_assembly(text)
            module.triple, module.data_layout = aarch64.triple, str(aarch64.target_data)
            assembly[name] += aarch64.emit_assembly(module)
        assert not re.findall(r"\bbl\s+(\S*(?:fma|floor|sqrt|exp)\S*)", assembly[name]), name
    for lanes in ("4s", "2d"):
        for name in ("dense_forward", "dense_update_adam", "softmax_forward"):
            assert re.search(rf"\bfmla\s+v\d+\.{lanes}", assembly[name]), name
        assert re.search(rf"\bfsqrt\s+v\d+\.{lanes}", assembly["dense_update_adam"])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    globals()[sys.argv[1]](*sys.argv[2:])
