"""Sphinx's settings for the site; ``make site`` lays out the pages and builds them (docs/build.py)."""

import os
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.ext.napoleon.docstring import GoogleDocstring

os.environ.setdefault("MPLBACKEND", "Agg")

project = "MANet companion"
author = "The authors of the MANet companion"
copyright = "the authors of the MANet companion, MIT licence"
version = release = version_of("manet-companion")
root_doc = "README"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
templates_path = [str(Path(__file__).parent / "_templates")]  # autosummary would look beside the pages
suppress_warnings = ["myst.header"]  # a notebook may open with a second level

nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # tables are Markdown
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they would come from another host
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline", "attrs_block"]
myst_heading_anchors = 4
myst_links_external_new_tab = True

napoleon_use_ivar = True
autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "fully-qualified"
python_use_unqualified_type_names = True
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
add_module_names = False
viewcode_follow_imported_members = False

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["../.cache/site/pages/docs/_static"]
html_css_files = ["site.css"]
html_js_files = ["tables.js"]
html_copy_source = False
html_show_search_summary = False  # it is fetched, and pages opened as files may fetch nothing
html_context = {"default_mode": "auto"}
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the menu holds the search
    "navigation_with_keys": False,
}
mathjax_path = "tex-svg.js"  # version 4, and the files around this one, fetch fonts from another host


def _keeps_alternative_text() -> None:
    """Let pictures in notebooks keep the ``alt`` of their output, of which MyST-NB takes only the size."""
    plain = NbElementRenderer.render_image

    def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        pictures = plain(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        for picture in pictures if alt else []:
            picture["alt"] = alt
        return pictures

    NbElementRenderer.render_image = render_image


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    _keeps_alternative_text()
    # Napoleon takes what stands before a colon for the type of a field, but types stand in the annotations here.
    GoogleDocstring._consume_inline_attribute = lambda self: ("", self._dedent(self._consume_to_end()))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
