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
import csv
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
    "place": ("batch_norm", lambda word: word.split("-") if "-" in word else word),
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
}  # fmt: skip
# How the weights start.
STARTS = {
    "gamma": "`glorot`, the standard deviation that the kernel gives; `std`, the one on the "
             "training rows; or a number",
    "beta": "`draw`, scikit-learn's draw for the bias; `bias`, that and the mean of the training "
            "rows; or the largest of uniform numbers",
    "out": "the output layer at so many times Glorot's",
    "kernel": "hidden kernels at so many times Glorot's",
}
SETTINGS = {
    **{word: f"the parameter `{name}`" for word, (name, _) in PARAMETERS.items()}, **STARTS,
    "targets": "regression on standardised targets; `targets=no`: on raw ones",
    "columns": "`columns=max`: all columns divided by the largest number, instead of standardised",
    "exact": "statistics of all training rows at the end (`recalibrate`)",
    "fixed": "so many last epochs with fixed statistics, batch norm folded into the kernels",
}  # fmt: skip
# What an arm with batch norm has where its settings say nothing.
PLAIN = {"learning_rate_init": 0.001, "alpha": 0.0001, "bn_momentum": 0.9, "bn_epsilon": 1e-5}
# The arms of the page.
STUDY = [
    "sklearn", "none targets", "bn", "bn targets", "bn rate=0.01", "bn rate=0.01 targets",
    "bn targets gamma=glorot", "bn targets gamma=glorot beta=draw",
    "bn targets gamma=std beta=bias", "bn rate=0.002 targets gamma=glorot beta=draw", "default",
    "default rate=0.001", "default rate=0.005", "default rate=0.01", "default alpha=0.0001",
    "default alpha=1", "default solver=adamw alpha=0.1", "default gamma=1 beta=0", "default out=1",
    "default targets=no", "default batch=50", "default batch=1000", "default momentum=0.99",
    "default epsilon=0.001", "default place=post", "default exact", "default fixed=20",
    "default schedule=cosine", "sklearn hidden=64-32", "bn hidden=64-32", "default hidden=64-32",
    "default hidden=64-32 place=pre-", "sklearn columns=max", "bn columns=max",
    "default columns=max",
]
# Words that scikit-learn's arm beside another one has, too.
SHARED = ("hidden=", "columns=")

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
                             f"{', '.join(SETTINGS)}")
        return cls(kind, settings)

    @property
    def starts(self) -> dict[str, str] | None:
        """How the weights start, where the estimator does not say."""
        given = {word: self.settings[word] for word in STARTS if word in self.settings}
        if self.kind == "bn":
            return {"gamma": "1", "beta": "0", **given}
        return {"gamma": "glorot", "beta": "draw", **given} if given else None

    @property
    def standardises(self) -> bool:
        """Whether targets are standardised."""
        given = self.settings.get("targets", "no" if self.kind != "default" else "")
        return given != "no"

    def fit(self, x: np.ndarray, y: np.ndarray, classifies: bool, seed: int) -> Predict:
        """Fit; what predicts. Columns are standardised, as rows of training say."""
        from sklearn.preprocessing import FunctionTransformer, StandardScaler

        largest = np.abs(x).max()
        as_one = FunctionTransformer(lambda rows: rows / largest)
        scale = (as_one if "columns" in self.settings else StandardScaler()).fit(x)
        x, shift, spread = scale.transform(x), 0.0, 1.0
        model = self.estimator(classifies, seed)
        by_hand = self.starts is not None or "fixed" in self.settings or self.kind != "default"
        if not classifies and by_hand:
            if self.standardises:
                shift, spread = y.mean(0), y.std(0)
                y = (y - shift) / spread
            if self.kind != "sklearn":
                model.set_params(normalize_y=False)
        if self.starts is not None:
            self._start(model, x, y, classifies, seed)
        model = self._with_fixed_end(model, x, y) if "fixed" in self.settings else model.fit(x, y)
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
        norm = given.get("batch_norm")
        if isinstance(norm, list):
            given["batch_norm"] = [place or False for place in norm]
        name = "MLPClassifier" if classifies else "MLPRegressor"
        if self.kind == "sklearn":
            return getattr(sklearn.neural_network, name)(**given)
        if self.kind == "none":
            given = {"batch_norm": False, **given}
        if self.kind == "bn":
            given = {"batch_norm": True, **PLAIN, **given}
        if self.settings.get("targets") == "no" and not classifies:
            given["normalize_y"] = False
        return getattr(nbbn, name)(**given)

    def _start(self, model: Any, x: np.ndarray, y: np.ndarray, classifies: bool,
               seed: int) -> None:
        """Weights to start from, as a warm start takes them; the draws are scikit-learn's."""
        rng, starts = np.random.RandomState(seed), self.starts or {}
        outputs = y.shape[1] if y.ndim == 2 else 1
        if classifies and (classes := len(np.unique(y))) > 2:
            outputs = classes
        sizes = [x.shape[1], *np.atleast_1d(model.hidden_layer_sizes).tolist(), outputs]
        coefs, biases, gammas, betas, rows = [], [], [], [], x
        for fan_in, units in itertools.pairwise(sizes):
            bound = np.sqrt((2.0 if model.activation == "logistic" else 6.0) / (fan_in + units))
            kernel = rng.uniform(-bound, bound, (fan_in, units))
            bias = rng.uniform(-bound, bound, units)
            rows = rows @ kernel
            std, mean = rows.std(0) + 1e-12, rows.mean(0)
            gamma = {"glorot": np.full(units, bound * np.sqrt(fan_in / 3)), "std": std}
            beta = {"draw": bias, "bias": mean + bias}
            coefs.append(kernel * float(starts.get("kernel", 1)))
            biases.append(np.zeros(units))
            gammas.append(gamma[starts["gamma"]] if starts["gamma"] in gamma
                          else np.full(units, float(starts["gamma"])))
            betas.append(beta[starts["beta"]] if starts["beta"] in beta
                         else rng.uniform(-1, 1, units) * float(starts["beta"]))
            rows = np.maximum((rows - mean) / std * gammas[-1] + betas[-1], 0)
        at_mean = self.kind == "default" and not classifies and self.standardises
        out = float(starts.get("out", 0 if at_mean else 1))
        coefs[-1], biases[-1] = kernel * out, bias * out
        model.set_params(warm_start=True)
        model.coefs_, model.intercepts_, model.n_features_in_ = coefs, biases, x.shape[1]
        model.gammas_, model.betas_ = gammas[:-1], betas[:-1]

    def _with_fixed_end(self, model: Any, x: np.ndarray, y: np.ndarray) -> Any:
        """Some epochs with batch norm, then the last ones with it folded into the kernels."""
        last = int(self.settings["fixed"])
        model.set_params(max_iter=model.max_iter - last).fit(x, y).recalibrate(x)
        rest = type(model)(**{
            **model.get_params(), "batch_norm": False, "max_iter": last, "warm_start": True,
            "learning_rate_init": model.learning_rate_init_, "alpha": model.alpha_,
        })  # fmt: skip
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
    held = path.read_text() if path.exists() else ""
    with path.open("a") as file:
        file.write("\n" if held and not held.endswith("\n") else "")

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

FLOOR = -1.0  # a lower R^2 counts as this in means and ranks
Scores = dict[str, dict[str, np.ndarray]]  # by table and arm, a number for each split


def scores_of(results: list[dict[str, Any]]) -> Scores:
    """Scores by table and arm, in the order of the splits."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for r in results:
        splits = found.setdefault(r["data"], {}).setdefault(r["arm"], {})
        splits[r["split"]] = max(FLOOR, r["score"])
    return {name: {arm: np.array([splits[k] for k in sorted(splits)])
                   for arm, splits in arms.items()}
            for name, arms in found.items()}


def error_of(values: np.ndarray) -> float:
    """Standard error of a mean; 0 of one number."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def worse_on(scores: Scores, arm: str, peer: str) -> list[str]:
    """Tables where an arm's mean is below the peer's by more than the peer's standard error."""
    return [name for name, arms in scores.items() if arm in arms and peer in arms
            and arms[arm].mean() < arms[peer].mean() - error_of(arms[peer])]


def rows_of_tables(scores: Scores, arms: list[str]) -> list[list[str]]:
    """Mean and standard error of each table under each arm."""
    found = []
    for name in [name for name in TABLES if name in scores]:
        shown = [f"{v.mean():.4f} +- {error_of(v):.4f}" if (v := scores[name].get(arm)) is not None
                 else "-" for arm in arms]
        found.append([name, "accuracy" if name in CLASSES else "R2", *shown])
    return found


def rows_of_arms(scores: Scores, arms: list[str]) -> list[list[str]]:
    """Of each arm: tables, mean rank beside scikit-learn, how often ahead, level and behind."""
    found = []
    for arm in arms:
        peer = " ".join(["sklearn", *(w for w in arm.split() if w.startswith(SHARED))])
        both = [v for v in scores.values() if arm in v and peer in v]
        slips = np.array([round(v[arm].mean() - v[peer].mean(), 9) for v in both])
        if arm == peer or not len(slips):
            continue
        rank = np.where(slips > 0, 1.0, np.where(slips < 0, 2.0, 1.5)).mean()
        classes, numbers = ([v[arm].mean() - v[peer].mean() for name, v in scores.items()
                             if name in names and arm in v and peer in v]
                            for names in (CLASSES, NUMBERS))
        counts = "/".join(str(int(n)) for n in ((slips > 0).sum(), (slips == 0).sum(),
                                                (slips < 0).sum()))
        means = [f"{np.mean(classes):+.4f}" if classes else "-",
                 f"{np.median(numbers):+.4f}" if numbers else "-"]
        found.append([f"`{arm}`", str(len(slips)), f"{rank:.2f}", counts, *means,
                      ", ".join(worse_on(scores, arm, peer)) or "none"])
    return found


def table(heads: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_page(path: Path, results: list[dict[str, Any]]) -> None:
    """The page, and beside it the means as CSV."""
    scores = scores_of(results)
    arms = list(dict.fromkeys([a for a in STUDY if any(a in v for v in scores.values())]
                              + [r["arm"] for r in results]))
    shown = [arm for arm in ("sklearn", "bn", "default") if arm in arms]
    meaning = table(["word", "what it sets"], [[f"`{w}`", text] for w, text in SETTINGS.items()])
    path.write_text(f"""# Default parameters on small tables

Written by `scripts/defaults.py`. Each table is split {max(r["split"] for r in results) + 1} times
into three quarters to train on and one to test on; columns are standardised. `sklearn` is
scikit-learn's MLP as it comes, `bn` nbbn's with batch norm and all else as scikit-learn has it,
`default` nbbn's as it comes. Scores are means over the splits with their standard errors: the
accuracy, or R2, of which less than {FLOOR:g} counts as {FLOOR:g}.

{table(["table", "score", *(f"`{arm}`" for arm in shown)], rows_of_tables(scores, shown))}

## What was tried

Every arm beside scikit-learn's MLP with the same layers and columns: mean rank of the two (1 is
always ahead, 2 never), on how many tables it is ahead, level and behind, the mean difference in
accuracy and the median one in R2, and the tables where its mean is below by more than one standard
error of scikit-learn's.

{table(["arm", "tables", "mean rank", "ahead/level/behind", "accuracy", "R2", "worse on"],
       rows_of_arms(scores, arms))}

An arm is a word and its settings:

{meaning}

Means and standard errors of all arms: `{path.stem}.csv`.
""")
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["data", "arm", "splits", "mean", "standard_error"])
        for name, of_arms in scores.items():
            for arm in [arm for arm in arms if arm in of_arms]:
                v = of_arms[arm]
                writer.writerow([name, arm, len(v), f"{v.mean():.4f}", f"{error_of(v):.4f}"])


def main() -> int:
    """Run what is missing; write the page."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--results", type=Path, required=True, help="JSON lines; what they hold is not run again")
    add("--arms", nargs="+", default=STUDY, help="each as one word: 'bn rate=0.01'")
    add("--data", nargs="+", default=list(TABLES), choices=list(TABLES), metavar="NAME",
        help=f"tables: {', '.join(TABLES)}")
    add("--splits", type=int, default=5)
    add("--jobs", type=int, default=1, help="processes")
    add("--page", type=Path, help="where to write the Markdown, and a CSV beside it")
    args = parser.parse_args()
    for arm in args.arms:
        Arm.of(arm)
    count = run_all(args.results, args.data, args.splits, args.arms, args.jobs)
    print(f"{count} runs")
    if args.page is not None:
        write_page(args.page, read_results(args.results))
        print(f"written: {args.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
