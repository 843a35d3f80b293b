"""Both pages of the dashboard, published from made-up results and opened in a browser that has no
way to the web.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from browser_pages import chromium, complaints, served, wait_for
from sample_results import make_sample

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("asv", reason="the dashboard publishes with asv")
if shutil.which("git") is None:
    pytest.skip("the dashboard asks git for commits", allow_module_level=True)

from asv_bench.dashboard import assets, site  # noqa: E402


@pytest.fixture(scope="module")
def scripts(request):
    """The scripts of asv's page, installed once and kept with pytest's cache."""
    vendor = Path(request.config.cache.mkdir("asv-page-scripts"))
    if not assets.fetch(vendor):
        pytest.skip("the scripts of asv's page could not be installed: no package index")
    return vendor


@pytest.fixture(scope="module")
def pages(scripts, tmp_path_factory):
    """The folder of the published pages."""
    data, repository, _ = make_sample(tmp_path_factory.mktemp("sample"))
    data.vendor.symlink_to(scripts, target_is_directory=True)
    output = tmp_path_factory.mktemp("pages")
    assert site.publish(data, output, "main", repo=repository) == output / "index.html"
    return output


@pytest.fixture(scope="module")
def address(pages):
    """Where the pages are served."""
    with served(pages) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium with no way to the web."""
    with chromium(tmp_path_factory.mktemp("profile"), 1000) as driver:
        yield driver


def test_our_page_in_a_browser(browser, address):
    browser.get(f"{address}/index.html")
    text = browser.find_element("tag name", "body").text
    for wanted in (
        "Inference", "PyTorch", "JAX", "Convolutional training", "norm.Forward.time_nbbn",
        "rows 1000",
    ):
        assert wanted in text
    points = wait_for(browser, "document.querySelectorAll('svg.history circle').length")
    # PyTorch and JAX in inference, PyTorch in the convolutional network's two.
    assert points == 3 + 3 + 2
    drawn = (
        "[...document.querySelectorAll('svg.bar rect')].map(r => r.getBoundingClientRect().width)"
    )
    assert min(wait_for(browser, drawn)) > 0.3
    assert complaints(browser) == []


def test_the_filter_of_our_page(browser, address):
    browser.get(f"{address}/index.html")
    field = browser.find_element("id", "filter")

    def shown():
        rows = browser.find_elements("css selector", ".row")
        return [row.text.split("\n")[0] for row in rows if row.is_displayed()]

    whole = shown()
    field.send_keys("pytorch ROWS 1000")
    assert [text[:9] for text in shown()] == ["rows 1000"]
    assert browser.find_element("id", "found").text == "1 figures"
    field.clear()
    field.send_keys("norm.forward 256")
    assert len(shown()) == 1 and shown()[0].startswith("(256, 512)")
    for _ in range(20):
        field.send_keys("\b")
    assert shown() == whole
    assert complaints(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_our_page_on_a_phone(browser, address, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(f"{address}/index.html")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    colours = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    paper, ink = (sum(map(int, re.findall(r"\d+", c)[:3])) for c in wait_for(browser, colours))
    assert (paper > ink) == (scheme == "light")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert complaints(browser) == []


def test_asvs_page_in_a_browser(browser, address):
    browser.get(f"{address}/asv/index.html")
    wait_for(browser, "document.body.innerText.includes('Forward.time_nbbn')")
    browser.get(f"{address}/asv/index.html#norm.Forward.time_nbbn")
    browser.refresh()
    assert wait_for(browser, "document.querySelectorAll('#main-graph canvas').length") >= 1
    inked = "(() => { const c = document.querySelector('#main-graph canvas.flot-base');"
    inked += " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0) })()"
    assert wait_for(browser, inked)
    assert "(256, 512)" in browser.find_element("tag name", "body").text
    browser.get(f"{address}/asv/index.html#regressions")
    browser.refresh()
    wait_for(browser, "document.title.length > 0 && window.jQuery.active === 0")
    assert complaints(browser) == []


def test_asvs_page_needs_nothing_from_the_web(pages):
    text = (pages / "asv" / "index.html").read_text()
    assert re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?:[^"]+"', text) == []
    for name in re.findall(r'(?:src|href)="(vendor/[^"]+)"', text):
        assert (pages / "asv" / name).is_file()
