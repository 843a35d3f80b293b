"""The site that `scripts/run.py docs` builds, opened in a browser that has no way to the web."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser_pages import chromium, complaints, served, wait_for

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "_build" / "html"
PAGES = (
    "index.html", "guide/index.html", "guide/getting_started.html",
    "guide/train_inference.html", "guide/folding.html", "guide/command_line.html",
    "howto/index.html", "howto/keras.html", "howto/scikit_learn.html", "gallery/index.html",
    "gallery/plot_01_first_network.html", "gallery/evidence/index.html",
    "gallery/evidence/plot_05_smoother_loss.html", "api/index.html", "api/modules/nbbn.layers.html",
    "api/modules/nbbn.MLPClassifier.html", "api/modules/nbbn.fold.html", "benchmarks.html",
    "faq.html", "policy.html", "project/changelog.html", "project/security.html",
)  # fmt: skip

pytestmark = pytest.mark.slow
if not (SITE / "index.html").is_file():
    pytest.skip("no site in docs/_build/html; python3 scripts/run.py docs builds it",
                allow_module_level=True)  # fmt: skip

@pytest.fixture(scope="module")
def address():
    """Where the pages are served."""
    with served(SITE) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium with no way to the web."""
    with chromium(tmp_path_factory.mktemp("profile"), 1200) as driver:
        yield driver


def as_seen(browser, width, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


PICTURES = """(() => {
    const all = [...document.querySelectorAll('article img')];
    all.forEach(i => i.loading = 'eager');
    return all.every(i => i.complete) ? [all.filter(i => !i.naturalWidth).map(i => i.src)] : null;
})()"""


@pytest.mark.parametrize("page", PAGES)
def test_page_opens_with_its_pictures_and_without_complaints(browser, address, page):
    as_seen(browser, 1200, "light")
    browser.get(f"{address}/{page}")
    assert len(browser.find_element("tag name", "article").text) > 100
    assert wait_for(browser, PICTURES) == [[]]
    assert complaints(browser) == []


def brightness(colour):
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.1)."""
    parts = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear))


# What the text of the first such element is written in, and on.
COLOURS = """(() => {
    const e = document.querySelector(arguments[0]);
    let on = e;
    while (on && /^(rgba\\(0, 0, 0, 0\\)|transparent)$/.test(getComputedStyle(on).backgroundColor))
        on = on.parentElement;
    const paper = getComputedStyle(on || document.documentElement).backgroundColor;
    return [getComputedStyle(e).color, paper];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_page_on_a_phone(browser, address, page, scheme):
    """No page scrolls sideways, and text stands out: at least 7 to 1, code 4.5 to 1."""
    as_seen(browser, 420, scheme)
    browser.get(f"{address}/{page}")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 420
    assert wait_for(browser, "document.documentElement.dataset.theme") == scheme
    for element, least in (("article p", 7), ("article h1", 7), ("article p code", 4.5)):
        if not browser.find_elements("css selector", element):
            continue
        ink, paper = map(
            brightness, browser.execute_script("return " + COLOURS, element)
        )  # fmt: skip
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= least, element
        assert (paper > ink) == (scheme == "light"), element
    assert complaints(browser) == []


@pytest.mark.parametrize("wanted, page", [
    ("BatchNormalization", "nbbn.layers"), ("fold_dense", "nbbn"), ("recalibrate", "nbbn"),
])  # fmt: skip
def test_search_finds_a_name(browser, address, wanted, page):
    as_seen(browser, 1200, "light")
    browser.get(f"{address}/search.html?q={wanted}")
    links = wait_for(
        browser, "[...document.querySelectorAll('#search-results li a')].map(a => a.href)"
    )
    assert any(f"/api/modules/{page}" in link for link in links)
    assert complaints(browser) == []


def test_pages_need_nothing_from_the_web():
    """No script, style or picture of another host."""
    asked = re.compile(r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)"')
    found = {
        link
        for page in SITE.rglob("*.html")
        if "benchmarks" not in page.parts
        for link in asked.findall(page.read_text())
    }
    assert found == set()


def test_links_within_the_site_lead_somewhere():
    """Sphinx checks references; this is what HTML was made of them, and of raw links."""
    broken = []
    pages = [p for p in SITE.rglob("*.html") if p.parts[len(SITE.parts)] != "benchmarks"]
    anchors = {
        page: set(re.findall(r'\bid="([^"]+)"', page.read_text())) | {""} for page in pages
    }
    for page in pages:
        for link in set(re.findall(r'<a\b[^>]*\bhref="([^"]+)"', page.read_text())):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            known = anchors.get(target)
            if not target.is_file() or (known is not None and anchor not in known):
                broken.append(f"{page.relative_to(SITE)}: {link}")
    assert broken == []


def test_the_gallery_has_run():
    """Pages with a picture or something printed, and none that failed."""
    pages = list((SITE / "gallery").rglob("plot_*.html"))
    assert len(pages) >= 30
    for page in pages:
        text = page.read_text()
        assert "sphx-glr-script-out" in text or "sphx-glr-single-img" in text, page.name
        assert "Traceback (most recent call last)" not in text, page.name


def test_links_to_other_hosts_answer():
    """Of the pages' own text; where the network does not answer, nothing is known."""
    import urllib.error
    import urllib.request

    own = [p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts]
    text = "".join(page.read_text() for page in own)
    gone, answered = [], 0
    for link in sorted(set(re.findall(r"\]\((https?://[^)\s]+)\)", text))):
        request = urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0"})
        try:
            with urllib.request.urlopen(request, timeout=5):
                answered += 1
        except urllib.error.HTTPError as error:
            answered += 1
            if error.code in (404, 410):
                gone.append(link)
        except OSError:
            continue
    if not answered:
        pytest.skip("no other host answers")
    assert gone == []
