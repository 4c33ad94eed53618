"""Pages with scripts of their own, and with data that are computed while the site is built.

The data are a script that sets one variable, because a page opened from a disk may load scripts but
not read files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def add_page(
    app: Sphinx, word: str, scripts: Sequence[str], variable: str, data: Callable[[], Any]
) -> dict[str, Any]:
    """Write ``WORD/data.js``, and load the scripts on the page that says the word in its metadata.

    Args:
        app: the site.
        word: what the page says, and the folder of its scripts.
        scripts: their paths, from ``_static`` on.
        variable: what the data are called.
        data: returns them, as JSON can say them.

    Returns:
        What an extension tells of itself.
    """

    def write(app: Sphinx) -> None:
        folder = Path(app.outdir) / "_static" / word
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(data(), separators=(",", ":"))
        (folder / "data.js").write_text(f"var {variable} = {text};\n", encoding="utf-8")

    def load(
        app: Sphinx,
        page: str,
        template: str,
        context: dict[str, Any],
        doctree: nodes.document | None,
    ) -> None:
        if word in app.env.metadata.get(page, {}):
            for script in scripts:
                app.add_js_file(script, loading_method="defer", priority=600)

    app.connect("builder-inited", write)
    app.connect("html-page-context", load)
    return {"parallel_read_safe": True}
