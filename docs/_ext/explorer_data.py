"""What the explorer page starts from: the models' configurations, as lucid has them, in JSON.

The data are written as a script that sets one variable, because a page opened from a disk may load
scripts but not read files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from lucid import models
from lucid.models import _config, configs

PREFIX = "mobilenet_v4_"
SCRIPTS = ("explorer/data.js", "explorer/model.js", "explorer/chart.js", "explorer/page.js")


def explorer_data() -> dict[str, Any]:
    """Return the variants' configurations, and the names that the page's checks speak of."""
    return {
        "variants": {
            name: getattr(configs, name.removeprefix(PREFIX))()
            for name in models.list_models(PREFIX)
        }
        | {name: configs.released(name) for name in configs.RELEASED},
        "stages": list(_config.STAGES),
        "activations": list(_config.ACTIVATIONS),
    }


def write_data(app: Sphinx) -> None:
    """Write ``data.js`` beside the page's other scripts."""
    folder = Path(app.outdir) / "_static" / "explorer"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(explorer_data(), separators=(",", ":"))
    (folder / "data.js").write_text(f"var LUCID_EXPLORER_DATA = {text};\n", encoding="utf-8")


def add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load the scripts on the page that says ``explorer`` in its metadata."""
    if "explorer" in app.env.metadata.get(page, {}):
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer", priority=600)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register both."""
    app.connect("builder-inited", write_data)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True}
