"""Settings of the documentation: ``sphinx-build -W docs docs/_build/html``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import lucid  # noqa: E402

project = "lucid"
author = "The lucid developers"
copyright = author
version = release = lucid.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
    "diagrams",
    "executed",
    "figures",
    "photographs",
    "mathml",
    "public_names",
    "explorer_data",
    "digits",
    "extras",
    "onnx_operators",
    "ported",
    "performance",
    "command_line",
    "source_pages",
    "many_machines",
    "titles",
    "torch_names",
    "lucid.visual.sphinx",
]
exclude_patterns = ["_build", "_static", "_templates", "drawings"]
exclude_patterns += ["vendor/*.gz", "vendor/*.mjs"]  # of _static: digits/data.js holds them

# Prose is Markdown, pages about code are reStructuredText.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False  # a layer's forward is described by its class
autodoc_type_aliases = {"DTypeLike": "DTypeLike"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
toc_object_entries_show_parents = "hide"

rst_epilog = """
.. |convnet-badge| raw:: html

    <span class="badge badge-convnet">ConvNet</span>

.. |attention-badge| raw:: html

    <span class="badge badge-attention">Attention</span>
"""

html_theme = "furo"
html_math_renderer = "mathml"
html_title = "lucid"
html_static_path = ["_static"]
html_css_files = ["lucid.css"]
html_js_files = ["offline.js"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2b5fa8", "color-brand-content": "#2b5fa8"},
    "dark_css_variables": {"color-brand-primary": "#8ab8f5", "color-brand-content": "#8ab8f5"},
    "navigation_with_keys": True,
}
copybutton_exclude = ".linenos, .gp, .go"
