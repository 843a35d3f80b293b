"""nbbn.dask: lazy answers are the model's own, and a fit on workers is one machine's."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import warnings
from contextlib import contextmanager

import mpi
import numpy as np
import pytest

import nbbn

dask = pytest.importorskip("dask", reason="Dask is not installed")
da = pytest.importorskip("dask.array", reason="dask[array] is not installed")
dd = pytest.importorskip("dask.dataframe", reason="dask[dataframe] is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")

import nbbn.dask as nbd  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
L = nbbn.layers
ROWS, COLUMNS = 60, 5
NAMES = np.array(["no", "yes", "perhaps"])


@pytest.fixture(autouse=True)
def _in_this_process():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def data():
    """Rows, and the classes 0 to 2."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    return x, (x[:, 0] > 0) + (x[:, 1] > 0).astype(int)


def mlp(**more):
    return nbbn.MLPClassifier((7, 4), **{"max_iter": 3, "random_state": 0, **more})


@pytest.fixture(scope="module")
def models(data):
    """Fitted models of all kinds, by name."""
    x, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words, regressor = mlp().fit(x, NAMES[y]), nbbn.MLPRegressor(max_iter=3)
        found = {
            "words": words,
            "two classes": mlp().fit(x, y > 0),
            "one class": mlp().fit(x, np.zeros(ROWS)),
            "indicators": mlp().fit(x, np.stack([y == 0, y == 1, y > 0], 1).astype(int)),
            "numbers": regressor.fit(x, x[:, 0] * 3),
            "two numbers": nbbn.MLPRegressor(max_iter=3, dtype="float64").fit(x, x[:, :2]),
            "layers": nbbn.SequentialClassifier(
                [L.Dense(5), L.BatchNormalization(), L.ReLU()], epochs=2, random_state=0,
            ).fit(x, NAMES[y]),
        }
    found["folded"] = words.fold()
    found["Sequential"] = nbbn.Sequential([L.Input((COLUMNS,)), L.Dense(6), L.Reshape((2, 3))])
    return found


KINDS = ("words", "two classes", "one class", "indicators", "numbers", "two numbers", "layers",
         "folded", "Sequential")
CASES = [(kind, method) for kind in KINDS for method in ("predict", "predict_proba", "transform")
         if (method == "predict" or kind not in ("numbers", "two numbers", "Sequential"))
         and (method != "transform" or kind not in ("layers", "folded"))]


def refuses(block):
    raise AssertionError("something was computed")


def check(found, expected):
    """A lazy array: what it promises, and what it gives."""
    assert found.dtype == expected.dtype and found._meta.dtype == expected.dtype
    assert found.ndim == expected.ndim and found.shape[1:] == expected.shape[1:]
    got = found.compute()
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


# -- arrays


@pytest.mark.parametrize("kind, method", CASES)
def test_arrays(kind, method, models, data):
    x, model = data[0], models[kind]
    lazy = da.from_array(x, chunks=(17, 2))
    found = getattr(nbd, method)(model, lazy)
    assert found.chunks[0] == lazy.chunks[0]
    parts = [getattr(model, method)(x[i : i + 17]) for i in range(0, ROWS, 17)]
    check(found, np.concatenate(parts))


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_and_empty_chunks(kind, models, data):
    x, model = data[0], models[kind]
    lazy = da.from_array(x, chunks=(20, 3))
    keep = np.arange(ROWS) % 3 > 0
    keep[20:40] = False
    rows = lazy[da.from_array(keep, chunks=20)]
    found = nbd.predict(model, rows)
    assert np.isnan(found.shape[0])
    parts = [model.predict(x[:20][keep[:20]]), model.predict(x[40:][keep[40:]])]
    check(found, np.concatenate(parts))
    none = lazy[da.from_array(np.zeros(ROWS, bool), chunks=20)]
    check(nbd.predict(model, none), model.predict(x)[:0])


def test_nothing_is_computed(models):
    lazy = da.zeros((ROWS, COLUMNS), chunks=(9, COLUMNS)).map_blocks(refuses, dtype=float,
                                                                   meta=np.empty((0, 0)))
    found = nbd.predict(models["words"], lazy)
    with pytest.raises(AssertionError, match="something was computed"):
        found.compute()


def test_images():
    rng = np.random.default_rng(0)
    model = nbbn.Sequential([L.Input((4, 6, 2)), L.Conv2D(3, 2), L.BatchNormalization()])
    x = rng.normal(size=(11, 4, 6, 2))
    found = nbd.predict(model, da.from_array(x, chunks=(4, 2, 3, 1)))
    check(found, np.concatenate([model.predict(x[i : i + 4]) for i in (0, 4, 8)]))


def test_layer_of_transform(models, data):
    lazy = da.from_array(data[0], chunks=(ROWS, COLUMNS))
    for layer in (0, 1, -1):
        check(nbd.transform(models["words"], lazy, layer=layer),
              models["words"].transform(data[0], layer))


def test_a_pipeline(data):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = data
    model = make_pipeline(StandardScaler(), mlp()).fit(x, NAMES[y])
    check(nbd.predict(model, da.from_array(x, chunks=(ROWS, 2))), model.predict(x))


def test_later_fits_change_nothing(data):
    x, y = data
    model = mlp().fit(x, y)
    expected, lazy = model.predict_proba(x), da.from_array(x, chunks=(ROWS, COLUMNS))
    found = nbd.predict_proba(model, lazy)
    model.partial_fit(x, y)
    assert not np.array_equal(model.predict_proba(x), expected)
    check(found, expected)


class Threads:
    """A model that answers with the number of threads it may use."""

    def predict(self, rows):
        return np.full(len(rows), nbbn.get_num_threads())


def test_threads():
    lazy = da.zeros((4, 2), chunks=(2, 2))
    assert nbd.predict(Threads(), lazy).compute().tolist() == [1] * 4
    with nbbn.num_threads(2):
        most = nbbn.get_num_threads()
    assert nbd.predict(Threads(), lazy, threads=2).compute().tolist() == [most] * 4


# -- dataframes


def frame(x, parts=4):
    """A dataframe with one partition that is empty."""
    index = pd.Index(np.arange(len(x)) * 10 + 3, name="row")
    whole = pd.DataFrame(x, columns=list("abcde"), index=index)
    lazy = dd.from_pandas(whole, npartitions=parts)
    return whole, dd.concat([lazy.partitions[:2], lazy.partitions[:1].query("a > 99"),
                             lazy.partitions[2:]])


@pytest.mark.parametrize("kind, method", [case for case in CASES if case[0] != "Sequential"])
def test_dataframes(kind, method, models, data):
    whole, lazy = frame(data[0])
    model = models[kind]
    with warnings.catch_warnings():  # that frames have names and the fit had none
        warnings.simplefilter("ignore", UserWarning)
        found = getattr(nbd, method)(model, lazy)
        got, expected = found.compute(), getattr(model, method)(data[0])
    assert found.npartitions == lazy.npartitions and got.index.equals(whole.index)
    assert got.index.name == "row"
    np.testing.assert_allclose(got.to_numpy(), expected, rtol=1e-6) \
        if expected.dtype.kind == "f" else np.testing.assert_array_equal(got.to_numpy(), expected)
    if expected.ndim == 1:
        assert got.name == found.name == "prediction" and got.dtype == found.dtype
        return
    columns = list(range(expected.shape[1]))
    if method == "transform":
        columns = model.get_feature_names_out().tolist()
    elif method == "predict_proba" and kind not in ("indicators", "one class"):
        columns = model.classes_.tolist()
    assert list(got.columns) == list(found.columns) == columns
    assert (got.dtypes == found.dtypes).all()


def test_names_of_columns(data):
    x, y = data
    whole, lazy = frame(x)
    model = mlp().fit(whole, NAMES[y])
    assert (nbd.predict(model, lazy).compute() == model.predict(whole)).all()
    with pytest.raises(ValueError, match="feature names"):
        nbd.predict(model, lazy.rename(columns={"a": "z"}))


# -- what is refused

REFUSED = {
    "array": (TypeError, "X must be a Dask array or dataframe, got ndarray; the model's own",
              lambda m, x: nbd.predict(m["words"], x)),
    "series": (TypeError, "X must be a Dask array or dataframe, got Series",
               lambda m, x: nbd.predict(m["words"], frame(x)[1]["a"])),
    "columns": (ValueError, "X has 4 features, but .* is expecting 5",
                lambda m, x: nbd.predict(m["words"], da.from_array(x[:, :4]))),
    "words": (TypeError, "X must be numeric",
              lambda m, x: nbd.predict(m["folded"], da.from_array(x.astype(str)))),
    "one axis": (ValueError, r"X must have rows of numbers, got shape \(60,\)",
                 lambda m, x: nbd.predict(m["words"], da.from_array(x[:, 0]))),
    "unknown columns": (ValueError, "X must have known columns",
                        lambda m, x: nbd.predict(m["words"], da.from_array(x)[
                            :, da.from_array(np.ones(5, bool))])),
    "no probabilities": (AttributeError, "predict_proba: a MLPRegressor has no predict_proba",
                         lambda m, x: nbd.predict_proba(m["numbers"], da.from_array(x))),
    "no layers": (AttributeError, "transform: a FoldedModel has no transform",
                  lambda m, x: nbd.transform(m["folded"], da.from_array(x))),
    "layer": (ValueError, "layer", lambda m, x: nbd.transform(m["words"], da.from_array(x),
                                                              layer=9)),
    "threads": (ValueError, "number of threads must be at least 1",
                lambda m, x: nbd.predict(m["words"], da.from_array(x), threads=0)),
    "unfitted": (Exception, "not fitted", lambda m, x: nbd.predict(mlp(), da.from_array(x))),
    "no table": (ValueError, r"shape \(2, 3\), which is no row of a dataframe",
                 lambda m, x: nbd.predict(m["Sequential"], frame(x)[1])),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what, models, data):
    kind, words, call = REFUSED[what]
    with pytest.raises(kind, match=words):
        call(models, data[0])


def test_without_dask(monkeypatch, models):
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ImportError, match=r"nbbn\.dask needs Dask: pip install"):
        nbd.predict(models["words"], None)


# -- clusters


def security():
    """TLS where it can be had, and the protocol."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    try:
        return {"security": distributed.Security.temporary(), "protocol": "tls://"}
    except ImportError:  # cryptography is missing
        return {"security": None, "protocol": "tcp://"}


@contextmanager
def client_of(made):
    """A client of a cluster of two workers."""
    import distributed

    with dask.config.set(scheduler=None), distributed.Client(made) as client:
        client.wait_for_workers(2)
        yield client


@pytest.fixture(scope="module")
def two_processes():
    """Two processes on one host."""
    more = security()
    import distributed

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True,
                                  dashboard_address="127.0.0.1:0", host="127.0.0.1",
                                  **more) as made:
        yield made


@pytest.fixture
def cluster(two_processes):
    """The same for all tests; where one has killed a worker, another has taken its place."""
    with client_of(two_processes) as client:
        yield client


@pytest.fixture
def two_hosts():
    """A process on each of two hosts, as the launcher counts them."""
    more = security()
    import distributed

    scheduler = {"cls": distributed.Scheduler,
                 "options": {"host": "127.0.0.1", "dashboard": False,
                             "dashboard_address": "127.0.0.1:0", **more}}
    nannies = {i: {"cls": distributed.Nanny,
                   "options": {"host": f"127.0.0.{i + 1}", "nthreads": 1, **more}}
               for i in range(2)}
    with (distributed.SpecCluster(nannies, scheduler, security=more["security"]) as made,
          client_of(made) as client):
        yield client


def test_answers_on_a_cluster(cluster, models, data):
    x = data[0]
    lazy = da.from_array(x, chunks=(9, 3))
    for kind in KINDS:
        parts = [models[kind].predict(x[i : i + 9]) for i in range(0, ROWS, 9)]
        check(nbd.predict(models[kind], lazy), np.concatenate(parts))


def test_a_search_on_a_cluster(cluster, data):
    joblib = pytest.importorskip("joblib")
    from sklearn.model_selection import GridSearchCV

    x, y = data
    search = GridSearchCV(mlp(n_jobs=1), {"alpha": [1e-4, 1.0]}, cv=2)
    alone = search.fit(x, y).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend="dask"):
        found = search.fit(x, y).cv_results_["mean_test_score"]
    assert found.tolist() == alone.tolist()


@pytest.fixture
def launcher():
    """Skips where no ranks can be started."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    if mpi.mpiexec("mpich")[0] is None or mpi.PYTHONS["mpich"] != sys.executable:
        pytest.skip("this Python has no MPICH")
    if sys.platform != "linux":
        pytest.skip("nbbn.dask.fit needs Linux")


def whole_batch(**more):
    """A model whose fit does not depend on the order of rows but for rounding."""
    return mlp(batch_size=ROWS, dtype="float64", max_iter=5, **more)


def folders(client):
    """What fits have left on the workers."""
    from pathlib import Path

    found = client.run(lambda dask_worker: [str(p) for p in Path(
        dask_worker.local_directory).glob("nbbn-fit-*")])
    return [path for paths in found.values() for path in paths]


def test_fit(cluster, launcher, data):
    x, y = data[0].astype(np.float64), data[1]
    weights = np.random.default_rng(1).random(ROWS)
    expected = whole_batch().fit(x, NAMES[y], weights)
    lazy = [da.from_array(a, chunks=13) for a in (x, NAMES[y], weights)]
    model = whole_batch(verbose=False)
    with pytest.warns(Warning, match="Maximum iterations"):
        assert nbd.fit(model, *lazy) is model
    np.testing.assert_allclose(model.loss_curve_, expected.loss_curve_, rtol=1e-10)
    np.testing.assert_allclose(model.predict_proba(x), expected.predict_proba(x), rtol=1e-7)
    assert model.predict(x).tolist() == expected.predict(x).tolist()
    assert model.random_state == 0 and model.dtype == "float64"
    assert folders(cluster) == []


def test_fit_on_dataframes(cluster, launcher, data, tmp_path):
    x, y = data[0].astype(np.float64), data[1]
    whole, frames = frame(x)
    labels = dd.from_pandas(pd.Series(NAMES[y], index=whole.index), npartitions=4)
    expected = whole_batch().fit(whole, NAMES[y])
    found = nbd.fit(whole_batch(), dd.from_pandas(whole, npartitions=4), labels,
                    scratch=str(tmp_path))
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-10)
    assert list(found.feature_names_in_) == list("abcde")
    assert folders(cluster) == [] and list(tmp_path.iterdir()) == []


def test_fit_on_two_hosts(two_hosts, launcher, data):
    x, y = data[0].astype(np.float64), data[1]
    expected = whole_batch().fit(x, y)
    rows, labels = da.from_array(x, chunks=(10, 2)), da.from_array(y, chunks=15)
    found = nbd.fit(whole_batch(), rows, labels, shards=4)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-10)


def test_what_a_fit_refuses(cluster, launcher, data):
    x, y = data
    bad = x.copy()
    bad[3, 2] = np.nan
    lazy, labels = da.from_array(bad, chunks=15), da.from_array(y, chunks=15)
    model = mlp()
    before = dict(vars(model))
    with pytest.raises(ValueError, match="NaN"):
        nbd.fit(model, lazy, labels)
    with pytest.raises(ValueError, match="chunks of the same rows, got X 4, y 1 chunks"):
        nbd.fit(model, lazy, labels[:15])
    with pytest.raises(ValueError, match="as many rows as each other"):
        nbd.fit(model, lazy, da.from_array(np.append(y, 1), chunks=(16, 15, 15, 15)))
    with pytest.raises(ValueError, match="X has no rows"):
        nbd.fit(model, lazy[lazy[:, 0] > 1e9], labels[lazy[:, 0] > 1e9])
    assert vars(model) == before and folders(cluster) == []


@pytest.mark.parametrize("changed, kind, words", [
    ({"callbacks": print}, ValueError, "callbacks are functions of this process"),
    ({"warm_start": True}, ValueError, "warm_start=True is not supported"),
    ({"random_state": np.random.RandomState(0)}, ValueError, "random_state must be a whole"),
    ({"alpha": -1.0}, ValueError, "alpha"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_what_cannot_be_sent(changed, kind, words, data):
    x, y = (da.from_array(a, chunks=ROWS) for a in data)
    with pytest.raises(kind, match=words):
        nbd.fit(mlp(**changed), x, y)


def test_other_models_are_not_sent(models, data):
    x, y = (da.from_array(a, chunks=ROWS) for a in data)
    with pytest.raises(TypeError, match="model must be an MLPClassifier or MLPRegressor"):
        nbd.fit(models["layers"], x, y)
    with pytest.raises(TypeError, match="y must be a Dask array or dataframe, got ndarray"):
        nbd.fit(mlp(), x, data[1])


def test_without_a_client(launcher, data):
    x, y = (da.from_array(a, chunks=ROWS) for a in data)
    with pytest.raises(ValueError, match="there is no current Dask client"):
        nbd.fit(mlp(), x, y)


def test_tasks_of_a_worker_that_dies_are_not_waited_for(cluster):
    from nbbn.dask.launch import Job

    victim, process = next(iter(cluster.run(os.getpid).items()))
    threading.Timer(1, os.kill, (process, signal.SIGKILL)).start()
    with pytest.raises(RuntimeError, match=r"Dask's worker .* has gone"):
        Job(cluster).results(time.sleep, {victim: (60,)})
    has_gone(cluster, victim)


@pytest.mark.parametrize("hosts", ["cluster", pytest.param("two_hosts",
                                                           marks=pytest.mark.slow)])
def test_a_worker_that_dies_ends_the_fit(hosts, launcher, data, tmp_path, request):
    cluster = request.getfixturevalue(hosts)
    x, y = (da.from_array(a, chunks=15) for a in data)
    checkpoint = tmp_path / "checkpoint"
    model = mlp(max_iter=10**7, tol=0.0, n_iter_no_change=10**7, checkpoint=str(checkpoint))
    before, raised = dict(vars(model)), []
    processes = cluster.run(os.getpid)

    def fit():
        try:
            nbd.fit(model, x, y, client=cluster)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=fit)
    thread.start()
    until = time.monotonic() + 60
    while not checkpoint.exists() and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    assert checkpoint.exists(), raised
    children = {worker: descendants(number) for worker, number in processes.items()}
    victim = [worker for worker, found in children.items() if any(map(is_proxy, found))][-1]
    os.kill(processes[victim], signal.SIGKILL)
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(raised[0], RuntimeError), raised
    assert re.search("has gone|failed", str(raised[0]))
    assert vars(model) == before
    until = time.monotonic() + 5
    while any(map(alive, children[victim])) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, children[victim]))  # no rank lives on
    has_gone(cluster, victim)


def has_gone(client, worker):
    """Wait until Dask knows that a worker has gone."""
    until = time.monotonic() + 30
    while worker in client.nthreads() and time.monotonic() < until:
        time.sleep(0.05)
    assert worker not in client.nthreads()


def descendants(process):
    """Processes below one."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == process:
                found += [int(entry), *descendants(int(entry))]
    return found


def is_proxy(process):
    """Whether a process is one of MPI's launcher."""
    try:
        with open(f"/proc/{process}/cmdline") as file:
            return "hydra_pmi_proxy" in file.read().split("\0")[0]
    except OSError:
        return False


def alive(process):
    """Whether a process runs."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
