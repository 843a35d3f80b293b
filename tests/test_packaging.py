"""What a newcomer meets first.

The README's commands, the set-up script, the package's names and its import.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import re
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points, metadata
from pathlib import Path

import pytest

import nbbn

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "docs").glob("[gh]*/*.md"))]  # fmt: skip


def project():
    """The project table of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 is the first to read TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# -- README and metadata


def test_quick_start_is_one_block_of_two_commands():
    section = README.split("\n## Quick start\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```.*?\n(.*?)^```", section, flags=re.S | re.M)
    assert [block.splitlines() for block in blocks] == [
        ["python3 scripts/run.py demo", "python3 scripts/run.py test"]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_name_what_there_is(page):
    """The package's names in code, and the commands."""
    from nbbn.cli import COMMANDS

    text = page.read_text()
    modules = {"__all__", "dask", "distributed", "kernels", "program"}  # not imported by `import nbbn`
    assert set(re.findall(r"`nbbn\.(\w+)", text)) <= {*dir(nbbn), *modules}
    assert set(re.findall(r"`nbbn ([a-z]+)", text)) <= set(COMMANDS)


def test_every_command_is_told():
    from nbbn.cli import COMMANDS

    told = (ROOT / "docs" / "guide" / "command_line.md").read_text()
    assert set(re.findall(r"^\| `nbbn (\w+)", told, flags=re.M)) == set(COMMANDS)


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_extras_and_bounds():
    p = project()
    assert {"test", "bench", "plot", "onnx"} <= set(p["optional-dependencies"])
    assert p["requires-python"] == ">=3.10"
    assert p["scripts"] == {"nbbn": "nbbn.cli:main"}
    assert p["version"] == nbbn.__version__
    for requirement in p["dependencies"]:
        assert ">=" in requirement


def test_public_names():
    for name in nbbn.__all__:
        assert hasattr(nbbn, name), name


def test_everything_in_the_tree_is_ascii():
    files = [p for pattern in ("*.py", "*.md", "*.toml") for p in ROOT.rglob(pattern)]
    own = [
        p
        for p in files
        if not any(part.startswith(".") or part == "env" for part in p.relative_to(ROOT).parts)
    ]
    assert len(own) > 50
    assert [str(p) for p in own if not p.read_bytes().isascii()] == []


def test_installed_entry_point():
    try:
        metadata("nbbn")
    except ModuleNotFoundError:
        pytest.skip("nbbn runs from the source tree, not installed")
    (command,) = entry_points(group="console_scripts", name="nbbn")
    assert command.value == "nbbn.cli:main"


# -- import


def python(code, **env):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )


def test_import_compiles_nothing_and_loads_no_framework(tmp_path):
    code = (
        "import sys, nbbn, nbbn.cli\n"
        "from nbbn.cli import COMMANDS, build_parser\n"
        "for command in COMMANDS: build_parser(command)\n"
        "heavy = {'matplotlib', 'onnx', 'onnxruntime', 'h5py', 'torch', 'jax', 'tensorflow', 'keras'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == "[]\n", done.stderr
    assert list(tmp_path.rglob("*.nb?")) == []


# -- scripts


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda p: p.name)
def test_scripts_compile(script, tmp_path):
    py_compile.compile(str(script), cfile=str(tmp_path / "out.pyc"), doraise=True)


@pytest.mark.slow
def test_fold_bn_is_nbbn_fold(tmp_path, digits):
    X, y = digits
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nbbn.MLPClassifier((8,), max_iter=1, random_state=0).fit(X, y).save(
            tmp_path / "m.safetensors"
        )
    argv = [
        sys.executable, ROOT / "scripts" / "fold_bn.py", tmp_path / "m.safetensors",
        tmp_path / "f.safetensors",
    ]
    done = subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 batch norms folded" in done.stdout
    assert isinstance(nbbn.load(tmp_path / "f.safetensors"), nbbn.FoldedModel)


# -- scripts/run.py, on a copy of it in a folder of its own, offline


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like a clone to run.py, and its module, loaded from there."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "run.py", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    spec = importlib.util.spec_from_file_location("run_in_clone", tmp_path / "scripts" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert Path(module.ROOT) == tmp_path
    return tmp_path, module


@pytest.fixture
def installs(clone, monkeypatch):
    """The module with pip's calls recorded instead of made; everything else is real."""
    _, module = clone
    calls = []

    def install(command):
        calls.append(command)
        return 0

    monkeypatch.setattr(module, "install", install)
    return calls


def test_run_py_says_while_pip_works_that_it_does(clone, monkeypatch, capfd):
    folder, module = clone
    (folder / ".venv").mkdir()
    (folder / ".venv" / "held").write_bytes(bytes(3_000_000))
    monkeypatch.setattr(module, "WAIT", 0.2)
    code = "import sys, time; time.sleep(0.7); sys.exit(3)"
    assert module.install([sys.executable, "-c", code]) == 3
    lines = capfd.readouterr().err.splitlines()
    assert lines and set(lines) <= {f"run.py: at work for {s} s, .venv holds 3 MB" for s in (0, 1)}
    assert module.install([sys.executable, "-c", ""]) == 0


def test_run_py_refuses_an_old_python(clone, capsys, monkeypatch):
    _, module = clone
    monkeypatch.setattr(module.sys, "version_info", (3, 9, 1))
    assert module.main(["demo"]) == 2
    assert "needs Python 3.10" in capsys.readouterr().err


@pytest.mark.slow
def test_run_py_makes_an_environment_and_installs_once(clone, installs, capsys):
    folder, module = clone
    module.prepare(["plot"])
    assert (folder / ".venv" / "pyvenv.cfg").exists()
    assert installs[-1][-2:] == ["--editable", f"{folder}[plot]"]
    count = len(installs)
    module.prepare(["plot"])
    assert len(installs) == count
    module.prepare(["test"])
    assert installs[-1][-1] == f"{folder}[plot,test]"
    (folder / "pyproject.toml").write_text("[project]\n")
    count = len(installs)
    module.prepare(["test"])
    assert len(installs) > count


@pytest.mark.slow
def test_run_py_takes_the_next_way_where_one_fails(clone, monkeypatch):
    folder, module = clone
    venv = [sys.executable, "-m", "venv", module.VENV]
    ways = [("broken", [[sys.executable, "-c", "raise SystemExit('no')"]]), ("venv", [venv])]
    monkeypatch.setattr(module, "environment_makers", lambda: iter(ways))
    module.make_environment()
    assert module.works()
    monkeypatch.setattr(module, "environment_makers", lambda: iter(ways[:1]))
    with pytest.raises(module.SetupError, match=r"broken: no(.|\n)*apt install python3-venv"):
        module.make_environment()
    assert not (folder / ".venv").exists()


@pytest.mark.slow
def test_run_py_puts_the_systems_pip_into_an_environment_without_one(clone):
    """Debian's Python has no ensurepip: here its way out is taken although ensurepip is there."""
    _, module = clone
    ways = dict(module.environment_makers())
    bare, install = ways["venv and the system's pip"]
    assert module.attempt(bare) == ""
    assert not module.works()
    # Without a network pip cannot fetch itself; that the new Python can run the system's pip is
    # what matters.
    assert module.attempt([*install[:2], "--version"]) == ""


def test_run_py_leaves_a_foreign_folder_alone(clone, capsys):
    folder, module = clone
    (folder / ".venv").mkdir()
    (folder / ".venv" / "mine").write_text("")
    assert module.main(["test"]) == 1
    assert "is no virtual environment" in capsys.readouterr().err
    assert (folder / ".venv" / "mine").exists()


@pytest.mark.slow
def test_run_py_replaces_a_broken_environment(clone, installs):
    folder, module = clone
    (folder / ".venv").mkdir()
    (folder / ".venv" / "pyvenv.cfg").write_text("home = /nowhere\n")
    module.prepare([])
    assert module.works()


def test_run_py_passes_arguments_on(clone, monkeypatch):
    folder, module = clone
    ran = []
    monkeypatch.setattr(module, "prepare", lambda extras: ran.append(extras))
    monkeypatch.setattr(module, "run", lambda command: ran.append(command[1:]) or 7)
    monkeypatch.chdir(folder)
    assert module.main(["demo", "--epochs", "3"]) == 7
    assert module.main(["test", "-k", "x"]) == 7
    assert ran == [
        ["plot"], ["-m", "nbbn", "demo", "--epochs", "3"], ["test", "plot", "onnx"],
        ["-m", "pytest", "-n", "auto", "--dist", "worksteal", "-k", "x"],
    ]


def test_what_the_commands_leave_is_ignored():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git, or no clone")
    names = [
        ".venv/x", "docs/_build/x", "docs/gallery/x", "nbbn-demo/results.json", ".pytest_cache/x", "nbbn/__pycache__/x.pyc",
        "asv_bench/results/x",
    ]
    done = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == names


def test_ci_script_is_executable_and_well_formed():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    if shutil.which("bash"):
        assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


@pytest.mark.slow
def test_what_serves_a_folded_model_imports_no_scikit_learn(tmp_path):
    """Its import takes longer, and more memory, than all the rest."""
    model = nbbn.Sequential(
        [nbbn.layers.Dense(3, input_shape=(4,)), nbbn.layers.BatchNormalization()]
    )
    model.fold().save(tmp_path / "model.safetensors")
    code = textwrap.dedent(f"""
        import sys
        import numpy as np
        import nbbn
        assert not {{"numba", "sklearn", "scipy", "pandas"}} & set(sys.modules)
        nbbn.load({str(tmp_path / "model.safetensors")!r}).predict(np.zeros((2, 4), "f4"))
        assert not {{"sklearn", "pandas"}} & set(sys.modules)
        assert nbbn.MLPClassifier().fit and nbbn.models.SequentialRegressor and set(nbbn.__all__) <= set(dir(nbbn))
        try:
            nbbn.MLP
        except AttributeError as error:
            assert "module 'nbbn' has no attribute 'MLP'" in str(error)
    """)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
