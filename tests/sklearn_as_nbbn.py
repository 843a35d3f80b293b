"""A pytest plugin: scikit-learn's tests of its MLPs, on ours.

`pytest -p sklearn_as_nbbn --pyargs sklearn.neural_network.tests.test_mlp` with this folder on the
path. Before the tests are imported, `sklearn.neural_network` gets our two estimators, without batch
norm unless it is asked for.
"""

from __future__ import annotations

import inspect

import pytest
import sklearn.neural_network

import nbbn

# Items that reach into scikit-learn's private state, and what they use of it.
EXCEPTED = {
    "test_gradient": "calls `_loss_grad_lbfgs` with scikit-learn's own work arrays",
}


# scikit-learn's, where ours follow from whether there is batch norm.
DEFAULTS = {"batch_norm": False, "learning_rate_init": 0.001, "alpha": 0.0001}


def without_batch_norm(cls: type) -> type:
    """The class with `batch_norm=False` as the default."""
    signature = inspect.signature(cls.__init__)
    changed = signature.replace(
        parameters=[
            p.replace(default=DEFAULTS.get(p.name, p.default))
            for p in signature.parameters.values()
        ]
    )

    def __init__(self, *args, **kwargs):
        bound = changed.bind(self, *args, **kwargs)
        bound.apply_defaults()
        cls.__init__(*bound.args, **bound.kwargs)

    __init__.__signature__ = changed
    return type(cls.__name__, (cls,), {"__init__": __init__, "__module__": __name__})


def pytest_configure(config):
    """Before any test is imported: the tests take the names from the package.

    Only where this file is a plugin.
    """
    for cls in (nbbn.MLPClassifier, nbbn.MLPRegressor):
        changed = without_batch_norm(cls)
        setattr(sklearn.neural_network, cls.__name__, changed)
        globals()[cls.__name__] = changed  # where pickle looks for it


def pytest_collection_modifyitems(items):
    """Skip what is excepted, with the reason."""
    for item in items:
        if reason := EXCEPTED.get(item.originalname):
            item.add_marker(pytest.mark.skip(reason=reason))
