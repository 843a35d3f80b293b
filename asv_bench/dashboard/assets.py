"""The scripts that asv's page would fetch from the web at each visit, put beside the page instead.

They come from the package index, once, into the data folder: jQuery, Flot and Bootstrap as packaged
for Python. Three small plugins that no Python package carries have polyfills in `polyfills.js`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ["js.jquery==3.6.1", "js.jquery_flot==0.8.1", "js.bootstrap==3.3.4"]
# The end of what asv's page names: the file within the packages that takes its place.
FILES = {
    "jquery.min.js": "js/jquery/resources/jquery-3.6.1.min.js",
    "jquery.flot.min.js": "js/jquery_flot/resources/jquery.flot.min.js",
    "jquery.flot.time.min.js": "js/jquery_flot/resources/jquery.flot.time.min.js",
    "jquery.flot.selection.min.js": "js/jquery_flot/resources/jquery.flot.selection.min.js",
    "jquery.flot.categories.min.js": "js/jquery_flot/resources/jquery.flot.categories.min.js",
    "bootstrap.min.js": "js/bootstrap/resources/js/bootstrap.min.js",
    "bootstrap.min.css": "js/bootstrap/resources/css/bootstrap.min.css",
}
POLYFILLS = Path(__file__).with_name("polyfills.js")
POLYFILLED = ("jquery.flot.orderBars.js", "stupidtable.min.js", "md5.min.js")
TAG = re.compile(r'<(?:script|link)\b[^>]*?(?:src|href)="(https?://[^"]+)"[^>]*>(?:</script>)?')


def fetch(vendor: Path) -> bool:
    """Install the packages into `vendor` unless they are there; whether they are."""
    if all((vendor / name).is_file() for name in FILES.values()):
        return True
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    pip += ["--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--upgrade", "--target", str(vendor), *PACKAGES], capture_output=True, text=True
    )
    return done.returncode == 0 and all((vendor / name).is_file() for name in FILES.values())


def drop_unmeasured(folder: Path) -> None:
    """Take benchmarks without any figure out of asv's page.

    It would ask for their graphs and not find them.
    """
    index = json.loads((folder / "index.json").read_text())
    measured = {
        path.name.removesuffix(".json") for path in (folder / "graphs" / "summary").glob("*.json")
    }
    index["benchmarks"] = {
        name: about for name, about in index["benchmarks"].items() if name in measured
    }
    (folder / "index.json").write_text(json.dumps(index))


def localize(page: Path, vendor: Path) -> list[str]:
    """Point asv's page at local copies; the addresses that it still needs."""
    folder = page.parent / "vendor"
    folder.mkdir(exist_ok=True)
    for name, source in FILES.items():
        shutil.copyfile(vendor / source, folder / name)
    shutil.copyfile(POLYFILLS, folder / POLYFILLS.name)
    left, polyfilled = [], False

    def local(match: re.Match) -> str:
        nonlocal polyfilled
        name = re.sub(r"jquery-[\d.]+\.min", "jquery.min", match[1].rsplit("/", 1)[-1])
        if name in POLYFILLED:
            tag = "" if polyfilled else f'<script src="vendor/{POLYFILLS.name}"></script>'
            polyfilled = True
            return tag
        if name.endswith(".css") and name in FILES:
            return f'<link rel="stylesheet" href="vendor/{name}">'
        if name in FILES:
            return f'<script src="vendor/{name}"></script>'
        left.append(match[1])
        return match[0]

    page.write_text(TAG.sub(local, page.read_text()))
    return left
