"""Mermaid from the built site itself: pages with a diagram load ``_static/vendor/mermaid.min.js``.

``sphinxcontrib.mermaid`` provides the directive. Its page script imports Mermaid as a module from a
content delivery network, and modules do not load from ``file://`` at all; so its script is left
out, and ``diagrams.js`` draws the diagrams, follows the page's colours, and adds zoom and full
screen.
"""

from __future__ import annotations

import json
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinxcontrib.mermaid import install_js, mermaid

from lucid.visual._colours import COLOURS

#: What colours of charts are on a dark page: those of lucid's diagrams, and the explorer's own.
DARK = {
    "#1a202c": "#e2e8f0",
    "#feebc8": "#42311f",
    "#c05621": "#f6ad55",
    "#b7791f": "#ecc94b",
    "#a67c00": "#ecc94b",
}
for colour in COLOURS.values():
    DARK |= {colour.fill: colour.dark_fill, colour.line: colour.dark_line}

SCRIPTS = ("vendor/mermaid.min.js", "diagrams.js")


def add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add the scripts to a page that has a diagram, or asks for them as the explorer does."""
    metadata = app.env.metadata.get(page, {})
    if "diagrams" in metadata or (doctree is not None and doctree.next_node(mermaid)):
        app.add_css_file("diagrams.css")
        app.add_js_file(None, body=f"window.LucidColours = {json.dumps(DARK)};")
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Replace the script of ``sphinxcontrib.mermaid``."""
    app.setup_extension("sphinxcontrib.mermaid")
    for listener in list(app.events.listeners["html-page-context"]):
        if listener.handler is install_js:
            app.disconnect(listener.id)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True}
