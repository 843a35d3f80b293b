"""Pages in a headless Chromium: where they are served, the browser, what it complains of."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import threading

import pytest

FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync""".split()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, silently."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """The address of a folder of pages."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def chromium(profile, width):
    """A browser so wide with no way to the web; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the pages are opened by selenium")
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} to open the pages with")
    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    own = [f"--window-size={width},900", f"--user-data-dir={profile}"]
    for flag in [*FLAGS, *own, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(found["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.close()
    driver.quit()


def wait_for(browser, script):
    """The first true value of a script."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda b: b.execute_script(f"return {script}"))


def complaints(browser):
    """What the console says."""
    return [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]
