"""Models as pictures and as text for Graphviz."""

from __future__ import annotations

import re
import sys

import pytest

import nbbn
from nbbn import layers as L
from nbbn.utils import plot_model


def siamese():
    """A model that is called twice, and a layer that takes what both give."""
    shape = L.Input((4,))
    inner = nbbn.Model(shape, L.Dense(3, name="inner")(shape))
    a, b = L.Input((4,)), L.Input((4,))
    return nbbn.Model([a, b], L.Dense(1)(L.subtract([inner(a), inner(b)])), name='a "pair"')


def test_layers_are_drawn_once(tmp_path):
    path = plot_model(siamese(), tmp_path / "m.dot", show_layer_names=True, show_shapes=True,
                      show_dtype=True, show_layer_activations=True, show_trainable=True,
                      expand_nested=True)
    text = path.read_text()
    assert text.startswith('digraph "a \\"pair\\"" {\n    rankdir=TB;')
    boxes = dict(re.findall(r'^ +(\w+) \[label="(.*)"\];$', text, flags=re.M))
    assert [label.split("\\n")[0] for label in boxes.values()] == [
        "Input", "Input", "inner (Dense)", "subtract (Subtract)", "dense (Dense)",
    ]
    assert boxes["l0"] == (r"inner (Dense)\nactivation: linear\n(None, 4) -> (None, 3)\nfloat32")
    edges = re.findall(r"(\w+) -> (\w+);", text)
    assert edges == [("i1", "l0"), ("i2", "l0"), ("l0", "l1"), ("l1", "l2")]


@pytest.mark.parametrize("rankdir", ["TB", "LR", "BT", "RL"])
def test_pictures(rankdir, tmp_path):
    pytest.importorskip("matplotlib")
    again = L.Dense(4)
    a = L.Input((4,))
    model = nbbn.Model(a, L.Add()([again(again(a)), a]))
    path = plot_model(model, tmp_path / "m.svg", rankdir=rankdir, show_shapes=True, dpi=50)
    assert path.read_text().count("</svg>") == 1
    chain = nbbn.Sequential([L.Input((4,)), L.Dense(2)])
    assert plot_model(chain, tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"


def test_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="rankdir must be one of TB, BT, LR, RL, got 'UP'"):
        plot_model(siamese(), tmp_path / "m.dot", rankdir="UP")
    with pytest.raises(ValueError, match="the model has no weights yet"):
        plot_model(nbbn.Sequential([L.Dense(2)]), tmp_path / "m.dot")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"nbbn\[plot\], or write text: to_file='model.dot'"):
        plot_model(siamese(), tmp_path / "m.png")
    assert list(tmp_path.iterdir()) == []
