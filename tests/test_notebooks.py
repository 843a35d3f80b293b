"""What a notebook shows: HTML that parses, escaped, with the figures in it; bars that redraw."""

from __future__ import annotations

import re
import sys
import types
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn import markup, progress
from nbbn.callbacks import History
from nbbn.fold import Check

VOID = {"br", "hr", "img"}
RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


class Page(HTMLParser):
    """Tags in order, and that each that opens closes; the cells of all tables."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.rows, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert not any(name.startswith("on") or "javascript" in (value or "")
                       for name, value in attrs)
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def text(self):
        return " ".join(self.words)


def page(shown):
    return Page(shown._repr_html_())


# -- pieces


def test_text_is_escaped():
    nasty = "<script>alert('x')</script>&\""
    for text in (markup.line(nasty), markup.heading(nasty), markup.table([nasty], [[nasty]]),
                 markup.details(nasty, markup.line(nasty)), markup.progress(1, 2, nasty),
                 markup.curves(nasty, 1, {nasty: [1.0, 2.0]})):
        found = Page(text)
        assert "script" not in found.tags and "alert('x')" in found.text


def polylines(text):
    svg = ET.fromstring(re.search(r"<svg.*</svg>", text, re.S)[0])
    space = "{http://www.w3.org/2000/svg}"
    return [[tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
            for line in svg.iter(f"{space}polyline")], [t.text for t in svg.iter(f"{space}text")]


def test_a_curve_is_drawn_to_scale():
    (points,), labels = polylines(markup.curves("loss", 1, {"loss": [4.0, 2.0, 1.0]}))
    xs, ys = zip(*points)
    assert xs[0] < xs[1] < xs[2] and xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    # The picture's axis points down.
    assert (ys[2] - ys[1]) / (ys[1] - ys[0]) == pytest.approx(0.5, abs=0.01)
    assert labels == ["4", "1", "epoch 1", "3"]


def test_a_wide_range_stands_on_a_logarithmic_axis():
    text = markup.curves("loss", 5, {"loss": [100.0, 1.0, 0.01]})
    ((_, first), (_, middle), (_, last)), labels = polylines(text)[0][0], polylines(text)[1]
    assert middle == pytest.approx((first + last) / 2, abs=0.06) and "log scale" in text
    assert labels == ["100", "0.01", "epoch 5", "7"]
    assert "log scale" not in markup.curves("loss", 1, {"loss": [100.0, 1.0, -0.01]})


def test_values_that_are_not_finite_are_left_out():
    (points,), _ = polylines(markup.curves("loss", 1, {"loss": [1.0, np.nan, 3.0, np.inf]}))
    assert len(points) == 2
    assert "no finite number" in markup.curves("loss", 1, {"loss": [np.nan]})
    assert "<circle" in markup.curves("loss", 1, {"loss": [1.0]})


# -- objects


def fitted():
    model = nbbn.Sequential([L.Dense(5, input_shape=(4,), name="<b>"), L.BatchNormalization(),
                             L.ReLU(), L.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, model.fit(X, Y, epochs=3, verbose=0, validation_data=(X[:20], Y[:20]))


def test_history():
    _, history = fitted()
    found = page(history)
    names = ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert [row[0] for row in found.rows] == ["figure", *names]
    for row in found.rows[1:]:
        curve = history.history[row[0]]
        assert row[1:] == [f"{v:.4g}" for v in (curve[0], curve[-1], min(curve), max(curve))]
    assert found.tags.count("svg") == 2 and found.tags.count("polyline") == 4
    first = history.history["loss"]
    assert repr(history).startswith("<History of 3 epochs: loss "
                                    f"{first[0]:.4g} -> {first[-1]:.4g}, accuracy ")
    assert " at 0x" not in repr(history)


def test_history_of_nothing_and_of_nan():
    empty = History()
    assert repr(empty) == "<History of no epoch>" and "no epoch" in page(empty).text
    history = History()
    history.on_epoch_end(0, {"loss": float("nan")})
    history.on_epoch_end(1, {"loss": float("nan")})
    assert page(history).rows[1] == ["loss", "nan", "nan", "nan", "nan"]


def test_sequential():
    model, _ = fitted()
    found = page(model)
    assert found.rows[0] == ["Layer (type)", "Output Shape", "Param #"]
    assert found.rows[1] == ["<b> (Dense)", "(None, 5)", "25"]
    assert found.rows[2] == ["batch_normalization (BatchNormalization)", "(None, 5)", "20"]
    assert ["Total params:", "57 (228.00 B)"] in found.rows
    assert ["Non-trainable params:", "10 (40.00 B)"] in found.rows
    assert 'Model: "sequential"' in found.text
    unbuilt = page(nbbn.Sequential([L.Dense(3)]))
    assert "not built" in unbuilt.text and unbuilt.rows[1][1:] == ["?", "0 (unbuilt)"]


def test_folded_model_and_report():
    model, _ = fitted()
    folded = nbbn.fold(model)
    report = page(folded.report)
    assert report.rows == [["batch norm", "folded", "direction", "into"],
                           ["batch_normalization", "yes", "backward", "<b>"]]
    for line in str(folded.report).splitlines()[-2:]:
        assert line in report.text
    found = page(folded)
    assert found.rows[1][:3] == ["0", "<b>", "Dense"] and found.rows[1][4] == "25"
    assert "takes rows of 4 numbers of float32" in found.text
    assert "fold: 1 of 1 batch norms are gone" in found.text


def test_a_report_of_what_stays_says_why():
    model = nbbn.Sequential([L.Dense(5, "relu", input_shape=(4,)), L.BatchNormalization(),
                             L.ReLU()])
    model.build((None, 4))
    norm = model.layers[1]
    norm.set_weights([np.ones(5), np.ones(5), np.zeros(5), np.ones(5)])  # a shift stops at a ReLU
    report = nbbn.fold(model).report
    assert any("stays: " in word for word in page(report).words)
    assert "fold" not in page(nbbn.FoldedModel(model.network())).text.lower().split()


def test_classes_of_a_folded_model():
    clf = nbbn.SequentialClassifier([L.Dense(3)], epochs=1, random_state=0)
    labels = np.array([f"<{i}>" for i in range(12)])
    folded = clf.fit(X, labels[np.arange(len(X)) % 12]).fold()
    text = page(folded).text
    assert "FoldedModel, classifier" in text and "classes: <0>, <10>, <11>, <1>, <2>," in text
    assert "<7> and 2 more" in text and "<8>" not in text


def test_check():
    assert page(Check(1e-7, 2e-7, 1e-6, 64)).rows[1] == ["1e-07", "2e-07", "1e-06", "64"]
    assert "rounding explains the difference" in page(Check(1e-7, 2e-7, 1e-6, 64)).text
    assert "differ by more than" in page(Check(float("nan"), 0.1, 1e-6, 64)).text


# -- bars


class Display:
    """IPython's `display`, which keeps what it has shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, data, raw, display_id):
        assert raw and display_id
        self.shown.append([data])
        return types.SimpleNamespace(update=self._updates(len(self.shown) - 1))

    def _updates(self, place):
        def update(data, raw):
            assert raw
            self.shown[place].append(data)

        return update


@pytest.fixture
def notebook(monkeypatch):
    display = Display()
    monkeypatch.setattr(progress, "_notebook", lambda: display)
    return display


def test_every_epoch_of_a_fit_in_a_notebook_is_drawn_in_its_place(notebook, capsys):
    model, _ = fitted()
    assert notebook.shown == []  # verbose=0
    model.fit(X, Y, epochs=2, batch_size=10)
    assert len(notebook.shown) == 2 and capsys.readouterr().out == ""
    for epoch, updates in enumerate(notebook.shown, 1):
        assert len(updates) >= 2
        last = updates[-1]
        assert last["text/plain"].startswith(f"12/12 Epoch {epoch}/2 - ")
        assert re.search(r"loss: \d\.\d+ - accuracy: ", last["text/plain"])
        assert 'max="12" value="12"' in last["text/html"]
        Page(last["text/html"])


def test_a_fit_of_an_estimator_in_a_notebook_has_one_bar(notebook, capsys):
    model = nbbn.MLPClassifier((5,), max_iter=4, tol=0, n_iter_no_change=9, random_state=0,
                               verbose=True)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, Y)
    (updates,) = notebook.shown
    assert updates[0]["text/plain"] == "0/4 epoch 0/4"
    assert updates[-1]["text/plain"].startswith("4/4 epoch 4/4  loss ")
    assert f"loss {model.loss_:.4g}, " in updates[-1]["text/plain"]
    assert capsys.readouterr().out == ""


def test_a_failed_fit_leaves_its_last_figures(notebook):
    class Stops(nbbn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("enough")

    model, _ = fitted()
    with pytest.raises(RuntimeError, match="enough"):
        model.fit(X, Y, epochs=2, batch_size=10, callbacks=[Stops()])
    assert len(notebook.shown) == 1 and "loss" in notebook.shown[0][-1]["text/plain"]


def test_a_notebook_is_known_by_its_kernel(monkeypatch):
    assert progress._notebook() is None
    shell = types.SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    shown = types.ModuleType("IPython.display")
    shown.display = print
    stream = type("OutStream", (), {"__module__": "ipykernel.iostream", "write": print})()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    assert progress._notebook() is None  # what is printed goes elsewhere
    monkeypatch.setattr(sys, "stdout", stream)
    assert progress._notebook() is print
    shell.kernel = None
    assert progress._notebook() is None
