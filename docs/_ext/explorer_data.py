"""What the explorer page starts from: the models' configurations, as lucid has them, in JSON."""

from __future__ import annotations

from typing import Any

from page_scripts import add_page
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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the page."""
    return add_page(app, "explorer", SCRIPTS, "LUCID_EXPLORER_DATA", explorer_data)
