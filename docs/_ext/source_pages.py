"""The pages of source code, less their links back.

``sphinx.ext.viewcode`` computes those from where a name is defined, and leads astray when the name
is documented where it is re-exported.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

BACK = re.compile(r'<a class="viewcode-back"[^>]*>\[docs\]</a>')


def remove_links(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Take the links out of a page of source code."""
    if page.startswith("_modules/") and "body" in context:
        context["body"] = BACK.sub("", context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the change."""
    app.setup_extension("sphinx.ext.viewcode")
    app.connect("html-page-context", remove_links)
    return {"parallel_read_safe": True}
