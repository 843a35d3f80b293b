"""Write the reference's pages: one for each public module, one more for each large class."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

# In the order of the reference, with what each is for.
MODULES = {
    "nbbn": "Estimators, models, folding, files and threads",
    "nbbn.layers": "Layers",
    "nbbn.optimizers": "Optimisers",
    "nbbn.losses": "Losses",
    "nbbn.metrics": "Metrics",
    "nbbn.callbacks": "Callbacks",
    "nbbn.initializers": "Initial weights",
    "nbbn.regularizers": "Penalties on weights",
    "nbbn.constraints": "Bounds of weights",
    "nbbn.schedules": "Learning rates over steps",
    "nbbn.models": "Models",
    "nbbn.nn": "Activations as functions",
    "nbbn.saving": "Models in files, by Keras's names",
    "nbbn.backend": "What programs still call of `keras.backend`",
    "nbbn.datasets.mnist": "Data",
    "nbbn.datasets.fashion_mnist": "Clothes",
    "nbbn.datasets.cifar10": "Things in colour",
    "nbbn.utils": "Seeds and one-hot targets",
    "nbbn.warning": "Warnings",
    "nbbn.interop": "Other programs' files",
    "nbbn.interop.onnx_fold": "Folding of ONNX graphs",
    "nbbn.fold": "Folding, step by step",
    "nbbn.functional": "Kernels as functions",
    "nbbn.evidence": "Claims about batch norm, each tried",
    "nbbn.distributed": "Fits on several machines, by MPI",
    "nbbn.dask": "Dask's collections",
}
# Of each family the class that tells what all of its classes do.
FAMILIES = {
    "nbbn.callbacks": "Callback", "nbbn.constraints": "Constraint",
    "nbbn.initializers": "Initializer", "nbbn.layers": "Layer",
    "nbbn.losses": "Loss", "nbbn.metrics": "Metric", "nbbn.optimizers": "Optimizer",
    "nbbn.regularizers": "Regularizer", "nbbn.schedules": "Schedule",
}  # fmt: skip
# What these have for the rest of the package.
HOUSE = {
    "chosen", "fit_in_group", "for_inference", "from_content", "header", "headers", "in_order",
    "joined", "metric_directions", "of_sources", "read", "reader", "recalibrate_in_group",
    "restore", "sizes", "split", "train_in_group", "training_state", "with_headers",
}  # fmt: skip
# These have a page of their own, so that theirs is not an endless one.
LARGE = {
    "MLPClassifier", "MLPRegressor", "SequentialClassifier", "SequentialRegressor", "Sequential",
    "Model",
    "FoldedModel", "Partitions", "Network",
}  # fmt: skip


@dataclass(frozen=True)
class Public:
    """A public object by the name under which users find it."""

    module: str
    name: str
    value: object

    @property
    def kind(self) -> str:
        """What autodoc calls it."""
        if inspect.isclass(self.value):
            return "exception" if issubclass(self.value, BaseException) else "class"
        return "function" if callable(self.value) else "data"


def public_names(module: ModuleType) -> list[str]:
    """`__all__`, or where there is none what the module defines itself."""
    declared = getattr(module, "__all__", None)
    if declared is not None:
        return [name for name in declared if not name.startswith("_")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def public_objects() -> list[Public]:
    """Every public function, class and value, once: where it is met first.

    Classes that have a second name in the same module (`l2`, `L2`) are told under the first.
    """
    found: list[Public] = []
    seen: set[int] = set()
    for path in MODULES:
        if importlib.util.find_spec(path) is None:
            continue
        module = importlib.import_module(path)
        for name in public_names(module):
            value = getattr(module, name)
            if inspect.ismodule(value) or (callable(value) and id(value) in seen):
                continue
            seen.add(id(value))
            found.append(Public(path, name, value))
    return found


def _members(item: Public) -> list[str]:
    """What autodoc is told of a class: all of it, with what scikit-learn and Keras users call."""
    if item.kind != "class" or (item.module in FAMILIES and item.name not in FAMILIES.values()):
        return []
    inherited = item.name in LARGE - {"Network"}
    hidden = f"   :exclude-members: {', '.join(sorted(HOUSE))}"
    return ["   :members:", *(["   :inherited-members:", hidden] if inherited else [])]


def _entry(item: Public) -> str:
    if item.kind == "data":
        return f".. py:data:: {item.name}\n   :value: {item.value!r}\n"
    return "\n".join([f".. auto{item.kind}:: {item.name}", *_members(item), ""])


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n"


def _module_page(path: str, what: str, items: list[Public]) -> str:
    module = importlib.import_module(path)
    own = [item for item in items if item.name not in LARGE]
    large = [item for item in items if item.name in LARGE]
    lines = [_title(path), f"*{what}.*", ""]
    if path != "nbbn":
        lines += [(inspect.getdoc(module) or "").split("\n\n")[0], ""]
    lines += [f".. currentmodule:: {path}", "", ".. autosummary::", "   :nosignatures:", ""]
    lines += [f"   {item.name}" for item in items if item.kind != "data"]
    if large:
        lines += ["", ".. toctree::", "   :hidden:", ""]
        lines += [f"   {path}.{item.name}" for item in large]
    lines += ["", *(_entry(item) for item in own)]
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write the pages into `modules` below this folder, and remove those of before."""
    modules = folder / "modules"
    items = public_objects()
    pages = {}
    for path, what in MODULES.items():
        own = [item for item in items if item.module == path]
        if not own:
            continue
        pages[path] = _module_page(path, what, own)
        for item in own:
            if item.name in LARGE:
                head = _title(item.name) + f"\n.. currentmodule:: {path}\n\n"
                pages[f"{path}.{item.name}"] = head + _entry(item)
    rows = [f"| {{doc}}`{path} <modules/{path}>` | {what} |" for path, what in MODULES.items()
            if path in pages]  # fmt: skip
    toc = [f"modules/{path}" for path in MODULES if path in pages]
    pages_of = {f"{name}.rst": text for name, text in pages.items()}
    if modules.is_dir():
        for stale in modules.iterdir():
            if stale.name not in pages_of:
                stale.unlink()
    modules.mkdir(parents=True, exist_ok=True)
    for name, text in pages_of.items():
        _write_if_new(modules / name, text)
    table = "\n".join(["| module | what is in it |", "|---|---|", *rows, "", "```{toctree}",
                       ":hidden:", "", *toc, "```", ""])  # fmt: skip
    _write_if_new(folder / "modules.txt", table)


def _write_if_new(path: Path, text: str) -> None:
    """Sphinx builds again what has another time."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
