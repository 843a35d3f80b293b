"""What a reader meets first: `help`, signatures, completion, and answers to a wrong argument."""

import importlib
import inspect
import pydoc
import re
import subprocess
import sys
import types
from typing import Annotated

import pytest

import nbbn
from nbbn import (
    callbacks,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)

MODULES = [name for name in nbbn.__all__ if isinstance(getattr(nbbn, name), types.ModuleType)]
FURTHER = ["datasets.mnist", "estimators", "fold", "partitions", "distributed", "dask"]
PUBLIC = ["nbbn", *(f"nbbn.{name}" for name in (*MODULES, *FURTHER))]
# What nobody wants to read in a signature.
NOISE = re.compile(r"Annotated|Rule\(|InitVar| at 0x|Union\[|_dtype_like|_array_like|<factory>")


def _objects():
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            found = getattr(importlib.import_module(module), name)
            if inspect.isclass(found) or inspect.isfunction(found):
                yield pytest.param(found, id=f"{module}.{name}")


OBJECTS = list(_objects())


@pytest.mark.parametrize("module", PUBLIC)
def test_completion_shows_public_names_only(module):
    found = importlib.import_module(module)
    assert sorted(dir(found)) == sorted(found.__all__)
    assert all(hasattr(found, name) for name in found.__all__)
    assert all(not name.startswith("_") or name == "__version__" for name in found.__all__)


def test_completion_knows_the_readers_of_other_files():
    assert "interop" in dir(nbbn) and "open_model" in dir(nbbn.interop)
    assert not {"program", "trainer", "network", "runtime", "TYPE_CHECKING"} & set(dir(nbbn))


@pytest.mark.parametrize("found", OBJECTS)
def test_help_is_readable(found):
    text = pydoc.render_doc(found, renderer=pydoc.plaintext)
    # scikit-learn writes these itself, from Python 3.13 on over several lines.
    lines = [line for line in text.splitlines()
             if "_request(" not in line and "'$UNCHANGED$'" not in line]
    assert [line for line in lines if NOISE.search(line)] == []


@pytest.mark.parametrize("found", OBJECTS)
def test_signatures_are_readable(found):
    try:
        text = str(inspect.signature(found))
    except ValueError:  # errors, whose class is written in C
        assert issubclass(found, Exception)
        return
    assert not NOISE.search(text)


@pytest.mark.parametrize(("found", "wanted"), [
    (layers.Dense, "(units: int, activation: str | None = None, use_bias: bool = True, "),
    (layers.Dense, "input_dim: int | None = None)"),
    (layers.MaxPooling2D, "(pool_size: int | tuple[int, int] = (2, 2), "),
    (layers.BatchNormalization, "(axis: int = -1, momentum: float | None = 0.99, "
                                "epsilon: float = 0.001, center: bool = True, "),
    (optimizers.Adam, "beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07, "),
    (losses.Huber, "(delta: float = 1.0, *, reduction: str = 'sum_over_batch_size', "),
    (schedules.OneCycle, "(max_learning_rate: float, total_steps: float, "),
    (callbacks.EarlyStopping, "(monitor: str = 'val_loss', min_delta: float = 0, "),
])
def test_some_signatures(found, wanted):
    assert wanted in str(inspect.signature(found))


def test_rules_of_annotations_hold_in_subclasses():
    from dataclasses import dataclass

    from nbbn.layers.arguments import Count, Rule

    @dataclass(frozen=True, repr=False)
    class Own(layers.Layer):
        units: Count = 3
        free: list | None = None
        noted: Annotated[int, "a note of another library's"] = 1

    assert Own.__annotations__["units"] is int
    assert Own.__annotations__["noted"] == Annotated[int, "a note of another library's"]
    assert isinstance(Own._rules["units"], Rule) and "free" not in Own._rules
    assert Own(units=4, name="x").units == 4
    with pytest.raises(layers.LayerError, match="Own: units must be a whole number of at least 1"):
        Own(units=0)
    with pytest.raises(layers.LayerError, match="Own: trainable must be True or False, got 1"):
        Own(trainable=1)


@pytest.mark.parametrize(("make", "given", "meant"), [
    (layers.Dense, "unit", "units"),
    (layers.Dense, "bias", "use_bias"),
    (layers.Conv2D, "kernel", "kernel_size"),
    (layers.Conv2D, "out_channels", "filters"),
    (layers.Dropout, "p", "rate"),
    (layers.BatchNormalization, "eps", "epsilon"),
    (layers.BatchNormalization, "alpha", "momentum"),
    (optimizers.Adam, "lr", "learning_rate"),
    (optimizers.AdamW, "lr", "learning_rate"),
    (optimizers.SGD, "decay", "weight_decay"),
    (losses.Huber, "beta", "delta"),
    (losses.MeanSquaredError, "reductoin", "reduction"),
    (metrics.BinaryAccuracy, "treshold", "threshold"),
    (schedules.OneCycle, "max_lr", "max_learning_rate"),
    (schedules.ExponentialDecay, "gamma", "decay_rate"),
    (callbacks.EarlyStopping, "wait", "patience"),
    (callbacks.ModelCheckpoint, "path", "filepath"),
    (initializers.HeNormal, "sead", "seed"),
    (regularizers.L2, "l", "l2"),
])
def test_an_unknown_argument_is_answered_with_what_is_meant(make, given, meant):
    text = (rf"^{make.__name__}\(\) got an unexpected keyword argument '{given}'; "
            rf"did you mean '{meant}'\?$")
    with pytest.raises(TypeError, match=text):
        make(**{given: 1})


def test_an_argument_like_no_other_is_answered_with_all():
    with pytest.raises(TypeError, match=r"argument 'zzz'; it takes l2$"):
        regularizers.L2(zzz=1)


def test_a_name_that_lacks_a_word_finds_the_name_with_it():
    with pytest.raises(ValueError, match="did you mean 'sparse_categorical_crossentropy'"):
        losses.get("sparse_crossentropy")
    with pytest.raises(ValueError, match="did you mean 'mean_squared_error'"):
        losses.get("mean_squared")
    with pytest.raises(ValueError, match="did you mean 'categorical_crossentropy'"):
        losses.get("categorical_crossentropie")


def run(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True,
                          text=True, timeout=120)


def test_every_module_is_imported_without_a_side_effect(tmp_path):
    """Also `nbbn.__main__`: nothing is printed, run, written, and no thread started."""
    code = f"""
import importlib, os, pkgutil, sys, threading
os.chdir({str(tmp_path)!r})
sys.argv = ["nbbn", "no such command"]
import nbbn
names = [m.name for m in pkgutil.walk_packages(nbbn.__path__, "nbbn.", onerror=sys.exit)]
for name in names:
    importlib.import_module(name)
assert "nbbn.__main__" in names and len(names) > 150, names
assert threading.active_count() == 1 and os.listdir() == []
"""
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_package_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "nbbn", "--version"], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0 and nbbn.__version__ in done.stdout
