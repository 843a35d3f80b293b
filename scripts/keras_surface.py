#!/usr/bin/env python
"""Write the docs' page on Keras's names, and on programs after what its tutorials do.

    python scripts/keras_surface.py [--check]

Each of Keras 3's public names in `layers`, `losses`, `metrics`, `optimizers`, `callbacks`,
`schedules`, `constraints` and `models` works, or the page says what to use instead. The programs of
`tests/keras_programs` are run; where Keras is installed, on it too, and the numbers compared. Where
it is not, the page keeps what was found with it. `--check` writes nothing, and fails where the page
is another.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import nbbn  # noqa: E402
from nbbn import names_of_keras  # noqa: E402

PAGE = ROOT / "docs" / "howto" / "keras_names.md"
NOTHING = "no counterpart"
# How far apart the numbers of a program may be.
RELATIVE, ABSOLUTE = 2e-3, 2e-4
SAME, RUNS = "runs, with Keras's numbers", "runs"


def standing(module: str, name: str) -> tuple[bool, str]:
    """Whether a name works, and what the page says of it."""
    here = getattr(nbbn, module)
    if hasattr(here, name):
        return True, names_of_keras.ALIASES.get(module, {}).get(name, "")
    return False, names_of_keras.INSTEAD.get(module, {}).get(name, NOTHING)


def names_of(module: str) -> list[str]:
    """The module's names: Keras's own where it is installed, else those of the list."""
    known = names_of_keras.KERAS[module].split()
    if find_spec("keras") is None:
        return known
    import keras

    theirs = keras.optimizers.schedules if module == "schedules" else getattr(keras, module)
    own = [name for name in dir(theirs)
           if not name.startswith("_") and callable(getattr(theirs, name))]
    if unknown := sorted(set(own) - set(known)):
        print(f"{module}: Keras {keras.__version__} has {', '.join(unknown)}, which "
              "nbbn/names_of_keras.py lacks", file=sys.stderr)
    return sorted({*own, *known})


def names_section(module: str) -> list[str]:
    """The part of the page about a module."""
    found = {name: standing(module, name) for name in names_of(module)}
    works = [name for name, (here, _) in found.items() if here]
    rest: dict[str, list[str]] = {}
    for name, (here, text) in found.items():
        if not here:
            rest.setdefault(text, []).append(name)
    lines = [f"## {module}", "", f"{len(works)} of {len(found)} work: "
             + ", ".join(f"`{name}`" for name in works) + ".", ""]
    if rest:
        lines += ["| not here | instead |", "|---|---|"]
        lines += [f"| {', '.join(f'`{name}`' for name in names)} | {text} |"
                  for text, names in sorted(rest.items(), key=lambda pair: pair[1][0].lower())]
        lines.append("")
    return lines


def flat(found: Any) -> np.ndarray:
    """All numbers of what a program gives."""
    if isinstance(found, list | tuple):
        return np.concatenate([flat(part) for part in found]) if len(found) else np.zeros(0)
    return np.ravel(np.asarray(found, float))


def outcome(name: str, before: dict[str, str]) -> str:
    """What the page says of a program."""
    from keras_programs import PROGRAMS

    one = PROGRAMS[name]
    try:
        ours = flat(one.run(nbbn))
    except Exception as error:
        return f"stops: {error}".replace("\n", " ").replace("|", "\\|")
    if not one.same:
        return RUNS
    if find_spec("keras") is None:
        return before.get(one.title, RUNS)
    import keras

    theirs = flat(one.run(keras))
    alike = ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=RELATIVE, atol=ABSOLUTE)
    return SAME if alike else f"{RUNS}, with other numbers"


def programs_section(before: dict[str, str]) -> list[str]:
    """The part of the page about programs."""
    from keras_programs import PROGRAMS

    lines = ["## Programs", "", f"{len(PROGRAMS)} short programs after what tutorials do "
             "(`tests/keras_programs`), run on both libraries; the numbers are losses, figures and "
             "outputs, from the same weights and unshuffled rows. Where random numbers or the "
             "libraries' own reading ahead decide, they are not compared.", "",
             "| program | |", "|---|---|"]
    return [*lines, *(f"| {one.title} | {outcome(name, before)} |"
                      for name, one in PROGRAMS.items()), ""]


def known_outcomes() -> dict[str, str]:
    """What the page has said of programs so far."""
    if not PAGE.exists():
        return {}
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines()
            if line.startswith("| ")]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def page() -> str:
    """All of it."""
    lines = ["# Keras's names", "",
             "Written by `scripts/keras_surface.py`. A name that is not here says the same when it "
             "is asked for: `nbbn.layers.LSTM`.", ""]
    for module in names_of_keras.KERAS:
        lines += names_section(module)
    return "\n".join(lines + programs_section(known_outcomes()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = page()
    if check:
        return int(text != PAGE.read_text())
    PAGE.write_text(text)
    print(PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
