"""What the ranks of a job do: `python rank_jobs.py JOB ARGUMENT...`, arguments in JSON."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings

import numpy as np
import scipy.sparse

import nbbn

L = nbbn.layers
N = 600


def rows(kind, n=N):
    """Rows and targets, sorted by class."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, 2 if kind == "binary" else 4, n))
    x = rng.normal(size=(n, 12)) + 0.4 * y[:, None] + 30
    if kind == "numbers":
        return x, x[:, :2] @ np.array([[1.0, 2.0], [3.0, 4.0]]) / 10
    if kind == "words":
        return x, np.array(["a", "bb", "ccc", "dddd"])[y]
    if kind == "images":
        return x.reshape(n, 3, 2, 2), y
    if kind == "stored":
        return scipy.sparse.csr_array(np.where(x < 31, 0, x)), y
    if kind == "indicators":
        return x, np.stack([y == 0, y == 1, y > 1], 1).astype(int)
    return x, y


MLP = {"hidden_layer_sizes": (17, 9), "max_iter": 3, "batch_size": 64, "random_state": 1}
CNN = [
    L.Conv2D(6, 2, padding="same"), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D((1, 2)),
    L.Conv2D(5, (2, 1)), L.BatchNormalization(), L.Activation("tanh"), L.Dropout(0.1, seed=4),
    L.Flatten(), L.Dense(9, kernel_regularizer="l2", kernel_constraint=nbbn.constraints.MaxNorm(0.9)),
    L.BatchNormalization(gamma_constraint="non_neg"), L.ReLU(),
]  # fmt: skip
# Of each case: class, parameters, rows, whether weighted, whether there are rows to validate on.
CASES = {
    "adam": ("MLPClassifier", MLP, "labels", False, False),
    "weights": ("MLPClassifier", {**MLP, "class_weight": "balanced"}, "words", True, True),
    "early stopping": ("MLPClassifier", {**MLP, "early_stopping": True}, "binary", True, False),
    "regression": ("MLPRegressor", {**MLP, "clip_norm": 0.5, "loss": "huber"}, "numbers", False,
                   True),
    "dropout": ("MLPClassifier", {**MLP, "solver": "sgd", "dropout": 0.2, "batch_norm": "post",
                                  "activation": "tanh"}, "labels", False, False),
    "no norm": ("MLPClassifier", {**MLP, "batch_norm": False, "learning_rate": "one_cycle"},
                "labels", True, False),
    "lbfgs": ("MLPClassifier", {**MLP, "solver": "lbfgs"}, "labels", False, False),
    "lbfgs, no norm": ("MLPRegressor", {**MLP, "solver": "lbfgs", "batch_norm": False}, "numbers",
                       True, False),
    "stored elements": ("MLPClassifier", {**MLP, "shuffle": False}, "stored", False, False),
    "labels": ("MLPClassifier", {**MLP, "class_weight": "balanced"}, "indicators", False, False),
    "images": ("SequentialClassifier", {"layers": CNN, "epochs": 2, "batch_size": 64,
                                        "random_state": 0, "validation_fraction": 0.2}, "images",
               True, False),
    "layers": ("SequentialRegressor", {"layers": [L.Dense(9), L.BatchNormalization(), L.ReLU()],
                                       "epochs": 3, "random_state": 2, "early_stopping": True},
               "numbers", False, True),
}  # fmt: skip


def model_and_data(name, dtype="float64", **changed):
    """A case's model and all of its rows: X, y, weights, X_val, y_val."""
    kind, params, of, weighted, validated = CASES[name]
    x, y = rows(of)
    x = x.astype(dtype)
    weights = np.random.default_rng(1).random(len(y)) if weighted else None
    held = (x[::5], y[::5]) if validated else (None, None)
    return getattr(nbbn, kind)(**{**params, **changed}), (x, y, weights, *held)


def curves(model):
    """The figures of each epoch."""
    found = getattr(model, "history_", None) or {"loss": model.loss_curve_}
    found = {name: [float(v) for v in values] for name, values in found.items()}
    for name in ("validation_scores_", "validation_loss_curve_"):
        if getattr(model, name, None):
            found[name] = [float(v) for v in getattr(model, name)]
    return found


def weights_of(model):
    """All weights in a row."""
    network = model.network()
    return np.concatenate([a.ravel() for arrays in network.weights for a in arrays.values()])


def digest(model):
    """Of weights and figures."""
    words = json.dumps(curves(model), sort_keys=True).encode()
    return hashlib.sha256(weights_of(model).tobytes() + words).hexdigest()[:16]


def fitted_alone(name, **changed):
    """The case on one machine."""
    model, (x, y, weights, x_val, y_val) = model_and_data(name, **changed)
    return model.fit(x, y, weights, X_val=x_val, y_val=y_val)


# -- jobs: functions of MPI's communicator that give what a rank reports


def part(array, counts, rank):
    """A rank's part of an array whose rows are shared out in proportion to `counts`."""
    if array is None:
        return None
    ends = np.append(0, np.cumsum(counts)) * array.shape[0] // sum(counts)
    return array[ends[rank] : ends[rank + 1]]


def fit_part(comm, model, data, counts, **more):
    """Fit on a rank's part."""
    import nbbn.distributed as nd

    x, y, weights, x_val, y_val = (part(array, counts, comm.rank) for array in data)
    return nd.fit(model, x, y, weights, X_val=x_val, y_val=y_val, comm=comm, **more)


def cases(comm, names, counts, shards=None, dtype="float64"):
    """Fit some cases: figures, weights and digest of each."""
    found = {}
    for name in names:
        model, data = model_and_data(name, dtype)
        fit_part(comm, model, data, counts, shards=shards)
        found[name] = {"curves": curves(model), "weights": weights_of(model).tolist(),
                       "digest": digest(model)}
    return found


def many_rows():
    """A classifier and 20,000 rows sorted by class."""
    model = nbbn.MLPClassifier((33, 17), max_iter=3, batch_size=256, random_state=1)
    return model, (*rows("labels", 20_000), None, None, None)


def fit_of_many(comm, counts):
    """The figures of a fit of as many rows a rank as `counts` says, and the weights' digest."""
    model, data = many_rows()
    fit_part(comm, model, data, counts)
    return {"own": counts[comm.rank], "curves": curves(model), "digest": digest(model)}


def graph():
    """A model with shortcuts and a layer that is called twice."""
    nbbn.utils.set_random_seed(3)
    given = L.Input((12,))
    x = L.Dense(9, activation="relu", dtype="float64")(given)
    for _ in range(2):
        x = L.Add()([x, L.ReLU()(L.BatchNormalization()(L.Dense(9)(x)))])
    again = L.Dense(9)
    x = L.Concatenate()([again(x), again(again(x)), x])
    model = nbbn.Model(given, L.Dense(4, activation="softmax")(x))
    model.compile(nbbn.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def fit_of_graph(comm, counts, shards):
    """Losses, and the digest of the weights."""
    import nbbn.distributed as nd

    model, (x, y) = graph(), rows("labels")
    history = nd.fit(model, part(x, counts, comm.rank), part(y, counts, comm.rank), epochs=3,
                     batch_size=64, verbose=0, shards=shards, comm=comm)
    return {"loss": history.history["loss"], "weights": digest_of(model.get_weights())}


def cases_and_place(comm, names, counts):
    """`cases`, with the addresses of the rank's host and how many ranks share its memory."""
    from mpi4py import MPI

    shown = subprocess.run(["ip", "-4", "-o", "address", "show", "scope", "global"], check=True,
                           capture_output=True, text=True).stdout
    addresses = [line.split()[3].partition("/")[0] for line in shown.splitlines()]
    here = comm.Split_type(MPI.COMM_TYPE_SHARED).size
    return {**cases(comm, names, counts), "addresses": addresses, "ranks here": here}


def keyed_cases(comm, names, counts, shards):
    """`cases`, in orders that no rank holds, for however few rows."""
    from nbbn.distributed import order

    order.MOST_ROWS = 0
    return cases(comm, names, counts, shards)


def keyed_checkpoint(comm, path, counts, shards, killed=None):
    """`checkpointed`, in such orders."""
    from nbbn.distributed import order

    order.MOST_ROWS = 0
    return checkpointed(comm, path, counts, shards, killed)


def sequential(comm, counts):
    """A Sequential with callbacks, which only the first rank has; what they have seen."""
    x, y = rows("images")
    seen, extra = [], []
    model = nbbn.Sequential([*CNN, L.Dense(4, activation="softmax")])
    model.compile(nbbn.optimizers.SGD(0.05), "sparse_categorical_crossentropy",
                  metrics=["accuracy"])
    model._layers.seed = 5 if comm.rank == 0 else 6  # the first rank's weights are everybody's
    if comm.rank == 0:
        note = nbbn.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(epoch),
            on_train_batch_end=lambda batch, logs: None)
        extra = [note, nbbn.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)]
    stop = nbbn.callbacks.EarlyStopping("val_loss", min_delta=10, restore_best_weights=True)
    import nbbn.distributed as nd
    history = nd.fit(model, part(x, counts, comm.rank), part(y, counts, comm.rank), epochs=9,
                     X_val=part(x[::3], counts, comm.rank), y_val=part(y[::3], counts, comm.rank),
                     batch_size=100, verbose=0, callbacks=[*extra, stop], comm=comm)
    again = model.fit(x, y, epochs=1, verbose=0).history["loss"]  # alone, on the same weights
    return {"history": history.history, "seen": seen, "weights": digest_of(model.get_weights()),
            "again": len(again), "rate": model.optimizer.learning_rate}


def digest_of(arrays):
    """Of some arrays."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def recalibrated(comm, counts):
    """Statistics of the rows of all ranks: the largest differences from those of one machine."""
    import nbbn.distributed as nd

    found = []
    for name in ("adam", "images"):
        model, (x, y, *_) = model_and_data(name)
        model.fit(x, y)
        before = weights_of(model)
        nd.recalibrate(model, part(x, counts, comm.rank), comm=comm)
        own = weights_of(model)
        model.recalibrate(x)
        assert not np.allclose(own, before)
        found.append(float(np.abs(own - weights_of(model)).max()))
    return found


def refused(comm, whats):
    """What each rank raises where one of them, or all, are in the wrong."""
    return {what: refusal(comm, what) for what in whats}


def refusal(comm, what):
    """Kind and words of an error, and whether the model is fitted now."""
    import nbbn.distributed as nd
    from nbbn.kernels import cache

    bad, counts, more = comm.rank == 1, [1] * comm.size, {}
    model, (x, y, *_) = model_and_data("adam")
    x, y = part(x, counts, comm.rank), part(y, counts, comm.rank)
    if what == "nan" and bad:
        x = x.copy()
        x[3, 2] = np.nan
    elif what == "columns" and bad:
        x = x[:, :5]
    elif what == "words" and bad:
        y = y.astype(str)
    elif what == "lengths" and bad:
        y = y[:-1]
    elif what == "weights":
        more["sample_weight"] = np.ones(len(x)) if bad else None
    elif what == "parameters":
        model.set_params(alpha=0.1 if bad else 0.2)
    elif what == "every rank":
        model.set_params(alpha=-1.0)
    elif what == "shards":
        more["shards"] = comm.size - 1
    elif what == "other shards":
        more["shards"] = 8 if bad else 9
    elif what == "nothing":
        x = y = None
    elif what == "partitions" and bad:
        x, y = nbbn.Partitions([(x, y)]), None
    elif what == "model":
        model = "a model"
    elif what == "kernels" and bad:
        sources, cache.SOURCES = cache.SOURCES, "other"
    elif what == "callback":
        model.set_params(callbacks=stumbles)
    try:
        nd.fit(model, x, y, comm=comm, **more)
    except Exception as error:
        return [type(error).__name__, str(error), hasattr(model, "coefs_")]
    finally:
        if what == "kernels" and bad:
            cache.SOURCES = sources
    return ["nothing", "", True]


def stumbles(*arguments, **more):
    """A callback, or a method in the place of another."""
    raise OSError("the disk is full")


def stumble(comm, counts):
    """One rank alone fails in the middle."""
    from nbbn.trainer import Trainer

    model, data = model_and_data("adam")
    if comm.rank == comm.size - 1:
        Trainer.epoch = stumbles
    fit_part(comm, model, data, counts)


class AtEpoch:
    """A callback that does something to its own process, or to another, after an epoch."""

    def __init__(self, epoch, number, process):
        self.epoch, self.number, self.process = epoch, number, process

    def __call__(self, estimator, logs):
        if logs["epoch"] == self.epoch:
            os.kill(self.process, self.number)


def checkpointed(comm, path, counts, shards, killed=None):
    """A fit with a checkpoint; `killed`: a rank that dies after the second epoch."""
    model, data = model_and_data("weights", "float32", checkpoint=path, max_iter=4)
    processes = comm.allgather(os.getpid())
    if killed is not None:
        model.set_params(callbacks=AtEpoch(2, signal.SIGKILL, processes[killed]))
    fit_part(comm, model, data, counts, shards=shards)
    return [digest(model), model.n_iter_]


def interrupted(comm, counts):
    """A fit of which one rank hears Ctrl-C."""
    model, data = model_and_data("adam", max_iter=50)
    processes = comm.allgather(os.getpid())
    model.set_params(callbacks=AtEpoch(3, signal.SIGINT, processes[-1]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit_part(comm, model, data, counts)
    return [model.n_iter_, [str(w.message) for w in caught], digest(model)]


def cases_of_teams(comm, names, counts):
    """`cases`, each rank on two threads, for however small a step."""
    from test_shards import Team

    from nbbn import trainer
    from nbbn.program import runnable

    trainer.ThreadChoice, trainer._WORTH_A_TEAM = Team, 0
    runnable.TrainingRun.worth = lambda self, most: most
    for name in names:
        CASES[name][1]["n_jobs"] = 2
    return cases(comm, names, counts)


def report(comm, found):
    """What all ranks have found, in one piece, or the ranks' lines would mix."""
    for rank, value in enumerate(comm.gather(found) or []):
        print("RESULT", json.dumps([rank, value]), flush=True)


def serve(comm):
    """Do jobs until one is empty, each on the first so many ranks."""
    while words := json.loads(next_line(comm) or "[]"):
        ranks, job, *arguments = words
        group, error = comm.Split(int(comm.rank >= ranks), comm.rank), ""
        if comm.rank >= ranks:
            continue
        try:
            report(group, globals()[job](group, *arguments))
        except Exception:
            error = traceback.format_exc()
        errors = list(filter(None, group.gather(error) or []))
        if comm.rank == 0:
            print("DONE", json.dumps("".join(errors)), flush=True)


def next_line(comm):
    """The next line of the first rank's input; others sleep meanwhile, where MPI would spin."""
    if comm.rank == 0:
        line = sys.stdin.readline()
        for rank in range(1, comm.size):
            comm.send(line, rank)
        return line
    while not comm.Iprobe(source=0):
        time.sleep(0.01)
    return comm.recv(source=0)


def main():
    """Run a job and report what it gives."""
    from mpi4py import MPI

    warnings.filterwarnings("ignore", message="Stochastic Optimizer")
    warnings.filterwarnings("ignore", message="lbfgs failed to converge")
    comm, job = MPI.COMM_WORLD, globals()[sys.argv[1]]
    if job is serve:
        serve(comm)
    else:
        report(comm, job(comm, *map(json.loads, sys.argv[2:])))


if __name__ == "__main__":
    main()
