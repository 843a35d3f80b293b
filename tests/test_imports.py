"""The house flows down: a module imports from its own room and rooms above it, in no circle."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "nbbn"

# The rooms from the ground up: modules and packages of nbbn, the latter with all that is in them.
ROOMS = (
    ("version", "terminal", "markup", "errors", "names", "warning", "dtypes", "answers", "compiler", "drawing", "utils",
     "sparse_rows", "tensor", "names_of_keras", "backend"),
    ("number", "loss_formulas"),
    ("expressions", "activations", "nn", "initializers", "regularizers", "constraints",
     "schedules"),
    ("losses", "metrics", "optimizers", "operations"), ("layers", "network"),
    ("kernels", "quota", "runtime", "thread_choice"), ("program", "fallback"),
    ("group", "trainer", "predictor", "functional"), ("fold",), ("formats",),
    ("folded_model",),
    ("training_loop", "progress", "inputs", "callback", "norm_monitor", "callbacks"), ("partitions",),
    ("recalibration",), ("models",), ("estimators",), ("distributed", "dask"), ("loading", "interop"),
    ("tables",), ("datasets", "evidence", "commands", "saving"),
    ("cli", "__main__"),
)
# What a user meets first: they gather names from all rooms, and nobody imports them.
FACES = ("nbbn", "nbbn.models", "nbbn.saving")
# Imports that still go up, from a module to another.
PENDING: set[tuple[str, str]] = set()

# What computes, writes or folds networks: it knows operations, and no layer.
BACKENDS = (
    "program", "fallback", "trainer", "predictor", "formats.csource", "formats.onnx.write",
    "formats.onnx.write_operations", "formats.onnx.writer", "fold",
)
# Backends that still import layers.
PENDING_LAYERS: set[str] = set()


@cache
def modules() -> dict[str, Path]:
    """The package's files by the module's name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("nbbn", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of nbbn that a module imports, within functions and for annotations too."""
    path, found = modules()[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else base for name in names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A module that is looked up by its name when asked for: `module` or `module:function`.
            if re.fullmatch(r"nbbn(\.\w+)+(:\w+)?", node.value):
                found.add(node.value.partition(":")[0])
    return frozenset(found & modules().keys() - {module})


def room(module: str) -> int | None:
    """The number of a module's room; None for one that has none."""
    if module in FACES:
        return len(ROOMS)
    name = module.removeprefix("nbbn.")
    found = [
        i for i, names in enumerate(ROOMS) for own in names if f"{name}.".startswith(f"{own}.")
    ]
    return found[0] if found else None


def test_every_module_has_a_room():
    assert [module for module in modules() if room(module) is None] == []
    files = {module.split(".")[1] for module in modules() if module != "nbbn"}
    assert [name for names in ROOMS for name in names if name not in files] == []


def test_imports_go_down():
    edges = {(module, other) for module in modules() for other in imports(module)}
    assert {(a, b) for a, b in edges if room(b) > room(a)} == PENDING


def test_no_module_imports_a_face():
    faced = {(a, b) for a in modules() for b in imports(a) if b in FACES}
    assert {(a, b) for a, b in faced if a not in FACES} == PENDING & faced


def test_no_circle():
    graph = {a: {b for b in imports(a) if (a, b) not in PENDING} for a in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_no_backend_knows_layers():
    own = re.compile(rf"nbbn\.({'|'.join(map(re.escape, BACKENDS))})\b")
    backends = {module for module in modules() if own.match(module)}
    found = {a for a in backends for b in imports(a) if re.match(r"nbbn\.layers\b", b)}
    assert found == PENDING_LAYERS


def test_what_is_taken_for_an_import(tmp_path, monkeypatch):
    """Lazy imports, those for annotations, names of modules in tables; no word that looks alike."""
    (tmp_path / "sub").mkdir()
    sources = {
        "__init__.py": "",
        "a.py": "def f():\n    from nbbn import b\n",
        "b.py": "if TYPE_CHECKING:\n    from nbbn.sub.c import C\n",
        "d.py": "ROWS = {'x': 'nbbn.sub.c:read', 'y': 'nbbn.nothing', 'z': 'see nbbn.a'}\n",
        "sub/__init__.py": "from . import c\n",
        "sub/c.py": "import nbbn.d as d\nimport numpy\nfrom ..a import f\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("test_imports.PACKAGE", tmp_path)
    for function in (modules, imports):
        function.cache_clear()
    try:
        found = {module: set(imports(module)) for module in modules()}
    finally:
        for function in (modules, imports):
            function.cache_clear()
    assert found == {
        "nbbn": set(), "nbbn.a": {"nbbn.b"}, "nbbn.b": {"nbbn.sub.c"}, "nbbn.d": {"nbbn.sub.c"},
        "nbbn.sub": {"nbbn.sub.c"}, "nbbn.sub.c": {"nbbn.a", "nbbn.d"},
    }
