#!/usr/bin/env python3
"""Set up this clone in .venv, once, and run a command in it: `python3 scripts/run.py demo`.

    demo, predict, fold, ...   any command of nbbn, with its arguments
    test                       the tests (pytest), with pytest's arguments
    lint                       ruff's check of the sources
    types                      mypy's check of the package
    docs                       the site, with sphinx-build's arguments
    asv                        the benchmarks, with asv's arguments

Needs Python 3.10 or newer and nothing else: the standard library only, written so that an older
Python can still read it and say so. The system's Python stays as it is; everything is installed
into the folder .venv of this clone.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time

# Seconds between two lines while pip works.
WAIT = 5

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
STAMP = os.path.join(VENV, "nbbn-run.json")

# Command: extras of pyproject.toml that it needs, Python's arguments. Any other command is one of
# nbbn's own.
TOOLS = {
    "test": (["test", "plot", "onnx"], ["-m", "pytest", "-n", "auto", "--dist", "worksteal"]),
    "lint": (["test"], ["-m", "ruff", "check"]),
    "types": (["test", "plot", "onnx"], ["-m", "mypy"]),
    "docs": (["docs"], ["-m", "sphinx", "-W", "--keep-going", "-j2", "docs", "docs/_build/html"]),
    "asv": (["bench"], ["-m", "asv"]),
}
NBBN = (["plot"], ["-m", "nbbn"])


class SetupError(Exception):
    """No environment could be made."""


def environment() -> "dict[str, str]":
    """The caller's variables without those that send pip's work or Python's modules elsewhere."""
    elsewhere = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {k: v for k, v in os.environ.items() if k not in elsewhere}
    return dict(kept, PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")


def attempt(command: "list[str]") -> str:
    """Run quietly; "" if it worked, else the last line of what it said."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        )  # fmt: skip
    except OSError as error:
        return str(error)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode == 0:
        return ""
    return (lines or ["exit status %d" % done.returncode])[-1].strip()


def environment_makers() -> "Iterator[tuple[str, list[list[str]]]]":
    """Ways to make .venv with pip in it, best first: a name, and the commands to run in turn."""
    me = sys.executable
    yield "venv", [[me, "-m", "venv", VENV]]
    pip = importlib.util.find_spec("pip")
    if pip and pip.origin:
        # Debian and Ubuntu take ensurepip out of Python: the system's pip, run by the new
        # environment's Python (what `pip --python` does; this works with a pip older than that
        # option), puts one into it.
        pip_folder = os.path.dirname(pip.origin)
        install = [PYTHON, pip_folder, "install", "--quiet", "--ignore-installed", "pip"]
        yield "venv and the system's pip", [[me, "-m", "venv", "--without-pip", VENV], install]
    yield "virtualenv", [[me, "-m", "virtualenv", "--quiet", VENV]]
    yield "uv", [["uv", "venv", "--quiet", "--seed", "--python", me, VENV]]


def works() -> bool:
    """Whether .venv holds a Python that is new enough, with pip."""
    code = "import sys, pip; sys.exit(sys.version_info < (3, 10))"
    return os.path.exists(PYTHON) and not attempt([PYTHON, "-c", code])


def make_environment() -> None:
    """Make .venv by the first way that works."""
    failures = []
    for name, commands in environment_makers():
        shutil.rmtree(VENV, ignore_errors=True)
        why = next(filter(None, map(attempt, commands)), "")
        if not why and works():
            return
        failures.append("  %s: %s" % (name, why or "it has no pip"))
    shutil.rmtree(VENV, ignore_errors=True)
    raise SetupError(
        "no virtual environment could be made in %s:\n%s\n" % (VENV, "\n".join(failures))
        + "Install one of them (on Debian and Ubuntu: apt install python3-venv) and run this again."
    )


def read_stamp() -> dict:
    try:
        with open(STAMP) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def prepare(extras: "list[str]") -> None:
    """Make .venv and install nbbn with these extras into it.

    Nothing is done where that was done for this very pyproject.toml.
    """
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        project = hashlib.sha256(file.read()).hexdigest()
    stamp = read_stamp()
    installed = set(stamp.get("extras", []))
    usable = works()
    if usable and stamp.get("project") == project and installed.issuperset(extras):
        return
    if not usable:
        made = os.path.exists(os.path.join(VENV, "pyvenv.cfg"))
        if os.path.exists(VENV) and not made and os.listdir(VENV):
            raise SetupError(
                "%s exists and is no virtual environment: move it away and run this again" % VENV
            )
        say("making a virtual environment in %s" % VENV)
        make_environment()
        installed = set()
    wanted = sorted(installed.union(extras))
    say("installing nbbn and what it needs into it (once; a minute or two)")
    target = "%s[%s]" % (ROOT, ",".join(wanted))
    pip = [PYTHON, "-m", "pip", "install", "--quiet"]
    # 21.3 is the first pip that installs such a project in place.
    for arguments in (["pip>=21.3"], ["--editable", target]):
        if install(pip + arguments):
            raise SetupError(
                "pip could not install nbbn: its message stands above; "
                "what is missing is tried again next time"
            )
    with open(STAMP, "w") as file:
        json.dump({"project": project, "extras": wanted}, file)


def install(command: "list[str]") -> int:
    """pip's exit status; meanwhile a line every few seconds, for pip itself is silent."""
    began, pip = time.monotonic(), subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL)
    while True:
        try:
            return pip.wait(WAIT)
        except subprocess.TimeoutExpired:
            sizes = (os.lstat(os.path.join(folder, name)).st_size
                     for folder, _, names in os.walk(VENV) for name in names)
            try:
                held = sum(sizes) // 10**6
            except OSError:  # pip has just moved one
                continue
            say("at work for %d s, .venv holds %d MB" % (time.monotonic() - began, held))


def say(text: str) -> None:
    print("run.py: " + text, file=sys.stderr, flush=True)


def run(command: "list[str]") -> int:
    """Become the command; on Windows, which cannot, wait for it."""
    if os.name == "nt":
        return subprocess.run(command).returncode
    os.execv(command[0], command)


def main(arguments: "list[str]") -> int:
    if sys.version_info < (3, 10):
        say(
            "nbbn needs Python 3.10 or newer, this is %s (%s)"
            % (sys.version.split()[0], sys.executable)
        )
        return 2
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    name = arguments[0]
    extras, python_arguments = TOOLS.get(name, NBBN)
    try:
        prepare(extras)
    except (SetupError, OSError) as error:
        say(str(error))
        return 1
    if name not in TOOLS:
        # What nbbn calls itself in its messages.
        os.environ["NBBN_COMMAND"] = "python3 scripts/run.py"
        return run([PYTHON] + python_arguments + arguments)
    os.chdir(ROOT)
    return run([PYTHON] + python_arguments + arguments[1:])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
