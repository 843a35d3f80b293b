"""Damaged files of every format: each is read, or refused in one line, in bounded memory and time.

Run: python scripts/trust/fuzz.py --files 100000
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import nbbn
from nbbn.interop import from_keras, from_onnx, from_torch, open_model, to_onnx
from nbbn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input

LAYERS = [Input((4, 5, 2)), Conv2D(3, 2), BatchNormalization(), Flatten(), Dense(4)]
# What a reader may take besides four times the file: tables of the readers that it stands on.
SLACK, SECONDS = 1 << 25, 10.0


def sources(folder: Path) -> list[tuple[Path, Callable[[Path], object]]]:
    """A whole file of each format, and what reads it."""
    from safetensors.numpy import save_file

    model = nbbn.Sequential(LAYERS)
    model.save(folder / "own.safetensors")
    to_onnx(model, folder / "model.onnx")
    kernel, *rest = model.get_weights()[:1]
    state = {"0.weight": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))}
    save_file(state, folder / "torch.safetensors")
    found = [(folder / "own.safetensors", nbbn.load), (folder / "own.safetensors", open_model),
             (folder / "model.onnx", from_onnx),
             (folder / "torch.safetensors", lambda path: from_torch(path, LAYERS)),
             (folder / "own.safetensors", from_keras)]
    return found


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with bytes changed, cut out, doubled, or an end cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, kind = rng.randrange(max(1, len(out))), rng.randrange(5)
        if kind == 0 and out:
            out[at] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.choice((1, 2, 8, 64))]
        elif kind == 2:
            out[at:at] = out[at : at + rng.choice((1, 8, 64))]
        elif kind == 3:
            del out[at:]
        elif out:
            out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, read, refused, most = random.Random(args.seed), 0, 0, 0.0
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = [(path, path.read_bytes(), reads) for path, reads in sources(folder)]
        tracemalloc.start()
        for i in range(args.files):
            path, data, reads = whole[i % len(whole)]
            damage = damaged(data, rng)
            file = folder / f"damaged{path.suffix}"
            file.write_bytes(damage)
            tracemalloc.reset_peak()
            before, began = tracemalloc.get_traced_memory()[0], time.perf_counter()
            try:
                reads(file)
                read += 1
            except (nbbn.FileError, ValueError, TypeError, ImportError) as error:
                refused += 1
                if "\n" in str(error):
                    raise SystemExit(f"file {i}: a message of several lines: {error}") from error
            seconds = time.perf_counter() - began
            taken = tracemalloc.get_traced_memory()[1] - before
            most = max(most, seconds)
            if taken > 4 * len(damage) + SLACK or seconds > SECONDS:
                raise SystemExit(f"file {i} of {len(damage)} bytes took {taken} bytes and "
                                 f"{seconds:.1f} s")
    print(f"{args.files} damaged files: {read} read, {refused} refused in one line; the slowest "
          f"took {most:.2f} s")


if __name__ == "__main__":
    main()
