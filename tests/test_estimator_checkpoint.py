"""A fit that is resumed from its checkpoint has the bits of one that was never interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from estimator_helpers import assert_same_fit, kinds, three_classes
from sklearn.exceptions import ConvergenceWarning

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(rows=160):
    return three_classes(rows, 9, 7)


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (12, 5), "max_iter": 6, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


WAYS = {
    "plain": {},
    "no norm": {"batch_norm": False},
    "dropout": {"dropout": 0.3},
    "in order": {"shuffle": False},
    "sgd, adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1,
    },
    "invscaling": {"learning_rate": "invscaling"},
    "one cycle": {"learning_rate": "one_cycle"},
    "adamw": {"solver": "adamw", "clip_norm": 1.0},
    "early stopping": {"early_stopping": True, "learning_rate_init": 0.1},
    "early stopping by loss": {
        "early_stopping": "loss", "learning_rate_init": 0.1, "shuffle": False,
    },
    "float32": {"dtype": "float32"},
}


@kinds
@pytest.mark.parametrize("stop", [1, 4])
@pytest.mark.parametrize("params", WAYS.values(), ids=WAYS)
def test_resumed_fit_has_the_same_bits(kind, params, stop, tmp_path):
    X, y = data()
    weights = np.linspace(0.5, 2, len(X))
    params = {"max_iter": 9, **params}
    ref = make(kind, **params).fit(X, y, weights)

    def fail(estimator, logs):
        if logs["epoch"] == stop:
            raise ZeroDivisionError

    stopped = make(kind, checkpoint=tmp_path / "fit", callbacks=fail, **params)
    with pytest.raises(ZeroDivisionError):
        stopped.fit(X, y, weights)
    assert not hasattr(stopped, "coefs_")
    seen = []
    got = make(
        kind, checkpoint=str(tmp_path / "fit"),
        callbacks=lambda estimator, logs: seen.append(logs["epoch"]), **params,
    )
    got.fit(X, y, weights)
    assert seen[0] == stop + 1
    assert_same_fit(got, ref)
    assert_same_fit(
        got.set_params(checkpoint=None).partial_fit(X, y, weights)
        if not params.get("early_stopping")
        else got,
        ref.partial_fit(X, y, weights) if not params.get("early_stopping") else ref,
    )


@pytest.mark.parametrize("random_state", [np.random.RandomState, lambda seed: None])
def test_resumed_fit_with_other_random_states(random_state, tmp_path):
    X, y = data()
    path = tmp_path / "fit"
    whole = make(random_state=random_state(5), checkpoint=path).fit(X, y)
    kept = path.read_bytes()
    other = make(random_state=random_state(5), max_iter=3, checkpoint=tmp_path / "other").fit(X, y)
    assert other.n_iter_ == 3
    again = make(random_state=random_state(5), checkpoint=path).fit(X, y)
    assert_same_fit(again, whole)
    assert path.read_bytes() == kept


def test_more_epochs_than_before(tmp_path):
    X, y = data()
    make(max_iter=3, checkpoint=tmp_path / "fit").fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(6\)"):
        got = make(checkpoint=tmp_path / "fit").fit(X, y)
    assert_same_fit(got, make().fit(X, y))


def test_a_finished_fit_stays_finished(tmp_path):
    X, y = data()
    params = {"tol": 10.0, "n_iter_no_change": 2, "max_iter": 50}
    ref = make(checkpoint=tmp_path / "fit", **params).fit(X, y)
    seen = []
    got = make(
        checkpoint=tmp_path / "fit", callbacks=lambda *args: seen.append(args), **params
    ).fit(X, y)
    assert got.n_iter_ == 4 and seen == []
    assert_same_fit(got, ref)


@pytest.mark.parametrize(
    ("params", "change", "match"),
    [
        ({"alpha": 1.0}, None, "differs in alpha"),
        ({"hidden_layer_sizes": (12, 6)}, None, "hidden_layer_sizes"),
        ({"random_state": 2}, None, "random_state"), ({}, "X", "differs in X;"),
        ({}, "y", "differs in y;"), ({}, "sample_weight", "differs in sample_weight;"),
        ({"learning_rate": "cosine", "max_iter": 7}, None, "max_iter"),
    ],
    ids=str,
)
def test_checkpoint_of_another_fit(params, change, match, tmp_path):
    X, y = data()
    path = tmp_path / "fit"
    start = {"learning_rate": "cosine"} if "learning_rate" in params else {}
    make(checkpoint=path, max_iter=3, **start).fit(X, y)
    kept = path.read_bytes()
    given = {"X": X, "y": y, "sample_weight": None}
    given |= {
        "X": {"X": X + 1e-9},
        "y": {"y": (y + 1) % 3},
        "sample_weight": {"sample_weight": np.ones(len(X))},
    }.get(change, {})
    with pytest.raises(nbbn.FileError, match=match):
        make(checkpoint=path, **params).fit(**given)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("content", [b"", b"12345678" * 9, None])
def test_broken_checkpoint(content, tmp_path):
    X, y = data()
    path = tmp_path / "fit"
    make(checkpoint=path, max_iter=2).fit(X, y)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(nbbn.FileError, match="no checkpoint of a fit, or broken"):
        make(checkpoint=path).fit(X, y)
    make().fit(X, y).save(path)
    with pytest.raises(nbbn.FileError, match="no checkpoint of a fit, or broken"):
        make(checkpoint=path).fit(X, y)
    with pytest.raises(nbbn.FileError, match="is a folder; give the path of a file in it"):
        make(checkpoint=tmp_path).fit(X, y)
    with pytest.raises(nbbn.FileError, match="does not exist"):
        make(checkpoint=tmp_path / "none" / "fit").fit(X, y)


@pytest.mark.slow
def test_a_killed_process_is_resumed(tmp_path):
    """Killed three times at whatever moment, it ends with the bits of a fit that was left alone."""
    path = tmp_path / "fit"
    params = {
        "max_iter": 300, "tol": 0.0, "dropout": 0.2, "early_stopping": True,
        "n_iter_no_change": 300, "n_jobs": 1,
    }
    code = f"""
        import warnings
        import nbbn
        from sklearn.datasets import make_classification
        warnings.simplefilter("ignore")
        X, y = make_classification(160, 9, n_informative=7, n_classes=3, class_sep=1.5, random_state=0)
        print("begins", flush=True)
        nbbn.MLPClassifier((12, 5), batch_size=32, random_state=1, checkpoint={str(path)!r}, **{params}).fit(X, y)
        print("ends")
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    written = []
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], env=env, stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout.readline() == "begins\n"
            last = path.read_bytes() if path.exists() else None
            while child.poll() is None and (not path.exists() or path.read_bytes() == last):
                time.sleep(0.002)
            child.kill()
            assert child.stdout.read() == "", (
                "the fit was over before it was killed: the test shows nothing"
            )
        written.append(path.read_bytes())
    assert len(set(written)) == 3
    seen = []
    got = make(
        checkpoint=path, callbacks=lambda estimator, logs: seen.append(logs["epoch"]), **params
    ).fit(*data())
    assert 3 < seen[0] <= 300 and seen == list(range(seen[0], 301))
    assert_same_fit(got, make(**params).fit(*data()))
