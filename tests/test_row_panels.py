"""Rows in panels, and kernels' gradients by chunks of rows: the same bits as rows that are runs."""

import numpy as np
import pytest
from races import races

import nbbn
from nbbn.layers import BatchNormalization, Dense, ReLU
from nbbn.network import computation
from nbbn.optimizers import SGD, Adam
from nbbn.program import kept, training, updates
from nbbn.program.training import lower_training
from nbbn.trainer import Trainer, batches

ROWS, BATCH, WIDTH, NEVER = 211, 90, 80, 1 << 40
NORMED = [Dense(40, use_bias=False), BatchNormalization(), ReLU(), Dense(33), ReLU(), Dense(3)]
RELU = [Dense(24), ReLU(), Dense(3)]
OPTIMIZERS = {
    "adam": Adam(0.01), "sgd": SGD(0.01, momentum=0.9), "clipped": Adam(0.01, clipnorm=0.1),
}


def trained(layers, optimizer, dtype, source, threads):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH)) * 3
    x, y = x.astype(source), rng.normal(size=(ROWS, 3)).astype(dtype)
    net = computation(layers, (WIDTH,))
    with nbbn.num_threads(threads):
        trainer = Trainer(net, np.dtype(dtype), x.dtype, BATCH, "squared_error", optimizer,
                          decay=0.01)
        weights = [{name: (0.1 * rng.normal(size=array.shape) ** 2).astype(dtype)
                    for name, array in arrays.items()} for arrays in trainer.download()]
        trainer.upload(weights)
        edges = batches(ROWS, BATCH, merge_tail=False)
        for _ in range(2):
            epoch = trainer.epoch(x, y, rng.permutation(ROWS), edges,
                                  np.full(len(edges) - 1, 0.01))
    arrays = [array for arrays in trainer.download() for array in arrays.values()]
    names = [op.kernel for op in trainer.lowered.program.operations]
    return epoch.loss, arrays, names


@pytest.mark.parametrize("dtype, source", [("float32", "float32"), ("float64", "float64"),
                                           ("float32", "float64"), ("float32", "uint8")])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("layers", [NORMED, RELU], ids=["normed", "relu"])
def test_bits_of_panels_and_chunks(layers, optimizer, dtype, source, monkeypatch):
    found = []
    for panel_bytes, chunk_bytes, threads in (
        (NEVER, NEVER, 1), (0, NEVER, 1), (0, NEVER, 3), (NEVER, 1, 2), (0, 1, 1), (0, 1, 8),
    ):
        monkeypatch.setattr(training, "_PANEL_BYTES", panel_bytes)
        monkeypatch.setattr(updates, "_CHUNK_BYTES", chunk_bytes)
        monkeypatch.setattr(updates, "_LEAST_CHUNK", 24)
        kept._made.cache_clear()
        loss, arrays, names = trained(layers, OPTIMIZERS[optimizer], dtype, source, threads)
        assert ("gather_all_panels" in names) == (panel_bytes == 0)
        found.append((loss, *arrays))
    assert np.isfinite(found[0][0])
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layers", [NORMED, RELU], ids=["normed", "relu"])
def test_no_races(layers, monkeypatch):
    monkeypatch.setattr(training, "_PANEL_BYTES", 0)
    monkeypatch.setattr(updates, "_CHUNK_BYTES", 1)
    program = lower_training(computation(layers, (WIDTH,)), np.dtype("float32"), BATCH,
                             "squared_error", Adam()).program
    assert races(program) == []


def test_rows_of_much_padding_stay_runs(monkeypatch):
    """37 numbers are three vectors of AVX-512: a third more work."""
    monkeypatch.setattr(training, "_PANEL_BYTES", 0)
    low = lower_training(computation(RELU, (9,)), np.dtype("float64"), BATCH, "squared_error",
                         Adam())
    assert low.program.operations[0].kernel == "gather_all_rows"
