"""A fit's state in a file after every epoch, and the way back, to the same bits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.estimators.lazy_rows import Rows, parts
from nbbn.estimators.mlp.defaults import DEFAULTS, normalizes_y, value_of
from nbbn.estimators.mlp.fit_state import FitState
from nbbn.estimators.mlp.parameters import PLANNED_RATES, Parameters
from nbbn.formats.files import FileError, write_whole
from nbbn.group import ALONE, Group
from nbbn.network import Weights
from nbbn.trainer import Trainer

_KEY, _VERSION = "nbbn_checkpoint", 1
# Parameters that may differ between the fit that wrote the file and the one that goes on.
_FREE = ("verbose", "n_jobs", "callbacks", "checkpoint", "warm_start")


def fingerprint(estimator: Parameters, random_state: np.random.RandomState,
                data: dict[str, str], start: Weights | None) -> dict[str, str]:
    """What must be the same for a fit to go on: parameters, data, what it started from, by name.

    `random_state` before its first draw; `start` are the weights of a warm start; `data` tells rows
    from others.
    """
    params = estimator.get_params(deep=False)
    free = _FREE if estimator.learning_rate in PLANNED_RATES else (*_FREE, "max_iter")
    found = {name: _shown(value) for name, value in params.items() if name not in free}
    # By what they come to, as in the files of versions that knew no None.
    found |= {name: _shown(value_of(estimator, name)) for name in DEFAULTS}
    if found.get("normalize_y") is not None and not normalizes_y(estimator):
        del found["normalize_y"]
    if not estimator.residual:  # files of versions that knew no shortcuts lack it, too
        del found["residual"]
    if isinstance(estimator.random_state, np.random.RandomState):
        state: Any = random_state.get_state()
        found["random_state"] = _digest([state[1]])
    found |= data
    if start is not None:
        found["weights to start from"] = _digest(a for arrays in start for a in arrays.values())
    return found


def shown_rows(array: Any, group: Group = ALONE) -> str:
    """What tells rows, targets or weights of a group from others: the whole, not who has which."""
    if group.world is not None:
        return _digest_of_group(array, group)
    return "none" if array is None else f"{array.shape} {_digest(parts(array))}"


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        return repr([_shown(v) for v in value])
    if callable(value) and " at 0x" in repr(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return repr(value.item() if isinstance(value, np.generic) else value)


def _digest(arrays: Iterable[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(str(array.dtype).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


_HASHED = 1 << 20  # words of rows that are hashed at a time
_MIX = np.uint64(0x9E3779B97F4A7C15)


def _digest_of_group(array: Rows | None, group: Group) -> str:
    """The shape of all rows, and a sum of hashes of each with its number: who has it is the same.

    It tells chance, no ill will.
    """
    own = None if array is None else (array.shape[1:], array.dtype.name)
    if not group.any_true(own is not None):
        return "none"
    rows = group.count(0 if array is None else len(array))
    first, total = sum(group.gathered(0 if array is None else len(array))[: group.rank]), 0
    for part in () if array is None else parts(array):
        step = max(1, _HASHED // max(1, part[:1].size))
        for begin in range(0, len(part), step):
            hashed = _row_hashes(part[begin : begin + step], first)
            first, total = first + len(hashed), total + int(hashed.sum(dtype=np.uint64))
    total = sum(group.gathered(total)) % 2**64
    shape, dtype = group.agreed("rows (shape, dtype)", own if array is not None and len(array)
                                else None)
    return f"{(rows, *shape)} {dtype} {total:016x}"


def _row_hashes(rows: np.ndarray, first: int) -> np.ndarray:
    """A number of 64 bits for each row and its number."""
    rows = np.ascontiguousarray(rows).reshape(len(rows), -1)
    size = rows.shape[1] * rows.itemsize
    words = np.zeros((len(rows), -(-size // 8) * 8), np.uint8)
    words[:, :size] = rows.view(np.uint8)
    factors = np.random.default_rng(words.shape[1]).integers(2**63, size=words.shape[1] // 8,
                                                             dtype=np.uint64)
    sums = (words.view(np.uint64) * (2 * factors + np.uint64(1))).sum(1, dtype=np.uint64)
    sums = (sums ^ (sums >> np.uint64(31))) + np.arange(first, first + len(rows),
                                                        dtype=np.uint64) * _MIX
    sums = (sums ^ (sums >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return sums ^ (sums >> np.uint64(27))


class Checkpoint:
    """The file of one fit, `wanted` its fingerprint; the group's first process reads and writes it.

    `random_state`, before its first draw, is set to the state of the fit that wrote the file.
    FileError for a file that is no checkpoint, or one of another fit.
    """

    def __init__(self, path: str | os.PathLike[str], wanted: dict[str, str],
                 random_state: np.random.RandomState, group: Group):
        self.path, self._wanted, self._group = Path(path), wanted, group
        self._held = group.at_first(self._read)
        if self._held is not None:
            held = self._held[0]["random_state"]
            random_state.set_state((held["name"], self._held[1]["random_state"], *held["rest"]))
        state: Any = random_state.get_state()
        self._keys, self._random_state = state[1], {"name": state[0], "rest": state[2:]}

    def resume(self, trainer: Trainer, state: FitState) -> np.ndarray | None:
        """Take the file's state, where there is one; the snapshot of the best epoch, or None."""
        if self._held is None:
            return None
        meta, tensors = self._held
        best = None
        if meta["has_best"]:
            _take(trainer, tensors, "best")
            best = trainer.snapshot()
        _take(trainer, tensors, "last")
        trainer.step, trainer.norm_step = meta["step"], meta["norm_step"]
        vars(state).update(vars(FitState(**meta["record"])))
        self._held = None
        return best

    def save(self, trainer: Trainer, state: FitState, best: np.ndarray | None) -> None:
        """Write the state after an epoch."""
        self._group.at_first(partial(self._save, trainer, state, best))

    def _save(self, trainer: Trainer, state: FitState, best: np.ndarray | None) -> None:
        from safetensors.numpy import save as to_bytes

        tensors = {"random_state": self._keys, **_given(trainer, "last")}
        if best is not None:
            last = trainer.snapshot()
            trainer.restore(best)
            tensors |= _given(trainer, "best")
            trainer.restore(last)
        meta = {"version": _VERSION, "fingerprint": self._wanted,
                "random_state": self._random_state, "has_best": best is not None,
                "step": trainer.step, "norm_step": trainer.norm_step, "record": asdict(state)}
        write_whole(self.path, to_bytes(tensors, {_KEY: json.dumps(meta)}))

    def _read(self) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        from safetensors import SafetensorError, safe_open

        if not os.path.exists(self.path):
            return None
        if self.path.is_dir():
            raise FileError(f"{self.path}: is a folder; give the path of a file in it")
        try:
            with safe_open(self.path, framework="np") as file:
                meta = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError, KeyError, ValueError) as err:
            raise FileError(f"{self.path}: is no checkpoint of a fit, or broken; delete it, "
                            "or give another path") from err
        if meta.get("version") != _VERSION:
            raise FileError(f"{self.path}: a checkpoint of another version of nbbn; delete it, "
                            "or give another path")
        held, wanted = meta["fingerprint"], self._wanted
        names = [name for name in {**held, **wanted} if held.get(name) != wanted.get(name)]
        if names:
            raise FileError(f"{self.path}: the checkpoint of another fit, "
                            f"which differs in {', '.join(names)}; delete it, or give another path")
        return meta, tensors


def _given(trainer: Trainer, prefix: str) -> dict[str, np.ndarray]:
    found = {f"{prefix} slot.{name}": array for name, array in trainer.optimizer_state().items()}
    for i, arrays in enumerate(trainer.download()):
        found |= {f"{prefix}.{i}.{name}": array for name, array in arrays.items()}
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def _take(trainer: Trainer, tensors: dict[str, np.ndarray], prefix: str) -> None:
    weights: Weights = [{} for _ in trainer.computation.arrays]
    for name, array in tensors.items():
        if name.startswith(f"{prefix}."):
            _, i, key = name.split(".", 2)
            weights[int(i)][key] = array
    trainer.upload(weights)
    start = f"{prefix} slot."
    slots = {n.removeprefix(start): a for n, a in tensors.items() if n.startswith(start)}
    trainer.load_optimizer_state(slots)
