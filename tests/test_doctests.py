"""Every public name has a docstring with an example, and the examples are true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import nbbn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

from api_pages import Public, public_objects  # noqa: E402

# What an example needs beside nbbn and what it depends on.
NEEDS = {
    "nbbn.interop.to_onnx": "onnx", "nbbn.interop.from_onnx": "onnx",
    "nbbn.interop.onnx_fold.fold_onnx": "onnx", "nbbn.interop.onnx_fold.fold_onnx_file": "onnx",
    "nbbn.dask.fit": "dask", "nbbn.dask.predict": "dask",
    "nbbn.dask.predict_proba": "dask", "nbbn.dask.transform": "dask",
}  # fmt: skip
OBJECTS = [item for item in public_objects() if item.kind != "data"]


def of_module(module: str) -> list[Public]:
    return [item for item in OBJECTS if item.module == module]


def examples_of(item: Public) -> list[doctest.DocTest]:
    """The examples of an object and of the methods that it defines or inherits from nbbn."""
    finder = doctest.DocTestFinder(recurse=False)
    found = finder.find(item.value, f"{item.module}.{item.name}", globs={})
    if inspect.isclass(item.value):
        for name, member in inspect.getmembers(item.value, callable):
            if not name.startswith("_") and getattr(member, "__module__", "").startswith("nbbn"):
                found += finder.find(member, f"{item.module}.{item.name}.{name}", globs={})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: f"{item.module}.{item.name}")
def test_has_an_example(item):
    text = inspect.getdoc(item.value) or ""
    own = getattr(item.value, "__doc__", None)
    assert own, f"{item.module}.{item.name} has no docstring"
    assert "\nExamples\n--------\n" in text, f"{item.module}.{item.name} shows no example"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("module", sorted({item.module for item in OBJECTS}))
def test_examples_are_true(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    failed = []
    for item in of_module(module):
        needed = NEEDS.get(f"{item.module}.{item.name}")
        if needed and importlib.util.find_spec(needed) is None:
            continue
        threads = nbbn.get_num_threads()
        for test in examples_of(item):
            runner = doctest.DocTestRunner(verbose=False)
            if runner.run(test).failed:
                failed.append(test.name)
        nbbn.set_num_threads(threads)
    assert failed == [], capsys.readouterr().out


def test_pages_of_the_reference_name_every_public_object(tmp_path):
    import api_pages

    api_pages.write(tmp_path)
    text = "".join(path.read_text() for path in (tmp_path / "modules").iterdir())
    assert [item.name for item in OBJECTS if f":: {item.name}\n" not in text] == []
    listed = (tmp_path / "modules.txt").read_text()
    modules = {item.module for item in OBJECTS}
    assert [path for path in modules if f"<modules/{path}>" not in listed] == []


def test_public_modules_are_in_the_reference():
    """Each module that `nbbn.__all__` names, or that a public package holds with an `__all__`."""
    import api_pages

    named = {
        f"nbbn.{name}" for name in nbbn.__all__ if inspect.ismodule(getattr(nbbn, name))
    } - {"nbbn.datasets"}
    assert named <= set(api_pages.MODULES)


# -- the programs of the pages

DIGITS = """
import numpy as np, nbbn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
clf = nbbn.MLPClassifier((16,), max_iter=3, random_state=0).fit(X_train, y_train)
folded = clf.fold()
"""
# Page: what its blocks may count on; None: nothing.
PROGRAMS = {
    "README.md": None,
    "docs/guide/getting_started.md": None,
    "docs/guide/estimators.md": None,
    "docs/guide/train_inference.md": DIGITS + "model, x_train = clf, X_train",
    "docs/guide/folding.md": DIGITS + "nbbn.interop.to_onnx(clf, 'model.onnx', fold=False)",
    "docs/guide/files.md": DIGITS,
    "docs/guide/functional.md": DIGITS + "x, gamma, beta, dy = X, np.ones(64), np.zeros(64), X",
    "docs/howto/pipelines.md": DIGITS + "\n".join((
        "import sklearn; from sklearn.pipeline import Pipeline",
        "numbers, categories, X_val, y_val = [0, 1], [2], X_test, y_test",
    )),
    "docs/howto/c.md": DIGITS,
    "docs/guide/models.md": None,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("page", PROGRAMS)
def test_programs_of_pages_run(page, tmp_path, monkeypatch, capsys):
    import sklearn

    monkeypatch.chdir(tmp_path)
    if "onnx" in page or "folding" in page:
        pytest.importorskip("onnx")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    assert blocks
    names: dict[str, object] = {}
    with sklearn.config_context():
        exec(PROGRAMS[page] or "", names)
        for block in blocks:
            exec(block, names)
