"""The docstrings say what there is.

Every parameter with its default, every fitted attribute, every argument of a method.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import pydoc
import re

import numpy as np
import pytest
from estimator_helpers import kinds, three_classes

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def sections(text: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Name, type and text of each entry of each section of a numpydoc docstring."""
    lines = inspect.cleandoc(text).split("\n")
    heads = [
        i
        for i in range(len(lines) - 1)
        if re.fullmatch("-{3,}", lines[i + 1]) and len(lines[i]) == len(lines[i + 1])
    ]
    found = {}
    for head, end in zip(heads, [*heads[1:], len(lines)]):
        entries, names = {}, []
        for line in lines[head + 2 : end]:
            if entry := re.fullmatch(r"(\w[\w, ]*) : (.+)", line):
                names = entry[1].split(", ")
                entries |= dict.fromkeys(names, (entry[2], ""))
            elif line.startswith("    "):
                entries |= {
                    name: (entries[name][0], f"{entries[name][1]} {line.strip()}".strip())
                    for name in names
                }
        found[lines[head]] = entries
    return found


def fitted(kind: str) -> dict[str, object]:
    """Every public attribute that a fit can leave behind, of several fits together."""
    pandas = pytest.importorskip("pandas")
    X, y = three_classes(90, 8, 6)
    X = pandas.DataFrame(X, columns=list("abcdefgh"))
    found = {}
    for params in (
        {}, {"early_stopping": True}, {"solver": "lbfgs"}, {"batch_norm": False}, {"solver": "sgd"},
    ):
        found |= vars(
            getattr(nbbn, kind)(hidden_layer_sizes=(5,), max_iter=2, **params).fit(
                X, y, X_val=X, y_val=y
            )
        )
    return {
        name: value
        for name, value in found.items()
        if name.endswith("_") and not name.startswith("_")
    }


@kinds
def test_parameters(kind):
    cls = getattr(nbbn, kind)
    documented = sections(cls.__doc__)["Parameters"]
    signature = inspect.signature(cls).parameters
    assert list(documented) == list(signature)
    for name, (type_, text) in documented.items():
        default = re.search(r"default=(.+)$", type_)[1]
        assert ast.literal_eval(default) == signature[name].default, name
        assert len(text) > 15 and text.endswith("."), name


@kinds
def test_attributes(kind):
    documented = sections(getattr(nbbn, kind).__doc__)["Attributes"]
    assert set(documented) == set(fitted(kind))
    assert all(text.endswith(".") for _, text in documented.values())


@kinds
def test_choices_are_named(kind):
    """Each string that a parameter takes stands in its description."""
    cls = getattr(nbbn, kind)
    documented = sections(cls.__doc__)["Parameters"]
    for name, rules in cls._parameter_constraints.items():
        for choice in (
            option
            for rule in rules
            for option in getattr(rule, "options", ())
            if isinstance(option, str)
        ):
            assert repr(choice) in " ".join(documented[name]), (name, choice)


@kinds
def test_methods(kind):
    cls = getattr(nbbn, kind)
    methods = [
        "fit", "partial_fit", "predict", "score", "transform", "recalibrate", "fold", "save",
        "get_feature_names_out",
    ]
    methods += ["predict_proba", "predict_log_proba"] if kind == "MLPClassifier" else []
    for name in methods:
        method = getattr(cls, name)
        arguments = [a for a in inspect.signature(method).parameters if a != "self"]
        assert list(sections(method.__doc__)["Parameters"]) == arguments, name
        assert inspect.cleandoc(method.__doc__).split("\n")[0].endswith("."), name


@kinds
def test_help_can_be_read(kind):
    """No line of the class's own text is wider than a screen of 130 columns."""
    text = pydoc.plain(pydoc.render_doc(getattr(nbbn, kind)))
    own = text[text.index("Multi-layer perceptron") : text.index("Method resolution order")]
    assert max(map(len, own.split("\n"))) <= 130
    assert "{" not in re.sub(r"\{[^{}]*'[^{}]*'\}|\{array-like[^{}]*\}", "", own), (
        "a template was not filled in"
    )


@kinds
def test_examples(kind):
    examples = doctest.DocTestFinder(recurse=False).find(getattr(nbbn, kind), kind)
    assert sum(len(test.examples) for test in examples) >= 4
    for test in examples:
        assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


def test_documented_formulas():
    """`loss_curve_` holds the penalty, `validation_loss_curve_` does not.

    `t_` counts rows, `n_iter_` epochs.
    """
    X, y = three_classes(90, 8, 6)
    params = {
        "batch_norm": False, "max_iter": 1, "batch_size": 90, "learning_rate_init": 1e-200,
        "random_state": 0,
    }
    model = nbbn.MLPClassifier((5,), alpha=3.0, **params).fit(X, y, X_val=X, y_val=y)
    penalty = 3.0 * sum(np.square(kernel).sum() for kernel in model.coefs_) / 2 / 90
    assert model.loss_curve_[0] == pytest.approx(model.validation_loss_curve_[0] + penalty)
    assert (model.t_, model.n_iter_) == (90, 1)
