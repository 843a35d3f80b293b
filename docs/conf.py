"""How Sphinx builds the site: `python3 scripts/run.py docs`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ.setdefault("MPLBACKEND", "agg")

import api_pages  # noqa: E402

import nbbn  # noqa: E402

project = "nbbn"
author = "nbbn developers"
project_copyright = "nbbn developers"
version = release = nbbn.__version__

api_pages.write(HERE / "api")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "benchmark_pages",
    "docstrings",
    "mathml",
]
exclude_patterns = [
    "_build", "_ext", "**/sg_execution_times.rst", "gallery/**/*.ipynb", "gallery/**/*.py",
]  # fmt: skip
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"

# -- Markdown: links to headings of other pages, formulas between dollars

myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "fieldlist"]

# -- the reference: docstrings are numpydoc's, and `name` in them is code

nitpicky = True
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_use_plots = False
numpydoc_xref_param_type = False
copybutton_exclude = ".linenos, .gp, .go"

# -- the gallery: every program runs

warnings.filterwarnings("ignore", message="Matplotlib is currently using agg")
sphinx_gallery_conf = {
    "examples_dirs": ["../examples/gallery"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "abort_on_example_error": False,
    "only_warn_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 1000,
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib",),
    "parallel": 2,
}

# -- pages

html_theme = "pydata_sphinx_theme"
html_title = "nbbn"
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"faq": [], "changelog": [], "index": []}

# -- links: of other hosts only where somebody asks for it (`-b linkcheck`)

linkcheck_timeout = 10
linkcheck_retries = 1
suppress_warnings = ["config.cache"]  # the gallery's settings hold functions
# A pattern of a table of contents may match nothing: that warning has no name to suppress it by.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: "toctree glob pattern" not in str(record.msg)
)
