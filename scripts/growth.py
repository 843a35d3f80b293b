#!/usr/bin/env python
"""Measure how time and memory grow, and draw it: a page with plots.

    growth.py [--output nbbn-growth] [--quick]

Time is taken against rows, batch size, width, depth and threads, memory against rows. Writes
`index.html`, `growth.png` and `growth.json` to the output folder. Each point is the median of
several whole fits (one epoch, float32, batch norm, Adam) after one that is not counted; memory is
the growth of the process's peak in a process of its own. Needs the extra `plot`. Run it alone on
the machine.
"""

from __future__ import annotations

import argparse
import html
import json
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

BASE = {"rows": 20_000, "features": 256, "batch": 128, "width": 128, "depth": 2, "threads": None}
# What is varied, over which values (None: as many threads as there are), and the exponent that time
# should follow (None: no law expected).
SWEEPS: dict[str, tuple[list[int] | None, int | None]] = {
    "rows": ([2_500, 5_000, 10_000, 20_000, 40_000, 80_000], 1),
    "batch": ([16, 32, 64, 128, 256, 512, 1024], None),
    "width": ([32, 64, 128, 256, 512], None),
    "depth": ([1, 2, 4, 8, 16], 1),
    "threads": (None, None),
}
MEMORY_ROWS = [10_000, 20_000, 40_000, 80_000]


def make(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of ten classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, features), dtype=np.float32)
    return x, x[:, :10].argmax(1)


def fit_seconds(rounds: int, **settings: int) -> float:
    """Median seconds of a whole fit of one epoch."""
    import nbbn

    s: dict[str, Any] = {**BASE, **settings}
    x, y = make(s["rows"], s["features"])
    clf = nbbn.MLPClassifier(
        (s["width"],) * s["depth"],
        batch_size=s["batch"],
        max_iter=1,
        random_state=0,
        n_jobs=s["threads"],
    )
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        clf.fit(x, y)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def peak_megabytes(rows: int) -> float:
    """MB by which a fit raises the peak of a fresh process, the rows themselves not counted."""
    code = (
        "import re, warnings, nbbn, numpy as np, sys; warnings.simplefilter('ignore');"
        "from growth import make, BASE; x, y = make(int(sys.argv[1]), BASE['features']);"
        "nbbn.MLPClassifier((128, 128), batch_size=128, max_iter=1).fit(x[:256], y[:256]);"
        "status = lambda: open('/proc/self/status').read();"
        "peak = lambda: int(re.search('VmHWM:\\s+(\\d+)', status())[1]) / 1024; a = peak();"
        "nbbn.MLPClassifier((128, 128), batch_size=128, max_iter=1).fit(x, y);"
        "print(peak() - a)"
    )
    folder = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(rows)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def measure(quick: bool) -> dict:
    """Every sweep's values and seconds, and memory against rows."""
    import numba

    rounds = 1 if quick else 5
    results: dict[str, dict[str, list]] = {}
    for name, (values, _) in SWEEPS.items():
        values = values or list(range(1, numba.config.NUMBA_NUM_THREADS + 1))
        values = values[:2] if quick else values
        seconds = [fit_seconds(rounds, **{name: v}) for v in values]
        results[name] = {"values": values, "seconds": seconds}
        shown = ", ".join(f"{v} {t:.4f} s" for v, t in zip(values, seconds))
        print(f"{name}: {shown}", flush=True)
    rows = MEMORY_ROWS[:2] if quick else MEMORY_ROWS
    megabytes = [peak_megabytes(n) for n in rows]
    results["memory"] = {"values": rows, "megabytes": megabytes}
    shown = ", ".join(f"{n} rows {m:.1f} MB" for n, m in zip(rows, megabytes))
    print(f"memory: {shown}", flush=True)
    return results


def short(value: int) -> str:
    """A number that fits below an axis: 20k for 20,000."""
    return f"{value / 1000:g}k" if value >= 2000 else str(value)


def label_times(axis: Any, seconds: list[float]) -> None:
    """Labels at 1, 2 and 5 times powers of ten: three of them at least, whatever the range."""
    low, high = min(seconds) / 1.3, max(seconds) * 1.3
    steps = [m * 10.0**e for e in range(-6, 5) for m in (1, 2, 5)]
    first = max(i for i, s in enumerate(steps) if s <= low)
    last = min(i for i, s in enumerate(steps) if s >= high)
    marks = steps[first : max(last, first + 2) + 1]
    axis.set(yticks=marks, yticklabels=[f"{mark:g}" for mark in marks], ylim=(marks[0], marks[-1]))


def draw(results: dict, path: Path) -> None:
    """One panel a sweep, both axes logarithmic, with the expected law where there is one."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), constrained_layout=True)
    for axis, (name, (_, power)) in zip(axes.flat, SWEEPS.items()):
        values, seconds = results[name]["values"], results[name]["seconds"]
        axis.loglog(values, seconds, "o-", label="measured")
        law = []
        if power is not None:
            law = [seconds[-1] * (v / values[-1]) ** power for v in values]
            axis.loglog(values, law, "--", color="grey", label="proportional")
            axis.legend()
        axis.set(xlabel=name, ylabel="seconds a fit", xticks=values)
        axis.set_xticklabels([short(value) for value in values])
        axis.minorticks_off()
        label_times(axis, [*seconds, *law])
        if len(values) < 3:
            axis.set_xlim(values[0] / 2, values[-1] * 2)
    memory, rows = axes.flat[-1], results["memory"]["values"]
    memory.plot(rows, results["memory"]["megabytes"], "o-")
    memory.set(xlabel="rows", ylabel="MB beyond the rows themselves", ylim=(0, None), xticks=rows)
    memory.set_xticklabels([short(value) for value in rows])
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.suptitle("One epoch, " + ", ".join(f"{k} {v}" for k, v in BASE.items() if v is not None))
    figure.savefig(path, dpi=120)


def page(config: str) -> str:
    """The page around the picture."""
    style = (
        ":root { color-scheme: light dark } body { font: 16px/1.5 system-ui, sans-serif; "
        "max-width: 70rem; margin: 1rem auto; padding: 0 1rem } img { width: 100%; "
        "background: #fff; border-radius: 0.5rem } pre { overflow-x: auto }"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><title>nbbn: growth</title>'
        f"<style>{style}</style><h1>nbbn: growth</h1>"
        "<p>Whole fits of one epoch, the median of several; a dashed line grows in proportion. "
        'The figures: <a href="growth.json">growth.json</a>.</p>'
        '<img src="growth.png" alt="Seconds against rows, batch, width, depth and threads; memory">'
        f"<pre>{html.escape(config)}</pre></html>\n"
    )


def main() -> int:
    """Measure, draw, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("nbbn-growth"))
    parser.add_argument(
        "--quick", action="store_true", help="two points a sweep, one round: to try the script"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    import nbbn

    config = nbbn.show_config()
    results = measure(args.quick)
    args.output.mkdir(parents=True, exist_ok=True)
    draw(results, args.output / "growth.png")
    found = {"config": config, "base": BASE, "results": results}
    (args.output / "growth.json").write_text(json.dumps(found, indent=1))
    (args.output / "index.html").write_text(page(config))
    print(f"written: {args.output / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
