"""Threads, forks, processes and caches: the same bits, and no hang, in every one of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

import nbbn
from nbbn.kernels.cache import cache_root

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROOT = Path(__file__).resolve().parents[1]

# What the subprocesses below share: data, a small network, and a hash of everything that training
# made.
PRELUDE = """
    import hashlib, os, sys, warnings
    import numpy as np
    import nbbn

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 12)).astype(np.float32)
    y = X[:, 0] > X[:, 1]

    def trained():
        return nbbn.MLPClassifier((9,), max_iter=2, batch_size=32, random_state=0).fit(X, y)

    def digest(model):
        return hashlib.sha256(model.coefs_[0].tobytes() + model.predict_proba(X).tobytes()).hexdigest()
"""


def run_python(code, prelude=PRELUDE, **environment):
    """Run `code` after the prelude in a fresh interpreter; None removes a variable.

    Return the words it printed.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    env = {name: str(value) for name, value in env.items() if value is not None}
    source = textwrap.dedent(prelude) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", source], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def make_data(rows, features, classes, dtype=np.float32):
    rng = np.random.default_rng(11)
    X = rng.normal(size=(rows, features)).astype(dtype)
    return X, (X @ rng.normal(size=(features, classes))).argmax(axis=1)


def fit(X, y, units=(31, 17), **params):
    defaults = {"batch_size": 64, "max_iter": 3, "random_state": 0}
    return nbbn.MLPClassifier(units, **{**defaults, **params}).fit(X, y)


def bits(estimator, X):
    """Everything training made, and a prediction, as bytes."""
    names = ("coefs_", "intercepts_", "gammas_", "betas_", "running_means_", "running_vars_")
    arrays = [a for name in names for a in getattr(estimator, name) if a is not None]
    return b"".join(
        a.tobytes() for a in [*arrays, np.array(estimator.loss_curve_), estimator.predict_proba(X)]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch_norm", [True, "post", False])
@pytest.mark.parametrize(
    ("rows", "features", "units", "classes"),
    [
        (501, 37, (61, 33, 7), 10), (333, 65, (300, 130), 3), (1003, 5, (1,), 2),
        (997, 784, (128, 64, 32), 10),
    ],
    ids=str,
)
def test_same_bits_with_any_number_of_threads(rows, features, units, classes, batch_norm, dtype):
    X, y = make_data(rows, features, classes, dtype)
    one, two, four = (
        bits(fit(X, y, units, batch_norm=batch_norm, n_jobs=n, max_iter=4), X) for n in (1, 2, 4)
    )
    assert one == two
    assert one == four


@pytest.mark.parametrize("solver", ["sgd", "rmsprop"])
@pytest.mark.parametrize("batch_size", [32, 200, 1000])
def test_same_bits_for_each_solver_and_batch(solver, batch_size):
    X, y = make_data(1000, 50, 10)
    one, two = (
        bits(fit(X, y, (70, 40), solver=solver, batch_size=batch_size, n_jobs=n), X) for n in (1, 2)
    )
    assert one == two


def test_same_bits_again():
    """Ten runs with two threads: a race shows sooner or later."""
    X, y = make_data(700, 40, 10)
    assert len({bits(fit(X, y, (65, 33), batch_size=32, n_jobs=2), X) for _ in range(10)}) == 1


def test_fits_in_two_threads_at_once():
    X, y = make_data(500, 20, 3)
    params = [
        {"random_state": seed, "batch_norm": norm}
        for seed, norm in enumerate([True, "post", False, True])
    ]
    ref = [bits(fit(X, y, **p), X) for p in params]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda p: bits(fit(X, y, **p), X), params))
    assert got == ref


def test_eight_threads_predict_at_once():
    X, y = make_data(3000, 20, 3)
    model = fit(X, y)
    ref = model.predict_proba(X)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: model.predict_proba(X), range(40)):
            np.testing.assert_array_equal(got, ref)


def test_predict_while_another_thread_fits():
    X, y = make_data(1000, 20, 3)
    model = fit(X, y)
    ref, ref_fit = model.predict_proba(X), bits(fit(X, y, max_iter=20), X)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(lambda: bits(fit(X, y, max_iter=20), X))
        for _ in range(20):
            np.testing.assert_array_equal(model.predict_proba(X), ref)
        assert running.result() == ref_fit


def test_thread_count_is_the_callers():
    """A call with n_jobs leaves the number of threads as it was, after an error too."""
    X, y = make_data(200, 20, 3)
    with nbbn.num_threads(1):
        fit(X, y, n_jobs=2)
        assert nbbn.get_num_threads() == 1
        with pytest.raises(ZeroDivisionError):
            fit(X, y, n_jobs=2, callbacks=[lambda *_: 1 / 0])
        assert nbbn.get_num_threads() == 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_grid_search_under_joblib(backend):
    X, y = make_data(300, 10, 3)
    model = nbbn.MLPClassifier((9,), max_iter=3, batch_size=32, random_state=0)
    grid = {"batch_norm": [True, False], "alpha": [0.0, 0.1]}
    ref = GridSearchCV(model, grid, cv=2).fit(X, y)
    with joblib.parallel_config(backend, n_jobs=2):
        got = GridSearchCV(model, grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        got.cv_results_["mean_test_score"], ref.cv_results_["mean_test_score"]
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_fit():
    """The child of a process that has run parallel kernels predicts and trains, with the parent's
    bits.
    """
    got = run_python("""
        model = trained()
        nbbn.MLPClassifier((90, 70), max_iter=1, n_jobs=2, random_state=0).fit(X, y)
        print(digest(model), flush=True)
        child = os.fork()
        if child == 0:
            same = digest(model) == digest(trained())
            print(digest(trained()), flush=True)
            os._exit(0 if same else 3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(digest(trained()))
        sys.exit(status)
    """)
    assert len(got) == 3
    assert len(set(got)) == 1


def test_import_compiles_nothing(tmp_path):
    code = """
        import sys
        from numba.core import event
        with event.install_recorder("numba:compile") as compiled:
            import nbbn
        heavy = {"h5py", "jax", "keras", "matplotlib", "onnx", "onnxruntime", "tensorflow", "torch"}
        print(len(compiled.buffer), *sorted(heavy & set(sys.modules)))
    """
    assert run_python(code, prelude="", HOME=tmp_path, NUMBA_CACHE_DIR=tmp_path / "cache") == ["0"]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="LOCALAPPDATA is Windows's")
@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"NUMBA_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a/nbbn"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/nbbn"),
        ({"HOME": "/c"}, "/c/.cache/nbbn"),
        ({}, f"{tempfile.gettempdir()}/nbbn-{os.getuid() if hasattr(os, 'getuid') else 0}"),
    ],
    ids=["Numba's variable", "XDG", "home", "nothing"],
)
def test_where_kernels_are_kept(variables, folder, monkeypatch):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(folder)


@pytest.mark.slow
def test_home_is_unset():
    ref = run_python("print(digest(trained()))")
    assert run_python("print(digest(trained()))", HOME=None, XDG_CACHE_HOME=None) == ref


@pytest.mark.slow
def test_no_place_for_a_cache(tmp_path):
    """Folders below a file cannot be made, by root neither.

    Kernels are compiled for the one process.
    """
    file = tmp_path / "file"
    file.write_text("not a folder")
    nowhere = file / "below"
    ref = run_python("print(digest(trained()))")
    got = run_python(
        "print(digest(trained()))", HOME=nowhere, XDG_CACHE_HOME=nowhere, NUMBA_CACHE_DIR=nowhere
    )
    assert got == ref


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="root can give files away")
def test_a_cache_that_can_only_be_read(tmp_path):
    """As in an image: one user fills it, another reads it, and compiles nothing."""
    code = """
        import tempfile
        from numba.core import event

        def read_only(*args, **kwargs):
            raise OSError(30, "Read-only file system")

        if READ_ONLY:
            tempfile.TemporaryFile = read_only
        with event.install_recorder("numba:compile") as compiled:
            found = digest(trained())
        from nbbn.kernels.cache import cache_folder, keeps
        print(found, len(compiled.buffer), keeps(), cache_folder() is not None)
    """
    cache = tmp_path / "cache"
    first, again = code.replace("READ_ONLY", "False"), code.replace("READ_ONLY", "True")
    ref, count, kept, there = run_python(first, NUMBA_CACHE_DIR=cache)
    assert (kept, there) == ("True", "True") and int(count) > 0
    for path in (cache, *cache.rglob("*")):  # for whom the umask lets in
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path
        os.chown(path, 1234, 1234)
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert run_python(again, NUMBA_CACHE_DIR=cache) == [ref, "0", "False", "True"]
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == files
    for path in cache.rglob("*"):
        path.chmod(0o777)  # where anybody may write, nothing is trusted
    untrusted = run_python(again, NUMBA_CACHE_DIR=cache)
    assert untrusted[0] == ref and untrusted[1] != "0" and untrusted[3] == "False"


@pytest.mark.slow
def test_truncated_cache(tmp_path):
    """An index or a kernel cut short, by a full disk for one, is compiled again."""
    ref = run_python("print(digest(trained()))", NUMBA_CACHE_DIR=tmp_path)
    files = [f for pattern in ("*.nbi", "*.nbc") for f in tmp_path.rglob(pattern)]
    assert files
    for i, file in enumerate(sorted(files)):
        content = file.read_bytes()
        file.write_bytes(content[: (0, len(content) // 2)[i % 2]])
    assert run_python("print(digest(trained()))", NUMBA_CACHE_DIR=tmp_path) == ref


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_more_threads_than_cores(layer, tmp_path):
    """Same bits, no hang and no crash up to 64 threads.

    A parallel region's memory once was freed under its threads.
    """
    code = """
        rng = np.random.default_rng(0)
        X = rng.standard_normal((600, 37)).astype("f4")
        y = (X[:, :3] ** 2).argmax(1)
        for n in (1, 9, 33, 64):
            clf = nbbn.MLPClassifier((300, 100), batch_size=50, max_iter=2, random_state=0, n_jobs=n).fit(X, y)
            proba = clf.predict_proba(np.repeat(X, 4, axis=0))
            print(hashlib.sha256(clf.coefs_[1].tobytes() + proba.tobytes()).hexdigest())
    """
    env = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "64"}
    prelude = "import hashlib, warnings; import numpy as np, nbbn; warnings.simplefilter('ignore')"
    digests = run_python(code, prelude=prelude, **env)
    assert len(digests) == 4 and len(set(digests)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_concurrent_callers_on_every_layer(layer):
    """Fits, predictions and batch norms from four Python threads at once give what they give one
    after the other.
    """
    code = """
        rng = np.random.default_rng(0)
        X = rng.standard_normal((3000, 60)).astype("f4")
        y = (X[:, :4] ** 2).argmax(1)

        def work(seed):
            clf = nbbn.MLPClassifier((64, 33), batch_size=64, max_iter=2, random_state=seed).fit(X, y)
            proba = [clf.fold().predict_proba(X) for _ in range(5)][-1]
            out, cache = nbbn.functional.batch_norm_train(X, activation="relu")
            dx, *_ = nbbn.functional.batch_norm_backward(out, cache)
            return [a.tobytes() for a in (clf.coefs_[0], clf.running_vars_[1], proba, out, dx)]

        alone = [work(seed) for seed in range(4)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            print(list(pool.map(work, range(4))) == alone)
    """
    prelude = "import concurrent.futures, warnings; import numpy as np, nbbn; warnings.simplefilter('ignore')"
    assert run_python(
        code, prelude=prelude, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2"
    ) == ["True"]
