"""What the site's configuration adds to Sphinx."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import benchmark_pages  # noqa: E402
import docstrings  # noqa: E402


@pytest.mark.parametrize("line, wanted", [
    ("rows of shape (n, *input_shape)", r"rows of shape (n, \*input_shape)"),
    ("of shape (n_features_in_,)", r"of shape (n_features_in\_,)"),
    ("x / (1 + |x|) (Turian)", r"x / (1 + \|x|) (Turian)"),
    ("`coefs_` and `*args` stay", "`coefs_` and `*args` stay"),
    (">>> clf.coefs_[0] * x", ">>> clf.coefs_[0] * x"),
    ("n_features_in_ : int", "n_features_in_ : int"),
    ("see :ref:`the guide <metadata_routing>` and :term:`meta-estimator`",
     "see the guide and meta-estimator"),
    ("**base", "**base"), ("two * three", "two * three"),
])  # fmt: skip
def test_markup_in_docstrings_is_text(line, wanted):
    assert docstrings.plain(line) == wanted


def built(tmp_path, html="html"):
    return SimpleNamespace(builder=SimpleNamespace(format=html), outdir=str(tmp_path / "out"))


def test_dashboard_is_published_beside_the_site(tmp_path, monkeypatch):
    pages = tmp_path / "pages"
    (pages / "asv").mkdir(parents=True)
    (pages / "index.html").write_text("figures")
    (pages / "asv" / "index.html").write_text("asv")
    monkeypatch.setenv("NBBN_DASHBOARD", str(pages))
    for _ in range(2):  # again over what is there
        benchmark_pages.copy(built(tmp_path), None)
    assert (tmp_path / "out" / "benchmarks" / "index.html").read_text() == "figures"
    assert (tmp_path / "out" / "benchmarks" / "asv" / "index.html").is_file()


def test_dashboard_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("NBBN_DASHBOARD", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"holds no index\.html; publish the dashboard there"):
        benchmark_pages.copy(built(tmp_path), None)
    benchmark_pages.copy(built(tmp_path, "latex"), None)
    monkeypatch.delenv("NBBN_DASHBOARD")
    benchmark_pages.copy(built(tmp_path), None)
    assert not (tmp_path / "out").exists()


def test_formulas_are_mathml():
    pytest.importorskip("latex2mathml", reason="formulas are converted by latex2mathml")
    pytest.importorskip("docutils", reason="formulas are docutils' nodes")
    import mathml
    from docutils import nodes

    writer = SimpleNamespace(body=[])
    for visit, node in (
        (mathml.inline, nodes.math("", r"\sqrt{\sigma^2 + \epsilon}")),
        (mathml.display, nodes.math_block("", r"d \le 4 s")),
    ):
        with pytest.raises(nodes.SkipNode):
            visit(writer, node)
    assert all("<math" in text for text in writer.body)
    assert "<msqrt>" in writer.body[0] and 'display="block"' in writer.body[1]
