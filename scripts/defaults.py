#!/usr/bin/env python
"""Try what batch norm could do by default, on many small tables beside scikit-learn's MLP.

    defaults.py --results FILE [--arms ARM ...] [--data NAME ...] [--splits 5] [--jobs 1]
                [--page docs/defaults.md]

An arm is a word and its settings: `sklearn`, scikit-learn's MLP; `default`, nbbn's as it comes;
`none`, without batch norm; `bn`, with batch norm and all else as scikit-learn has it. `bn rate=0.01
exact` has another learning rate and the statistics of all training rows at the end; SETTINGS says
what there is. Each result is a line of FILE, and what is there already is not computed again, so a
run that was stopped goes on. Each fit has one thread; MNIST is asked for in NBBN_DATA, and the
tables of statsmodels are used where it is installed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Table = tuple[np.ndarray, np.ndarray]

# -- the tables


def _of_sklearn(name: str, **settings: Any) -> Callable[[], Table]:
    """A table that scikit-learn ships or makes; the maker's seed is 0."""
    def load() -> Table:
        from sklearn import datasets

        function = getattr(datasets, name)
        if name.startswith("load_"):
            return function(return_X_y=True)
        return function(random_state=0, **settings)

    return load


def _of_statsmodels(name: str, target: str, *, leave: Iterable[str] = (),
                    above: float | None = None) -> Callable[[], Table]:
    """A table that statsmodels ships: one column, or whether it is `above` a number."""
    def load() -> Table:
        import importlib

        frame = importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data
        y = frame[target].to_numpy(np.float64)
        x = frame.drop(columns=[target, *leave]).to_numpy(np.float64)
        return (x, y) if above is None else (x, (y > above).astype(int))

    return load


def _some(load: Callable[[], Table], rows: int) -> Callable[[], Table]:
    """The first rows of a table in a fixed random order."""
    def loaded() -> Table:
        x, y = load()
        order = np.random.RandomState(0).permutation(len(x))[:rows]
        return x[order], y[order]

    return loaded


def _mnist() -> Table:
    from nbbn.datasets import mnist

    (x, y), _ = mnist.load_data()
    return x[:6000].reshape(6000, -1).astype(np.float32), y[:6000].astype(int)


def _friedman1_scaled() -> Table:
    x, y = _of_sklearn("make_friedman1", n_samples=500, noise=1.0)()
    return x, (y - y.mean()) / y.std()


CLASSES: dict[str, Callable[[], Table]] = {
    "iris": _of_sklearn("load_iris"),
    "wine": _of_sklearn("load_wine"),
    "breast_cancer": _of_sklearn("load_breast_cancer"),
    "digits": _of_sklearn("load_digits"),
    "moons": _of_sklearn("make_moons", n_samples=500, noise=0.3),
    "circles": _of_sklearn("make_circles", n_samples=500, noise=0.2, factor=0.5),
    "quantiles": _of_sklearn("make_gaussian_quantiles", n_samples=800, n_features=6, n_classes=3),
    "hastie": _of_sklearn("make_hastie_10_2", n_samples=1500),
    "classes_easy": _of_sklearn("make_classification", n_samples=800, n_features=20,
                                n_informative=5, class_sep=1.5),
    "classes_hard": _of_sklearn("make_classification", n_samples=1200, n_features=40,
                                n_informative=10, n_classes=4, flip_y=0.1),
    "classes_wide": _of_sklearn("make_classification", n_samples=400, n_features=200,
                                n_informative=10, n_clusters_per_class=4),
    "anes96": _of_statsmodels("anes96", "vote", above=0.5),
    "fair": _some(_of_statsmodels("fair", "affairs", above=0.0), 2000),
    "modechoice": _of_statsmodels("modechoice", "choice", leave=["individual"], above=0.5),
    "mnist_6000": _mnist,
}  # fmt: skip
NUMBERS: dict[str, Callable[[], Table]] = {
    "diabetes": _of_sklearn("load_diabetes"),
    "linnerud": _of_sklearn("load_linnerud"),
    "friedman1": _of_sklearn("make_friedman1", n_samples=500, noise=1.0),
    "friedman1_scaled": _friedman1_scaled,
    "friedman2": _of_sklearn("make_friedman2", n_samples=500, noise=50.0),
    "friedman3": _of_sklearn("make_friedman3", n_samples=500, noise=0.1),
    "linear": _of_sklearn("make_regression", n_samples=500, n_features=20, n_informative=8,
                          noise=20.0),
    "sparse": _of_sklearn("make_sparse_uncorrelated", n_samples=600),
    "swiss_roll": _of_sklearn("make_swiss_roll", n_samples=1000, noise=0.5),
    "s_curve": _of_sklearn("make_s_curve", n_samples=1000, noise=0.1),
    "star98": _of_statsmodels("star98", "NABOVE", leave=["NBELOW"]),
    "grunfeld": _of_statsmodels("grunfeld", "invest", leave=["firm"]),
    "engel": _of_statsmodels("engel", "foodexp"),
    "randhie": _some(_of_statsmodels("randhie", "mdvis"), 3000),
}  # fmt: skip
TABLES = CLASSES | NUMBERS

# -- the arms

# Each setting: the estimator's parameter, and what makes its value of a word.
PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "rate": ("learning_rate_init", float),
    "schedule": ("learning_rate", str),
    "batch": ("batch_size", int),
    "place": ("batch_norm", str),
    "momentum": ("bn_momentum", float),
    "epsilon": ("bn_epsilon", float),
    "alpha": ("alpha", float),
    "solver": ("solver", str),
    "epochs": ("max_iter", int),
    "tol": ("tol", float),
    "patience": ("n_iter_no_change", int),
    "stop": ("early_stopping", str),
    "activation": ("activation", str),
    "hidden": ("hidden_layer_sizes", lambda word: tuple(map(int, word.split("-")))),
    "dropout": ("dropout", float),
}
SETTINGS = {
    **{word: f"the parameter `{name}`" for word, (name, _) in PARAMETERS.items()},
    "exact": "statistics of all training rows at the end (`recalibrate`)",
    "targets": "regression on standardised targets",
    "beta": "start of beta: `bias`, the draw of scikit-learn's bias; a number: uniform up to it",
    "gamma": "start of gamma: `std`, so that the network starts as scikit-learn's; or a number",
    "out": "the output layer's kernel starts at so many times Glorot's",
    "kernel": "the hidden layers' kernels start at so many times Glorot's",
    "fixed": "the last so many epochs with fixed statistics: batch norm folded away",
}
# What an arm with batch norm has where its settings say nothing.
PLAIN = {"learning_rate_init": 0.001, "bn_momentum": 0.9, "bn_epsilon": 1e-5}

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Arm:
    """An arm that has been read."""

    kind: str
    settings: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Arm:
        """ValueError for a word that is none of an arm."""
        kind, *words = text.split()
        settings = dict((*word.split("=", 1), "")[:2] for word in words)
        if kind not in ("sklearn", "default", "none", "bn") or not settings.keys() <= set(SETTINGS):
            raise ValueError(f"{text!r} is no arm: sklearn, default, none or bn, and any of "
                             f"{', '.join(f'{word}=' for word in SETTINGS)}")
        return cls(kind, settings)

    def fit(self, x: np.ndarray, y: np.ndarray, classifies: bool, seed: int) -> Predict:
        """Fit; what predicts. Columns are standardised, as rows of training say."""
        from sklearn.preprocessing import StandardScaler

        scale = StandardScaler().fit(x)
        x, shift, spread = scale.transform(x), 0.0, 1.0
        if "targets" in self.settings and not classifies:
            shift, spread = y.mean(0), y.std(0)
            spread = np.where(spread > 0, spread, 1.0)
            y = (y - shift) / spread
        model = self.estimator(classifies, seed)
        if {"beta", "gamma", "out", "kernel"} & self.settings.keys():
            self._start(model, x, y, classifies, seed)
        if "fixed" in self.settings:
            model = self._with_fixed_end(model, x, y)
        else:
            model.fit(x, y)
        if "exact" in self.settings:
            model.recalibrate(x)
        predict = model.predict
        if classifies:
            return lambda rows: predict(scale.transform(rows))
        return lambda rows: predict(scale.transform(rows)) * spread + shift

    def estimator(self, classifies: bool, seed: int) -> Any:
        """The estimator, unfitted."""
        import sklearn.neural_network

        import nbbn

        given = {name: read(self.settings[word])
                 for word, (name, read) in PARAMETERS.items() if word in self.settings}
        given = {"random_state": seed, **given}
        name = "MLPClassifier" if classifies else "MLPRegressor"
        if self.kind == "sklearn":
            return getattr(sklearn.neural_network, name)(**given)
        if self.kind == "none":
            given = {"batch_norm": False, **given}
        if self.kind == "bn":
            given = {"batch_norm": True, **PLAIN, **given}
        return getattr(nbbn, name)(**given)

    def _start(self, model: Any, x: np.ndarray, y: np.ndarray, classifies: bool,
               seed: int) -> None:
        """Weights to start from, as a warm start takes them."""
        rng = np.random.RandomState(seed)
        outputs = y.shape[1] if y.ndim == 2 else 1
        if classifies and (classes := len(np.unique(y))) > 2:
            outputs = classes
        hidden = model.hidden_layer_sizes
        sizes = [x.shape[1], *np.atleast_1d(hidden).tolist(), outputs]
        gamma, beta = self.settings.get("gamma", "1"), self.settings.get("beta", "0")
        coefs, biases, gammas, betas, rows = [], [], [], [], x
        for fan_in, units in itertools.pairwise(sizes):
            bound = np.sqrt((2.0 if model.activation == "logistic" else 6.0) / (fan_in + units))
            kernel = rng.uniform(-bound, bound, (fan_in, units))
            bias = rng.uniform(-bound, bound, units)
            coefs.append(kernel)
            biases.append(np.zeros(units))
            rows = rows @ kernel
            std, mean = rows.std(0) + 1e-12, rows.mean(0)
            expected = bound * np.sqrt(fan_in / 3)
            gammas.append({"std": std, "glorot": np.full(units, expected)}[gamma]
                          if gamma.isalpha() else np.full(units, float(gamma)))
            betas.append({"bias": mean + bias, "draw": bias}[beta] if beta.isalpha() else
                         rng.uniform(-1, 1, units) * float(beta))
            rows = np.maximum((rows - mean) / std * gammas[-1] + betas[-1], 0)
        biases[-1] = bias
        coefs[-1] = coefs[-1] * float(self.settings.get("out", "1"))
        for i in range(len(coefs) - 1):
            coefs[i] = coefs[i] * float(self.settings.get("kernel", "1"))
        model.set_params(warm_start=True)
        model.coefs_, model.intercepts_, model.n_features_in_ = coefs, biases, x.shape[1]
        model.gammas_, model.betas_ = gammas[:-1], betas[:-1]

    def _with_fixed_end(self, model: Any, x: np.ndarray, y: np.ndarray) -> Any:
        """Some epochs with batch norm, then the last ones with it folded into the kernels."""
        last = int(self.settings["fixed"])
        model.set_params(max_iter=model.max_iter - last).fit(x, y).recalibrate(x)
        rest = type(model)(**{**model.get_params(), "batch_norm": False, "max_iter": last,
                              "warm_start": True})
        rest.coefs_, rest.intercepts_, rest.n_features_in_ = [], [], x.shape[1]
        for kernel, bias, gamma, beta, mean, var in zip(
                model.coefs_, model.intercepts_, [*model.gammas_, None], [*model.betas_, None],
                [*model.running_means_, None], [*model.running_vars_, None]):
            if gamma is not None:
                factor = gamma / np.sqrt(var + model.bn_epsilon)
                kernel, bias = kernel * factor, beta - mean * factor
            rest.coefs_.append(kernel)
            rest.intercepts_.append(bias)
        return rest.fit(x, y)


# -- the runs


def run(name: str, split: int, text: str) -> dict[str, Any]:
    """Score and seconds of one arm on one split of a table."""
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from threadpoolctl import threadpool_limits

    import nbbn

    x, y = TABLES[name]()
    classifies = name in CLASSES
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.25, random_state=split, stratify=y if classifies else None)
    nbbn.set_num_threads(1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begin = time.perf_counter()
        predict = Arm.of(text).fit(x_train, y_train, classifies, split)
        seconds = time.perf_counter() - begin
        answers = predict(x_test)
    score = (accuracy_score if classifies else r2_score)(y_test, answers)
    return {"data": name, "split": split, "arm": text, "score": float(score),
            "seconds": round(seconds, 4)}


def read_results(path: Path) -> list[dict[str, Any]]:
    """What the file holds; a last line that was cut short does not count."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def run_all(path: Path, names: list[str], splits: int, arms: list[str], jobs: int) -> int:
    """Run what the file does not hold yet; how many that were."""
    done = {(r["data"], r["split"], r["arm"]) for r in read_results(path)}
    todo = [(name, split, arm) for name in names for split in range(splits) for arm in arms
            if (name, split, arm) not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        def note(result: dict[str, Any]) -> None:
            file.write(json.dumps(result) + "\n")
            file.flush()

        if jobs == 1:
            for one in todo:
                note(run(*one))
            return len(todo)
        with ProcessPoolExecutor(jobs) as pool:
            for result in pool.map(run, *zip(*todo), chunksize=1) if todo else ():
                note(result)
    return len(todo)


# -- the page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=["sklearn", "default"])
    parser.add_argument("--data", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    count = run_all(args.results, args.data, args.splits, args.arms, args.jobs)
    print(f"{count} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
