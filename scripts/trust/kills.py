"""Kill fits at random moments, resume them, and compare the bits with those of an undisturbed one.

Run: python scripts/trust/kills.py --kills 100
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Both write a checkpoint every epoch, go on from it where there is one, and print a hash.
ESTIMATOR = """
import hashlib, sys, warnings
import numpy as np, nbbn
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.normal(size=(4000, 30)), rng.integers(0, 3, 4000)
model = nbbn.MLPClassifier((40, 20), max_iter=90, tol=0, random_state=0, dropout=0.1,
                           n_iter_no_change=99, checkpoint=sys.argv[1]).fit(X, y)
arrays = [*model.coefs_, *model.running_means_, model.predict_proba(X)]
print(hashlib.sha256(b"".join(a.tobytes() for a in arrays if a is not None)).hexdigest())
"""
SEQUENTIAL = """
import hashlib, sys
from pathlib import Path
import numpy as np, nbbn
from nbbn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, ReLU
rng = np.random.default_rng(0)
X, y = rng.normal(size=(600, 8, 8, 3)).astype("f4"), rng.integers(0, 3, 600)
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
saved = sorted(folder.glob("*.safetensors"))
if saved:
    model = nbbn.load(saved[-1])
else:
    nbbn.set_random_seed(0)
    model = nbbn.Sequential([Input((8, 8, 3)), Conv2D(8, 3), BatchNormalization(), ReLU(),
                             Flatten(), Dropout(0.2), Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
keep = nbbn.callbacks.ModelCheckpoint(folder / "{epoch:03d}.safetensors")
begun = int(saved[-1].stem) if saved else 0
model.fit(X, y, epochs=60, initial_epoch=begun, verbose=0, shuffle=False, callbacks=[keep])
print(hashlib.sha256(b"".join(a.tobytes() for a in model.get_weights())).hexdigest())
"""


def run(code: str, path: Path, seconds: float | None) -> str | None:
    """The hash that a fit prints; None where it was killed after some seconds."""
    child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    try:
        out, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return None
    if child.returncode != 0:
        raise SystemExit(f"the fit failed with status {child.returncode}")
    return out.strip()


def disturbed(code: str, folder: Path, longest: float, kills: int, rng: random.Random) -> str:
    """The hash of a fit that was killed up to so many times on its way."""
    path = folder / "checkpoint"
    for _ in range(kills):
        found = run(code, path, rng.uniform(0.3, 1.0) * longest)
        if found is not None:
            return found
    found = run(code, path, None)
    assert found is not None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how often to kill, in all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, done, fits = random.Random(args.seed), 0, 0
    for code in (ESTIMATOR, SEQUENTIAL):
        with tempfile.TemporaryDirectory() as folder:
            run(code, Path(folder, "warm"), None)  # kernels are compiled now
            began = time.perf_counter()
            ref = run(code, Path(folder, "whole"), None)
            longest = time.perf_counter() - began
        wanted = done + args.kills // 2
        while done < wanted:
            with tempfile.TemporaryDirectory() as folder:
                if disturbed(code, Path(folder), longest, min(4, wanted - done), rng) != ref:
                    raise SystemExit("a resumed fit gave other bits")
            done, fits = done + min(4, wanted - done), fits + 1
    print(f"{done} kills over {fits} fits: every fit ended with the bits of an undisturbed one")


if __name__ == "__main__":
    main()
